"""The cases of `compare_commits.py` that are command lines.

The working folder is that of the inputs (`compare_inputs.py`); `$out` is the case's own. A line
that is indented more than the first goes on with the one before it. What stands below `---` is the
second half, which the other commit may do.
"""

from __future__ import annotations

from compare_run import add

S2, NIR = "--sensor sentinel-2-l2a-no-offset", "-o $out/nir.tif"

add(
    "scenes",
    {
        "uint8 in strips, naip": f"translate u8.tif {NIR} --sensor naip",
        "uint8, display": f"translate u8.tif {NIR} --sensor display --bands red=1,green=2,blue=3",
        "uint16 in tiles, nodata": f"translate s2.tif {NIR} {S2}",
        "uint16, big-endian": f"translate big-endian.tif {NIR} {S2}",
        "int16, nodata": f"translate i16.tif {NIR} --sensor hls",
        "float32 with NaN": f"translate f32.tif {NIR} --sensor reflectance",
        "float64 with NaN": f"translate f64.tif {NIR} --sensor reflectance",
        "scale and offset of the file": f"translate scaled.tif {NIR}",
        "scale and offset by option": f"""
            translate plain16.tif {NIR} --sensor reflectance --bands red=3,green=2,blue=1
                --scale 0.0001 --offset -0.1""",
        "twelve bands": f"translate bands12.tif {NIR} {S2}",
        "COG with overviews": f"translate large.tif {NIR} {S2} --index NDWI",
        "VRT of mixed data types": f"""
            translate mixed.vrt {NIR} --sensor reflectance --scale 0.0001 --offset 0""",
        "VRT of several nodata": f"""
            translate nodatas.vrt {NIR} --sensor reflectance --scale 0.0001 --offset 0""",
        "PNG to PNG": "translate picture.png -o $out/nir.png --sensor display",
        "PNG to GeoTIFF": f"translate picture.png {NIR} --sensor display",
        "PNG of 16 bits": """
            translate picture16.png -o $out/nir.png --sensor display --bands red=1,green=2,blue=3
            translate picture16.png -o $out/nir.tif --sensor display --bands red=1,green=2,blue=3
            """,
        "JPEG with a world file": f"translate picture.jpg {NIR} --sensor display",
        "internal mask": f"translate mask.tif {NIR} {S2}",
        "alpha": f"translate alpha.tif {NIR} --sensor display",
        "alpha, PNG to PNG": "translate alpha.png -o $out/nir.png --sensor display",
        "all masked": f"translate masked.tif {NIR} {S2}",
        "rotated": f"translate rotated.tif {NIR} {S2}",
        "south up, oblong pixels": f"translate south-up.tif {NIR} {S2}",
        "geographic": f"translate geographic.tif {NIR} {S2}",
        "CRS without a code": f"translate own-crs.tif {NIR} {S2}",
        "no georeference": f"translate nowhere.tif {NIR} {S2}",
        "control points": f"translate gcps.tif {NIR} {S2}",
        "one pixel wide, one high": f"""
            translate column.tif {NIR} {S2}
            translate row.tif -o $out/row.tif {S2}
            """,
        "tiny": f"translate tiny.tif {NIR} {S2}",
        "--dtype float32": f"translate s2.tif {NIR} {S2} --dtype float32",
        "--dtype int16 --out-scale": f"""
            translate f32.tif {NIR} --sensor reflectance --dtype int16 --out-scale 0.0002
                --out-offset 0.1 --nodata -32768""",
        "--dtype uint8, values cut off": f"""
            translate s2.tif {NIR} {S2} --dtype uint8 --out-scale 0.001""",
        "--nodata": f"translate mask.tif {NIR} {S2} --nodata 65535",
        "--compress --blocksize": f"""
            translate large.tif {NIR} {S2} --compress zstd --blocksize 128
            translate s2.tif -o $out/lzw.tif {S2} --compress lzw
            translate s2.tif -o $out/none.tif {S2} --compress none
            """,
        "--index, twice": f"translate s2.tif {NIR} {S2} --index NDVI --index EVI",
        "--tile --batch": f"translate large.tif {NIR} {S2} --tile 256 --batch 3",
        "--resume of nothing": f"translate s2.tif {NIR} {S2} --resume",
        "--precision fp32 --whole": f"translate s2.tif {NIR} {S2} --precision fp32 --whole",
        "--overwrite": f"""
            translate s2.tif {NIR} {S2}
            translate i16.tif {NIR} --sensor hls --overwrite
            """,
        "super-resolution x2": f"""
            translate s2.tif -o $out/fine.tif {S2} --model super-resolution-x2
            translate gcps.tif -o $out/gcps.tif {S2} --model super-resolution-x2
            """,
        "super-resolution x4 of a PNG": """
            translate picture.png -o $out/fine.png --sensor display --model super-resolution-x4""",
        "sar2optical": """
            translate radar.tif -o $out/rgb.tif --sensor sentinel-1-grd-db --model sar2optical""",
        "Sentinel-2 L2A": f"translate s2a/$s2a {NIR} --index NDVI",
        "Sentinel-2 L2A, super-resolution": """
            translate s2a/$s2a -o $out/fine.tif --model super-resolution-x2""",
        "Sentinel-2 L1C": f"translate s1c/$s1c {NIR} --dtype float32",
        "Sentinel-2 before 04.00": f"translate early/$early {NIR}",
        "Sentinel-2 as a zip": f"translate zip/$zip {NIR} --bands red=B05",
        "Landsat level 2": f"translate landsat/$landsat {NIR}",
        "Landsat level 1, JSON": f"translate landsat1/$landsat1 {NIR}",
        "Sentinel-1 GRD": "translate s1/$s1 -o $out/rgb.tif --model sar2optical",
        "STAC item 1.0, 1.1, of a collection": f"""
            translate stac/item.json {NIR}
            translate stac/newer.json -o $out/newer.tif --sensor sentinel-2-l2a
            translate stac/items.json#item2 -o $out/one.tif
            """,
        "folder of files of one band": f"""
            translate one {NIR} --bands red=red.tif,green=gr*.tif,blue=blue.tif {S2}""",
    },
)

