"""A file that was not written whole never gets its name, and nothing old lies beside a new one."""

from __future__ import annotations

import resource
import shutil
import signal

import numpy as np
import pytest
import rasterio
from conftest import random_values

import crossband
from crossband.cli.main import main
from crossband.errors import CrossbandWarning, FinishError, OutputError
from crossband.raster import verify as readback
from crossband.raster.encoding import Encoding
from crossband.raster.output import OutputFile


def stored(height, width):
    """Reflectance x 10,000."""
    return (random_values(3, height, width) * 1e4).astype(np.uint16)


@pytest.fixture
def limited(monkeypatch):
    """Return a function: run the command; files may have so many bytes when they are made."""
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    make = OutputFile.make

    def run(size, *words):
        def within(*arguments):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, most[1]))
            try:
                return make(*arguments)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, most)

        monkeypatch.setattr(OutputFile, "make", within)
        return main(["translate", *map(str, words)])

    yield run
    signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("compress", ["none", "deflate", "zstd"])
def test_a_disk_that_fills_up_while_the_file_is_made(
    compress, make_raster, tiny_model, tmp_path, limited, capsys
):
    """Wherever it stops: one line, no file, and the windows are kept for the same command."""
    source = make_raster(values=stored(300, 300), scale=1e-4)
    folder = tmp_path / "out"
    final, words = folder / "nir.tif", [source, "--model", tiny_model, "--quiet"]
    words += ["--compress", compress, "--blocksize", 128, "-o", folder / "nir.tif"]
    assert limited(resource.RLIM_INFINITY, *words) == 0
    whole, size = final.read_bytes(), final.stat().st_size
    for less in (1, 200, 3000, 15_000, size // 2, size - 100):
        shutil.rmtree(folder)
        capsys.readouterr()
        assert limited(size - less, *words) == 2, less
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "nir.tif: cannot be written" in line
        assert "the same command with --resume makes the file" in line
        assert [p.name for p in folder.iterdir()] == [".nir.tif.crossband"]
    assert limited(resource.RLIM_INFINITY, *words, "--resume") == 0
    assert final.read_bytes() == whole
    assert [p.name for p in folder.iterdir()] == ["nir.tif"]


@pytest.mark.parametrize("name", ["nir.tif", "nir.png"])
def test_what_reads_back_otherwise_is_not_placed(
    name, make_raster, tiny_model, tmp_path, monkeypatch
):
    mask = np.ones((90, 70), bool)
    mask[:20, :30] = False
    source = make_raster(values=stored(90, 70), mask=mask, scale=1e-4)
    model, out = crossband.load(tiny_model), tmp_path / "out" / name
    whole = readback.check_whole

    def spoil(place):
        def check(source, final, *, masked):
            with rasterio.open(final) as d:
                profile, numbers, seen = d.profile, d.read(), d.dataset_mask()
                alpha = d.count > 1
            if place == "number":
                numbers[0, 50, 40] += 1
            elif alpha:
                numbers[1, 50, 40] = 0
            else:
                seen[50, 40] = 0
            profile["driver"] = "PNG" if alpha else "GTiff"
            with (
                rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
                rasterio.open(final, "w", **profile) as d,
            ):
                d.write(numbers)
                if not alpha:
                    d.write_mask(seen)
            whole(source, final, masked=masked)

        return check

    for place in ("number", "mask"):
        monkeypatch.setattr("crossband.raster.output.check_whole", spoil(place))
        with pytest.raises(FinishError, match="reads back as something else"):
            model.translate(source, out)
        assert not out.exists()
    monkeypatch.setattr("crossband.raster.output.check_whole", whole)
    assert model.translate(source, out, resume=True).exists()


def test_nothing_that_lay_beside_an_earlier_file_speaks_for_a_new_one(
    make_raster, tiny_model, tmp_path
):
    model, out = crossband.load(tiny_model), tmp_path / "nir.tif"
    beside = [out.with_name(out.name + e) for e in (".aux.xml", ".msk", ".ovr")]
    for path in beside:
        path.write_text("of another file")
    model.translate(make_raster(), out, overwrite=True)
    assert not [p for p in beside if p.exists()]
    picture = tmp_path / "nir.png"
    model.translate(make_raster(values=stored(40, 50), scale=1e-4), picture)
    assert picture.with_name("nir.png.aux.xml").exists()
    bare = make_raster("bare.png", values=(random_values(3, 40, 50) * 255).astype(np.uint8))
    bands = {"red": 1, "green": 2, "blue": 3}
    model.translate(bare, picture, overwrite=True, bands=bands, sensor="display")
    with rasterio.open(picture) as d:
        assert d.crs is None
        assert d.transform.is_identity


def test_free_disk_is_reckoned_with_overviews_that_are_made_apart(make_raster, tmp_path):
    """Two thirds more than the numbers; whole blocks without compression; LZW grows on noise."""
    from crossband.raster.cog import Cog
    from crossband.raster.grid import Grid

    def most(compress, side=1024):
        grid = Grid(side, side)
        return OutputFile(tmp_path / "x.tif", grid, ("nir",), "reflectance", Encoding("uint16"), {},
                      Cog(compress)).most_bytes()  # fmt: skip

    assert most("deflate") == 1024 * 1024 * 2 * 5 // 3
    assert most("lzw") == int(1024 * 1024 * 2 * 1.5) * 5 // 3
    assert most("none", 10) == 512 * 512 * 2 * 5 // 3
    assert most("deflate", 10) == 200 * 5 // 3


@pytest.mark.parametrize(
    ("dtype", "options", "words"),
    [
        ("float32", {"nodata": 1e39}, "float32 holds numbers up to 3.40282e"),
        ("float32", {"nodata": -1e308}, "float32 holds numbers up to 3.40282e"),
        ("int64", {"nodata": 2.0**63, "scale": 1e-3}, "int64 holds whole numbers"),
        ("int16", {"scale": 1e-3, "offset": float("nan")}, "--out-offset nan"),
        ("int16", {"scale": 1e-3, "offset": float("inf")}, "--out-offset inf"),
    ],
)
def test_numbers_that_no_file_holds_are_refused(
    dtype, options, words, make_raster, tiny_model, tmp_path
):
    given = {"nodata": options.pop("nodata", None), **{f"out_{k}": v for k, v in options.items()}}
    with pytest.raises(OutputError, match=words):
        crossband.load(tiny_model).translate(
            make_raster(), tmp_path / "n.tif", dtype=dtype, **given
        )
    assert not (tmp_path / "n.tif").exists()


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("float32", -3.4e38), ("int64", -(2.0**63)), ("uint64", 2.0**63), ("float64", -1e300)],
)
def test_nodata_is_in_the_file_and_masks_it(dtype, nodata, make_raster, tiny_model, tmp_path):
    mask = np.ones((40, 50), bool)
    mask[:10, :10] = False
    options = {} if dtype.startswith("float") else {"out_scale": 1e-4}
    out = crossband.load(tiny_model).translate(
        make_raster(mask=mask), tmp_path / "n.tif", dtype=dtype, nodata=nodata, **options
    )
    assert not out.with_name("n.tif.aux.xml").exists()
    with rasterio.open(out) as d:
        assert d.nodata == pytest.approx(nodata, rel=1e-7)
        assert (d.dataset_mask() > 0).tolist() == mask.tolist()


