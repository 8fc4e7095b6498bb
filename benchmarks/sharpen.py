"""The 20 m bands of Sentinel-2 at 10 m: the error at reduced scale, beside simpler ways.

    python benchmarks/sharpen.py train [--fold 0]             fit the recipe without one inner fold
    python benchmarks/sharpen.py table [--fold 0] [--json FILE]

Wald's protocol: all bands are made twice as coarse, so the measured 20 m bands are the truth. The
rows are the test rows of an inner fold of the manifest `sharpen` (`manifests.py write`); the vault
stays closed. Errors are means over places of the root mean square error, in reflectance times
10,000, as Lanaras et al. 2018 (DSen2) report them.

- bicubic: the coarse band enlarged by cubic convolution;
- high-pass: what the mean of the 10 m bands lost by the same blur, added by its regression on the
  band at the coarse pixels (Aiazzi et al. 2006);
- per pixel: that regression from all four 10 m bands, its difference enlarged.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import vault
from affine import Affine
from numpy.typing import NDArray
from project import ROOT, crossband

from crossband import Model, load
from crossband.raster.bands import parse_bands
from crossband.raster.grid import Box, Grid, Window
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions
from crossband.raster.point_spread import read_as_seen
from crossband.raster.warp import WindowRaster, read_averaged, read_warped

FOLDS = ROOT / "runs" / "folds" / "sharpen"
Floats = NDArray[np.float32]


def manifest(fold: int) -> Path:
    """Write the manifest whose test rows are a fold; return its path."""
    table = vault.read("sharpen")
    table["split"] = np.where(vault.inner_folds(table, 4) == fold, "test", "train")
    FOLDS.mkdir(parents=True, exist_ok=True)
    path = FOLDS / f"fold-{fold}.csv"
    table.to_csv(path, index=False)
    return path


def halved(row: Mapping[Hashable, Any]) -> Window:
    """Read all ten bands of a place, made twice as coarse."""
    bands = parse_bands(f"{row['source_bands']},{row['target_bands']}")
    read = ReadOptions(bands, row["sensor"], window=Box.parse(row["source_window"]))
    with open_scene(row["source"], read, needed=list(bands)) as scene:
        window = scene.read()
    crs, place = rasterio.CRS.from_epsg(32633), Affine(10.0, 0, 5e5, 0, -10.0, 5e6)
    grid = Grid(window.grid.height, window.grid.width, place, crs)
    fine = Window(window.values, window.mask, grid, window.bands, window.unit)
    return read_averaged(WindowRaster(fine), grid.shrink(2))


def simple(source: Floats, low: Floats, coarse: Floats, enlarged: Floats) -> dict[str, Floats]:
    """Return the ways without a network.

    Args:
        source: 10 m bands [S, H, W].
        low: the same as the coarse pixels see them, [S, h, w].
        coarse: 20 m bands [T, h, w].
        enlarged: coarse and low, enlarged: [T + S, H, W].
    """
    out = {"bicubic": enlarged[: len(coarse)]}
    for name, one in (("high-pass", True), ("per pixel", False)):
        x, fine = (v.mean(axis=0)[None] if one else v for v in (low, source))
        blurred = enlarged[len(coarse) :]
        blurred = blurred.mean(axis=0)[None] if one else blurred
        flat = np.vstack([x.reshape(len(x), -1), np.ones((1, x[0].size))])
        weights = np.linalg.lstsq(flat.T, coarse.reshape(len(coarse), -1).T, rcond=None)[0]
        detail = np.tensordot(weights[:-1].T, fine - blurred, axes=1)
        out[name] = enlarged[: len(coarse)] + detail.astype(np.float32)
    return out


def write(path: Path, values: Floats, grid: Grid, bands: list[str]) -> Path:
    """Write bands as a GeoTIFF in reflectance."""
    shape = {"count": len(values), "height": grid.height, "width": grid.width}
    place = {"crs": grid.crs, "transform": grid.transform}
    with rasterio.open(path, "w", driver="GTiff", dtype="float32", **shape, **place) as out:
        out.write(values)
        out.descriptions, out.units = bands, ("reflectance",) * len(bands)
    return path


def judge(model: Model, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the errors at each place and band, for each way: `rmse` and `mae`, in reflectance."""
    names = model.signature.source, model.signature.target
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for row in rows.astype(object).where(rows.notna(), "").astype(str).to_dict("records"):
            true = halved(row)
            target = true.values[[true.bands.index(n) for n in names[1]]]
            made, valid = ways(model, true, Path(folder))
            for way, values in made.items():
                wrong = (values - target)[:, valid]
                rmse, mae = np.sqrt((wrong**2).mean(axis=1)), np.abs(wrong).mean(axis=1)
                place = {key: row[key] for key in ("region", "group", "family")}
                place |= {"unit": true.unit, "by": way, "n_valid": int(valid.sum())}
                found += [
                    place | {"band": band, "rmse": rmse[n], "mae": mae[n]}
                    for n, band in enumerate(names[1])
                ]
    return pd.DataFrame(found)


