"""Make a training pair from one fine scene: match it to a reference acquisition, degrade it.

The target is the fine scene, on the reference's grid refined, with the reference's values; the
source is what a sensor like the reference's would have seen of it at the same instant.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from crossband.core.atomic import atomic_file, up_to_date
from crossband.core.hidden_folder import remove_leftovers
from crossband.core.made_from import make_fingerprint
from crossband.core.python_words import public
from crossband.core.regular_file import read_text
from crossband.core.sensors import VALID_RANGE
from crossband.core.version import __version__
from crossband.core.warned import warn
from crossband.data.degrade import Degradation, coarse_mask
from crossband.data.degrade.sensor import SensorMTF
from crossband.errors import BandError, InputError, OutputError, RecipeError, nearest
from crossband.raster import match as matching
from crossband.raster.disk_space import check_disk_space
from crossband.raster.encoding import Encoding
from crossband.raster.grid import Box, Grid
from crossband.raster.journal import Store, names_being_placed, recorded
from crossband.raster.members import member_files
from crossband.raster.open import known_bands, open_scene
from crossband.raster.options import ReadOptions
from crossband.raster.output import MADE_FROM_TAG, OutputFile, finish_files, made_from_of
from crossband.raster.output_paths import check_output, new_folders
from crossband.raster.scene import Scene
from crossband.raster.source import LARGEST
from crossband.raster.warp import check_georeference, overlap, read_warped, resolution_ratio

#: Side of a block in fine pixels, without its halo.
BLOCK = 1024
COLUMNS = ("source", "target", "sensor", "target_sensor", "group", "gsd")

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Pair:
    """A pair that was written.

    Attributes:
        source: the degraded scene, GeoTIFF.
        target: the fine scene, GeoTIFF.
        manifest: the manifest to which the pair was added.
        scale: target pixels per source pixel along one side.
        bands: common names of the bands.
        unit: physical unit of both.
    """

    source: Path
    target: Path
    manifest: Path
    scale: int
    bands: tuple[str, ...]
    unit: str


@public()
def degrade_scene(
    fine: str | Path,
    reference: str | Path,
    output: str | Path,
    *,
    bands: Mapping[str, int | str] | None = None,
    sensor: str | None = None,
    reference_bands: Mapping[str, int | str] | None = None,
    reference_sensor: str | None = None,
    match: str = "histogram",
    degradation: Degradation | None = None,
    scale: int | None = None,
    overwrite: bool = False,
) -> Pair:
    """Match a fine scene to a reference acquisition, degrade it, and write both as a pair.

    The overlap of the two is cut along whole pixels of the reference. The fine scene is brought
    onto that grid, refined `scale` times; its mapping to the reference's values is fitted on its
    degraded version and applied to the fine one, band by band, bands paired by common name.

    Works block by block: four bands need about half a GB, GDAL's cache included, however large
    the scene. What grows are two coarse images of the overlap for the fit (32 MB for 10,000 x
    10,000 pixels of four bands at scale 10), and the time.

    Args:
        fine: raster with CRS and affine transform, such as an aerial photograph.
        reference: raster of the coarse sensor, with CRS and affine transform.
        output: folder; it gets `<stem>_target.tif`, `<stem>_source.tif` (float32 in physical
            units, NaN where masked) and a row in `pairs.csv`.
        bands: common name -> band number or name in the file; None uses what the file or the
            sensor tells. Likewise below.
        sensor: what took the fine scene; see `crossband.core.sensors`.
        reference_bands: as `bands`.
        reference_sensor: what took the reference.
        match: `histogram`, `linear`, or `none`, which keeps the fine scene's values and unit.
        degradation: one that does not draw at random; default `SensorMTF()`.
        scale: fine pixels per pixel of the reference; default: the ratio of the pixel sizes in the
            middle of the overlap, rounded to a whole number.
        overwrite: replace existing files.

    Returns:
        Where the pair lies.

    Raises:
        UpToDate: the pair was made of the same files in the same way, and its row is there.
        CrossbandError: no overlap, no shared band, no CRS, no valid pixel, a fine scene that is
            coarser than the reference, a random degradation, files that exist.
    """
    degradation = SensorMTF() if degradation is None else degradation
    if degradation.random:
        raise RecipeError(
            f"{type(degradation).__name__} draws at random, differently in every block: degrade "
            f"scenes with SensorMTF or Bicubic without noise and JPEG"
        )
    if match != "none" and match not in matching.METHODS:
        known = ["none", *matching.METHODS]
        raise RecipeError(f"unknown match {match!r}: {nearest(match, known)}")
    folder, stem = Path(output), Path(fine).stem
    paths = folder / f"{stem}_source.tif", folder / f"{stem}_target.tif"
    names = _shared(fine, bands, sensor, reference, reference_bands, reference_sensor)
    with ExitStack() as stack:
        stack.enter_context(new_folders(folder))
        one = stack.enter_context(
            open_scene(fine, ReadOptions(_of(bands, names), sensor), needed=names)
        )
        coarse = _of(reference_bands, names)
        two = stack.enter_context(
            open_scene(reference, ReadOptions(coarse, reference_sensor), needed=names)
        )
        how = {
            "the fine scene": str(fine),
            "the reference": str(reference),
            "bands and sensors": repr((bands, sensor, reference_bands, reference_sensor)),
            "the degradation": repr((type(degradation).__name__, degradation.arguments)),
            "how": repr((match, scale)),
        }
        files = member_files((*one.files, *two.files))
        made_from = make_fingerprint(how, files)
        manifest = folder / "pairs.csv"
        if not overwrite and _is_finished(paths, manifest, made_from):
            for path in (*paths, manifest):
                remove_leftovers(path)
            raise up_to_date(folder / stem)
        how |= {"the files": made_from}
        placed = names_being_placed(paths[0], how)
        for path in paths:
            for scene in (one, two):
                check_output(path, overwrite or path in placed, scene.path)
        if manifest.is_symlink():
            raise OutputError(f"{manifest}: a link, which would be replaced; give its folder")
        _rows(manifest)  # one that a row cannot be added to is refused before the work
        job = _Job.of(one, two, degradation, scale)
        fitted = None if match == "none" else job.fit(match)
        unit = one.unit if match == "none" else two.unit
        pair = Pair(*paths, manifest, job.scale, tuple(names), unit)
        words = f"{match} {type(degradation).__name__} scale {job.scale}"
        with recorded(paths[0], how, paths, placed) as store:
            job.write(pair, fitted, words, made_from, store)
            _add_row(pair, stem, job.grid.pixel_size())
    return pair


@dataclass(frozen=True)
class _Job:
    """Two open scenes, the part of the reference's grid that both show, and what to do."""

    fine: Scene
    reference: Scene
    box: Box
    degradation: Degradation
    scale: int

    @classmethod
    def of(cls, fine: Scene, reference: Scene, degradation: Degradation, scale: int | None) -> _Job:
        """Find the overlap and the scale; InputError where there is none."""
        for scene in (fine, reference):
            check_georeference(scene.grid, scene.path)
        try:
            box = overlap(fine.grid, reference.grid)
        except InputError as error:
            raise InputError(f"{fine.path} and {reference.path}: {error}") from error
        ratio = resolution_ratio(fine.grid, reference.grid, box)
        chosen = round(ratio) if scale is None else scale
        if chosen < 1 or ratio < 1 - 1e-3:
            raise InputError(
                f"scale {chosen}: {fine.path} has {ratio:.2f} pixels along a pixel of "
                f"{reference.path}; it must be the finer of the two, and --scale at least 1"
            )
        if chosen >= ratio + 1:
            raise InputError(
                f"scale {chosen}: {fine.path} has only {ratio:.2f} pixels along a pixel of "
                f"{reference.path}; a larger scale would invent what it does not show"
            )
        return cls(fine, reference, box, degradation, chosen)

    @property
    def grid(self) -> Grid:
        """The source's grid."""
        return self.reference.grid.crop(self.box)

    def fit(self, method: str) -> matching.Match:
        """Fit the mapping to the reference on the coarse grid."""
        shape = (self.box.height, self.box.width)
        image = np.full((len(self.fine.bands), *shape), np.nan, dtype=np.float32)
        for core, _, coarse, _, mask, _ in self.blocks(None):
            image[:, *core.slices()] = np.where(mask, coarse, np.nan)
        measured = self.reference.read(self.box)
        try:
            return matching.fit(method, image, measured.values, measured.mask)
        except InputError as error:
            raise InputError(f"{self.fine.path}: {error}") from error

    def write(
        self, pair: Pair, fitted: matching.Match | None, how: str, made_from: str, store: Store
    ) -> None:
        """Write both files, or none of them."""
        tags = {
            "CROSSBAND_DEGRADED_FROM": Path(self.fine.path).name,
            "CROSSBAND_REFERENCE": Path(self.reference.path).name,
            "CROSSBAND_DEGRADATION": f"{how}, {self.degradation.arguments}",
            MADE_FROM_TAG: made_from,
            "TIFFTAG_SOFTWARE": f"crossband {__version__}",
        }
        encoding = Encoding("float32", nodata=float("nan"))
        source, target = (
            OutputFile(path, grid, pair.bands, pair.unit, encoding, tags)
            for path, grid in (
                (pair.source, self.grid),
                (pair.target, self.grid.zoom(self.scale)),
            )
        )
        check_disk_space([source, target])
        source.begin(store, "source")
        target.begin(store, "target")
        cut = 0
        for core, fine, coarse, fine_mask, mask, beyond in self.blocks(fitted):
            cut += beyond
            target.write(core.scaled(self.scale), fine, fine_mask)
            source.write(core, coarse, mask)
        if not source.valid:
            raise InputError(f"{self.fine.path}: no pixel of the overlap is wholly valid")
        finish_files([source, target], store)
        if cut:
            low, high = VALID_RANGE[pair.unit]
            share = cut / (target.valid * len(pair.bands))
            warn(
                f"{pair.target}: {cut:,} of its values ({share:.2%}) lay beyond {low:g} to "
                f"{high:g} ({pair.unit}) and were cut; the source is made of what is left"
            )

    def blocks(
        self, fitted: matching.Match | None
    ) -> Iterator[tuple[Box, Image, Image, Mask, Mask, int]]:
        """Yield blocks of the overlap: box, fine and coarse values, fine and coarse mask, cut ones.

        The latter are the number of valid fine values that the range of their unit cuts.

        Each is made with so much around it that it equals the same part of the whole.
        """
        step = max(BLOCK // self.scale, 1)
        # Twice the margin: a gap at the margin's end is filled from up to as far away again.
        halo = 2 * self.degradation.margin + 1
        for row in range(0, self.box.height, step):
            for col in range(0, self.box.width, step):
                height = min(step, self.box.height - row)
                width = min(step, self.box.width - col)
                core = Box(row, col, height, width)
                around = Box(row - halo, col - halo, height + 2 * halo, width + 2 * halo)
                inner = Box(halo, halo, height, width)
                yield core, *self._block(around, inner, fitted)

    def _block(
        self, around: Box, inner: Box, fitted: matching.Match | None
    ) -> tuple[Image, Image, Mask, Mask, int]:
        window = read_warped(self.fine, self.grid.crop(around).zoom(self.scale))
        values, unit = window.values, self.fine.unit
        if fitted is not None:
            values, unit = fitted.apply(values), self.reference.unit
        # As the writer clips: the source must be made of the target as it is stored.
        given, values = values, np.clip(values, *VALID_RANGE.get(unit, (-np.inf, np.inf)))
        whole = torch.from_numpy(_filled(values, window.mask))
        coarse = self.degradation(whole, self.scale, np.random.default_rng(0)).numpy()
        mask = coarse_mask(torch.from_numpy(window.mask)[None], self.scale)[0].numpy()
        near, far = inner.slices(), inner.scaled(self.scale).slices()
        cut = int(np.count_nonzero((given != values)[:, *far] & window.mask[far]))
        return values[:, *far], coarse[:, *near], window.mask[far], mask[near], cut


def _filled(values: Image, mask: Mask) -> Image:
    """Fill masked pixels with the nearest valid ones, so that no fill value bleeds out of gaps."""
    if mask.all() or not mask.any():
        return values
    rows, columns = distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return np.asarray(values[:, rows, columns])


def _shared(
    fine: str | Path,
    bands: Mapping[str, int | str] | None,
    sensor: str | None,
    reference: str | Path,
    reference_bands: Mapping[str, int | str] | None,
    reference_sensor: str | None,
) -> list[str]:
    """Return the common names that both scenes have, in the fine scene's order."""
    of_fine = tuple(bands) if bands else known_bands(fine, sensor)
    of_reference = (
        tuple(reference_bands) if reference_bands else known_bands(reference, reference_sensor)
    )
    names = [name for name in of_fine if name in of_reference]
    if not names:
        raise BandError(
            f"no band in common: {fine} has {', '.join(of_fine) or 'none with a name'}, "
            f"{reference} has {', '.join(of_reference) or 'none with a name'}; say which is which "
            f"with --bands and --reference-bands"
        )
    return names


def _of(bands: Mapping[str, int | str] | None, names: list[str]) -> dict[str, int | str]:
    return {name: number for name, number in (bands or {}).items() if name in names}


def _is_finished(paths: Sequence[Path], manifest: Path, made_from: str) -> bool:
    """Return whether both files were made from the same, and the manifest has their row."""
    if any(made_from_of(path) != made_from for path in paths):
        return False
    return any([r["source"], r["target"]] == [p.name for p in paths] for r in _rows(manifest))


def _rows(manifest: Path) -> list[dict[str, str]]:
    """Return the rows of the manifest that a pair is added to; none where there is no file."""
    if not manifest.exists():
        return []
    try:
        text = read_text(manifest, OutputError, LARGEST)
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise OutputError(f"{manifest}: a row is to be added, but: {error}") from error
    # A row with more cells than the header has them under None.
    if any(None in row or not {"source", "target"} <= set(row) for row in rows):
        raise OutputError(f"{manifest}: it is no manifest of pairs, to which a row can be added")
    return rows


def _add_row(pair: Pair, group: str, gsd: float) -> None:
    """Write the manifest with the pair's row, which replaces an older one of the same source.

    Another process may add its own row at the same time: one waits for the other.
    """
    row = dict.fromkeys(COLUMNS, "") | {
        "source": pair.source.name,
        "target": pair.target.name,
        "group": group,
        "gsd": f"{gsd:g}" if math.isfinite(gsd) else "",
    }
    with atomic_file(pair.manifest, wait=True) as part:
        rows = [r for r in _rows(pair.manifest) if r["source"] != row["source"]] + [row]
        columns = list(dict.fromkeys([*COLUMNS, *(c for r in rows for c in r)]))
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