@pytest.mark.parametrize(
    ("dtype", "scale", "nodata", "value"),
    [
        ("uint64", 1e-20, 2.0**63, 2.0**63 * 1e-20),  # the next number is 2048 away
        ("int64", 1.0, -(2.0**63), -1e30),  # clipped to the least number
        ("float32", 0.3, float(np.float32(1 / 3)), 0.1),  # equal when it is rounded to float32
        ("float32", 1.0, float(np.finfo("f4").max), float(np.finfo("f4").max)),
    ],
)
def test_a_valid_value_is_not_stored_as_nodata(dtype, scale, nodata, value):
    values = np.full((1, 1, 2), value, np.float32)
    stored = Encoding(dtype, scale, nodata=nodata).encode(values, np.array([[True, False]]))
    assert stored[0, 0, 1] == nodata
    assert stored[0, 0, 0] != nodata
    assert float(stored[0, 0, 0]) == pytest.approx(nodata, rel=2e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("nodata", [2.0, -0.25, 0.0, 1e-30])
def test_gdal_takes_no_valid_value_for_nodata(dtype, nodata, tmp_path):
    mark = np.dtype(dtype).type(nodata)
    beside = mark + abs(mark) * np.array([0, 1e-7, -1e-7, 4e-7, -4e-7, 6e-7, -6e-7, 1])
    values = np.append(beside, np.nextafter(mark, mark - 1)).astype("f4")[None, None]
    mask = np.ones(values.shape[1:], bool)
    mask[0, -2] = False
    stored = Encoding(dtype, nodata=nodata).encode(values, mask)
    profile = {"driver": "GTiff", "count": 1, "height": 1, "width": mask.size, "dtype": dtype}
    with rasterio.open(tmp_path / "a.tif", "w", nodata=nodata, **profile) as file:
        file.write(stored)
    with rasterio.open(tmp_path / "a.tif") as file:
        assert ((file.read_masks(1) > 0) == mask).all()


def test_integers_of_64_bits_do_not_wrap_round():
    values = np.array([[[0.5, 0.0]]], np.float32)
    stored = Encoding("int64", 1e-25).encode(values, np.ones((1, 2), bool))
    assert stored[0, 0, 0] > 2**62


def test_what_the_data_type_cuts_off_is_said(make_raster, tiny_model, tmp_path):
    low = np.full((3, 40, 50), 100, np.uint8)
    source = make_raster(values=low, scale=0.001)
    model = crossband.load(tiny_model)
    with pytest.warns(CrossbandWarning, match=r"were cut to 0\.\.0\.255, all that uint8 holds"):
        out = model.translate(source, tmp_path / "n.tif")
    with rasterio.open(out) as d:
        share = np.mean(d.read() == 255)
    assert share > 0.5
    fine = Encoding("uint8", 0.001)
    values = np.array([[[0.2554, 0.2556, -0.0004, -0.0006, np.float32(9)]]], np.float32)
    assert fine.beyond(values, np.array([[True, True, True, True, False]])) == 2
    assert Encoding("float32").beyond(values, np.ones((1, 5), bool)) == 0