def ways(model: Model, true: Window, folder: Path) -> tuple[dict[str, Floats], NDArray[np.bool_]]:
    """Return the target bands of a place as each way makes them, and where they are valid."""
    names = model.signature.source, model.signature.target
    seen = read_as_seen(WindowRaster(true), true.grid.shrink(2), 2)
    source = true.values[[true.bands.index(n) for n in names[0]]]
    low, coarse = (seen.values[[seen.bands.index(n) for n in group]] for group in names)
    order = (*names[1], *names[0])
    both = Window(np.concatenate([coarse, low]), seen.mask, seen.grid, order, seen.unit)
    enlarged = read_warped(WindowRaster(both), true.grid)
    out = simple(source, low, coarse, enlarged.values)
    made = model.translate(
        write(folder / "source.tif", source, true.grid, names[0]),
        folder / "out.tif",
        guide=write(folder / "guide.tif", coarse, seen.grid, names[1]),
        overwrite=True,
        dtype="float32",
    )
    with rasterio.open(made) as file:
        out["model"] = file.read()
    return out, true.mask & enlarged.mask


def band_table(found: pd.DataFrame) -> str:
    """Return the mean over places of the root mean square error of each band, as Markdown."""
    bands = list(dict.fromkeys(found["band"]))
    wide = found.pivot_table(index="by", columns="band", values="rmse", sort=False)[bands]
    each = found.pivot(index=["group", "band"], columns="by", values="rmse")
    lines = ["| | " + " | ".join(bands) + " | of bicubic |", "|---" * (len(bands) + 2) + "|"]
    for way in wide.index:
        ratio = np.exp(np.log(each[way] / each["bicubic"]).mean())
        cells = " | ".join(f"{1e4 * value:.1f}" for value in wide.loc[way])
        lines.append(f"| {way} | {cells} | {ratio:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Train, or print the table."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("train", "table"))
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the numbers to FILE")
    a, more = parser.parse_known_args()
    path, run = manifest(a.fold), FOLDS / f"fold-{a.fold}"
    if a.what == "train":
        begun = (run / "checkpoints" / "last.ckpt").is_file()
        crossband("fit", "super-resolution/sharpen", "--data.manifest", path, "-o", run,
                  "--resume" if begun else "--overwrite", *more)  # fmt: skip
        return
    table = vault.read("sharpen")
    found = judge(load(run / "model"), table[vault.inner_folds(table, 4) == a.fold])
    places = found["group"].nunique()
    print(f"{places} places of inner fold {a.fold}, RMSE in reflectance times 10,000\n")
    print(band_table(found))
    if a.json:
        a.json.write_text(found.to_json(orient="records") + "\n")


if __name__ == "__main__":
    main()