#: Bad input: what is said, and the exit code.
BAD = {
    "missing file": "translate gone.tif",
    "no image": "translate text.tif",
    "truncated file": f"translate truncated.tif {S2}",
    "complex numbers": "translate complex.tif --sensor reflectance",
    "unnamed bands": f"translate unnamed.tif {S2}",
    "a band that is not there": "translate s2.tif --bands red=9,green=2,blue=1 --sensor hls",
    "bands written wrongly": "translate s2.tif --bands red:3",
    "bands that nothing names": "translate s2.tif",
    "unknown unit": "translate f32.tif",
    "a unit that the model does not take": "translate f32.tif --sensor thermal-kelvin "
    "--bands red=3,green=2,blue=1",
    "unknown sensor": "translate s2.tif --sensor sentinel-3",
    "scale without offset": "translate scaled.tif --scale 0.5",
    "unknown model": "translate s2.tif --model rgb2nri",
    "unknown index": f"translate s2.tif {S2} --index NVDI",
    "an index that needs other bands": "translate u8.tif --sensor naip --index NDMI",
    "unknown option": "translate s2.tif --sensr naip",
    "bad value": "translate s2.tif --tile many",
    "bad tile": f"translate s2.tif {S2} --tile 0",
    "bad data type": f"translate s2.tif {S2} --dtype complex64",
    "integer without a scale": "translate f32.tif --sensor reflectance --dtype int16",
    "bad compression": f"translate s2.tif {S2} --compress jpeg2000",
    "nodata out of range": f"translate s2.tif {S2} --nodata -1",
    "output of no known kind": f"translate s2.tif {S2} -o $out/nir.bmp",
    "output is the input": f"translate s2.tif {S2} -o s2.tif --overwrite",
    "device that is not there": f"translate s2.tif {S2} --device tpu",
    "--engine without a scheduler": f"translate s2.tif {S2} --engine dask",
    "unknown engine": f"translate s2.tif {S2} --engine spark",
    "--shard of one scene": f"translate s2.tif {S2} --shard 1/2",
    "bad shard": f"translate fleet/scenes.txt {S2} -o $out/ --shard 4/3",
    "two scenes of one name": f"translate fleet/a.tif fleet/b.tif {S2} -o $out/ --name x.tif",
    "empty pattern": "translate 'fleet/*.jp2' -o $out/",
    "a manifest column of no known value": "evaluate --model rgb2nir --manifest pairs/bad.csv "
    "-o $out/report",
    "a manifest without target": "evaluate --model rgb2nir --manifest pairs/no-target.csv "
    "-o $out/report",
    "unknown split": "evaluate --model rgb2nir --manifest pairs/pairs.csv --split tset "
    "-o $out/report",
    "unknown recipe": "fit rgb2nir/local-unett --data.manifest pairs/pairs.csv -o $out/run",
    "bad recipe option": "fit rgb2nir/mlp --data.manifest pairs/pairs.csv --data.batsh 3 "
    "-o $out/run",
    "bad recipe value": "fit rgb2nir/mlp --data.manifest pairs/pairs.csv --data.batch many "
    "-o $out/run",
    "unknown layout": "data index sen21 datasets -o $out/pairs.csv",
    "layout without its option": "data index folders datasets/folders -o $out/pairs.csv",
    "layout of an empty folder": "data index llvip one -o $out/pairs.csv",
    "series without dates": "series s2.tif -o $out/series",
    "blend of two architectures": "blend rgb2nir sar2optical -o $out/both",
    "import of no checkpoint": "import text.tif -o $out/model --task x --source-bands red "
    "--target-bands nir --unit display",
    "unknown command": "translat s2.tif",
    "--version": "--version",
}
add(
    "errors",
    {
        f"bad: {name}": line
        if "-o " in line or not line.startswith("translate")
        else f"{line} {NIR}"
        for name, line in BAD.items()
    }
    | {"bad: output exists": f"translate s2.tif {NIR} {S2}\ntranslate s2.tif {NIR} {S2}"},
)

