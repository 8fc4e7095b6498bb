"""The pairs of a task, split by region: the same for systems.py and for reference.py.

They are those of `manifests.py` outside of the vault, in physical units; RoadScene for colour to
thermal. Regions are dealt out in four folds: the places of that with the fewest files are judged
(`test`), at most PLACES of the next give the curve (`val`), all others are trained on.
"""

from __future__ import annotations

import fcntl
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
import vault

from crossband.data.layouts import build_manifest
from crossband.data.layouts.visible_thermal import RoadScene
from crossband.data.pack import pack
from crossband.raster.gdal import gdal

#: Places that give the curve.
PLACES = 24
#: Pixels of a side of what is judged of a place, at most.
SIDE = 256
#: Frames of a drive that lie between two parts of it.
GAP = 100
#: Columns of tiles of a scene of radar pictures: the first are trained on, the last are judged, and
#: the one between them is left out.
TRAINED, APART = 5, 1
#: Pixels of a side of a pack's blocks: a chip's.
BLOCK = 64


def pairs(task: str, data: Path, *, located: bool = False, own: bool = False) -> pd.DataFrame:
    """Return the manifest of a task, with a split that cuts no region.

    Args:
        task: rgb2nir, sar2optical, rgb2thermal or super-resolution.
        data: the folder of the shared images.
        located: only places whose coordinates are known.
        own: RoadScene's own split instead.
    """
    if task == "rgb2thermal":
        return roadscene(data, own=own)
    table = vault.read(task)
    # Reflectance and decibels: units are never averaged together.
    table = table[~table["sensor"].isin(["display", "naip"])].reset_index(drop=True)
    if located:
        table = table[table["lon"].notna()].reset_index(drop=True)
    if task == "super-resolution":
        table = table.assign(degradation="Bicubic")
    folds = vault.inner_folds(table, 4)
    fewest = folds.value_counts(ascending=True).sort_index().sort_values(kind="stable").index
    table["split"] = folds.map({fewest[0]: "test", fewest[1]: "val"}).fillna("train")
    first = ~table.duplicated("group")  # of a place with many dates one is judged
    table = table[(table["split"] == "train") | first].reset_index(drop=True)
    seen = table["group"][table["split"] == "val"].drop_duplicates()
    seen = seen.iloc[:: -(-len(seen) // PLACES)]  # of all families: they come one after the other
    table.loc[(table["split"] == "val") & ~table["group"].isin(seen), "split"] = "train"
    return _judged_in_the_middle(table)


def packed(manifest: Path) -> Path:
    """Return a pack of a manifest's pixels, in a folder beside it; make it where it is not there.

    A run on a pack gives the same weights as on the files, and reads several times faster: most
    chips are a window of a few large JPEG 2000 files.
    """
    folder = manifest.with_suffix(".pack")
    with manifest.with_suffix(".lock").open("w") as lock:  # several processes share a folder
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "pack.json").is_file():
            pack(manifest, folder, block=BLOCK)
    return folder


def roadscene(data: Path, *, own: bool = False) -> pd.DataFrame:
    """Return RoadScene's pairs; a part begins where GAP frames or more are missing.

    Every third part is judged; the shortest others give the curve. Its own split judges one stretch
    of road of another brightness, where pix2pix gets worse the longer it learns.
    """
    table = build_manifest(RoadScene(), data / "rgb2thermal" / "roadscene").table
    columns = ["source", "target", "source_bands", "target_bands", "sensor"]
    order = table["source"].map(lambda name: Path(name).name).sort_values(kind="stable").index
    table = table.loc[order, columns].reset_index(drop=True)
    frames = table["source"].map(lambda name: int(Path(name).stem.split("_")[1]))
    parts = (frames.diff() >= GAP).cumsum()
    table["group"] = "part " + parts.astype(str)
    if own:
        table["split"] = np.where(table["source"].str.contains("/val/"), "test", "train")
        return _judged_in_the_middle(table)
    table["split"] = np.where(parts % 3 == 1, "test", "train")
    table = _judged_in_the_middle(table)
    sizes = table["group"][table["split"] == "train"].value_counts().sort_values(kind="stable")
    table.loc[table["group"].isin(sizes.index[sizes.cumsum() <= PLACES]), "split"] = "val"
    return table


def radar_pictures(data: Path) -> pd.DataFrame:
    """Return pairs of radar and true colour, both as 8-bit pictures: SEN1-2, and two large scenes.

    Each scene has a stretch of its own, so that training and judgement share scenes, not ground.
    The two large scenes are cut in tiles of SIDE pixels: the first TRAINED columns are trained on.
    Of those beyond APART further columns (2.5 km) the first row gives the curve, and the third and
    all below it are judged. SEN1-2's are trained on. Every tile and picture is a group.
    """
    table = pd.read_csv(vault.FOLDER / "sar2optical.csv")
    columns = ["source", "target", "source_bands", "target_bands", "sensor", "target_sensor"]
    table = table.loc[table["campaign"] == "sen12_pairs", columns].assign(split="train")
    rows = []
    for source in sorted((data / "sar2optical" / "sih1733_scenes" / "s1").glob("*.jpg")):
        target = source.parents[1] / "s2" / source.name.replace("_s1", "_s2")
        with gdal(), rasterio.open(source) as d:
            down, across = d.height // SIDE, d.width // SIDE
        for y, x in itertools.product(range(down), range(across)):
            beyond = x >= TRAINED + APART
            if (beyond and y == 1) or TRAINED <= x < TRAINED + APART:
                continue
            window = f"{x * SIDE},{y * SIDE},{SIDE},{SIDE}"
            rows.append(
                {
                    **dict(zip(columns, (source, target, *table.iloc[0, 2:6]), strict=True)),
                    "source_window": window,
                    "target_window": window,
                    "split": ("test" if y > 1 else "val") if beyond else "train",
                }
            )
    table = pd.concat([table, pd.DataFrame(rows)], ignore_index=True)
    return table.assign(group=[f"picture {n}" for n in range(len(table))])


def _judged_in_the_middle(table: pd.DataFrame) -> pd.DataFrame:
    """Give each judged row a window; windows that the manifest has stay."""
    for side in ("source", "target"):
        column = f"{side}_window"
        if column not in table:
            table[column] = None
        table[column] = table[column].astype(object)
        there = (table["split"] == "test") & table[side].notna() & table[column].isna()
        for row in table.index[there]:
            table.loc[row, column] = middle(Path(str(table.loc[row, "target"])))
    return table


def middle(path: Path) -> str:
    """Return the window of at most SIDE pixels in the middle, as GDAL's srcwin."""
    with gdal(), rasterio.open(path) as d:
        # Whole cells of every scale that is offered.
        w, h = (min(SIDE, n // 12 * 12) for n in (d.width, d.height))
        return f"{(d.width - w) // 2},{(d.height - h) // 2},{w},{h}"