add(
    "many",
    {
        "fleet: pattern with a broken file": f"""
            translate 'fleet/*.tif' -o $out/ {S2} --index NDVI
            translate 'fleet/*.tif' -o $out/ {S2} --index NDVI
            """,
        "fleet: list, names": f"""
            translate fleet/scenes.txt -o $out/ {S2} --name '{{parent}}/{{number}}_{{model}}.tif'
            """,
        "fleet: manifest with windows, shards": """
            translate fleet/scenes.csv -o $out/ --shard 1/2
            ---
            translate fleet/scenes.csv -o $out/ --shard 2/2
            translate fleet/scenes.parquet -o $out/
            """,
        "fleet: STAC collection, quiet": "translate stac/items.json -o $out/ --quiet",
        "series: places": """
            series 'series/*.tif' -o $out/series --date-pattern %Y%m%d --places
                series/places.geojson --index NDVI --index EVI --compare""",
        "series: all pixels, no scenes kept": """
            series 'series/*.tif' -o $out/series --date-pattern %Y%m%d --no-scenes --align
                reference.tif""",
        "series: stack": "series series/cube.nc -o $out/series --compare",
        "series: begun, more scenes added": """
            series series/s2_20240501.tif series/s2_20240521.tif -o $out/s --date-pattern %Y%m%d
            ---
            series 'series/*.tif' -o $out/s --date-pattern %Y%m%d --overwrite
            """,
    },
)

#: Layout -> its options, for the trees that the tests write.
LAYOUTS = {
    "folders": "--target nir",
    "sen12ms": "",
    "sen12": "",
    "flir-adas-v2": "--part videos",
    "div2k": "--scale 2",
    "geotiff": "--sensor sentinel-2-l2a-no-offset",
    "stac": "--sensor sentinel-2-l2a",
    "s2-100k": "--sensor sentinel-2-l2a --min-bytes 0",
    "sen2naip": "",
    "worldstrat": "",
    "landsat8": "--vrt-dir $out/vrt",
    "spot6": "--bands blue=1,green=2,red=3,nir=4",
    **dict.fromkeys(("msrs", "roadscene", "llvip", "m3fd", "kaist", "vifb"), ""),
}
add(
    "data",
    {
        f"data index: {name}": f"data index {name} datasets/{name} -o $out/pairs.csv {options}"
        for name, options in LAYOUTS.items()
    }
    | {
        "data index: parquet, geotiff": """
            data index geotiff datasets/geotiff -o $out/pairs.parquet
                --sensor sentinel-2-l2a""",
        "data check: good": """
            data check pairs/pairs.csv --workers 1 -o $out/check.html --json $out/check.json""",
        "data check: faults": """
            data check pairs/faults.csv --workers 1 -o $out/check.html --json $out/check.json
                --fix $out/kept.csv
            data check pairs/faults.csv --workers 1 --quiet --ignore bands-swapped
            """,
        "data split": """
            data split pairs/unsplit.csv -o $out/split.csv --val 0.25 --test 0.25
            data split pairs/unsplit.csv -o $out/other.csv --stratify terrain --seed 3
            data split pairs/unsplit.csv -o $out/by.parquet --by terrain --test 0.5 --val 0
            """,
        "data degrade": f"""
            data degrade s2.tif --reference reference.tif {S2} -o $out/pairs
                --reference-sensor sentinel-2-l2a-no-offset
            data degrade i16.tif --sensor hls --reference reference.tif -o $out/pairs --match
                linear --degradation Bicubic --reference-sensor sentinel-2-l2a-no-offset
            """,
        "data pack": """
            data pack pairs/pairs.csv -o $out/packed --block 32
            fit rgb2nir/linear --data.manifest $out/packed -o $out/run --trainer.logger=csv
            """,
        "evaluate: model": """
            evaluate --model rgb2nir --manifest pairs/pairs.csv -o $out/report --by terrain
                --index NDVI --pictures 2""",
        "evaluate: two models, predictions": """
            blend rgb2nir rgb2nir -o $out/same
            translate pairs/pairs.csv -o $out/theirs --model rgb2nir --name '{stem}.tif' --quiet
            evaluate --model rgb2nir --model $out/same --predictions $out/theirs --manifest
                pairs/pairs.csv --split test -o $out/report --pictures 1 --workers 1""",
        "evaluate: radar": """
            evaluate --model sar2optical --manifest pairs/radar.csv -o $out/report --pictures 0""",
        "blend": """
            blend rgb2nir rgb2nir --weight 0.3 -o $out/both
            translate s2.tif -o $out/nir.tif --model $out/both --sensor sentinel-2-l2a-no-offset
            """,
        "models, one card, sensors": """
            models
            models super-resolution-x2
            sensors
            data index --help
            """,
        "models --recipes": "models --recipes",
        "demo": "demo --out $out/demo",
    },
)
