"""Candidates of an evaluation: a model, or a folder of files that another tool made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossband.core.devices import resolve_for
from crossband.core.sensors import VALID_RANGE
from crossband.core.signature import Signature
from crossband.data.open_scenes import OpenScenes
from crossband.data.packed.read import Packs
from crossband.data.rows import row_options
from crossband.errors import BandError, CrossbandError, InputError, ManifestError
from crossband.evaluation.baselines import Baseline, untrained_baselines
from crossband.metrics import MODEL
from crossband.model import Model
from crossband.model.training_data import read_training_data
from crossband.raster.grid import Box, Grid, Window
from crossband.raster.open import open_raster
from crossband.raster.options import ReadOptions
from crossband.raster.radiometry import is_unit
from crossband.raster.scene import Scene
from crossband.translate.options import TileOptions
from crossband.translate.window import translate_window

#: Suffixes of images in a folder of predictions; other files are ignored.
SUFFIXES = frozenset({".tif", ".tiff", ".png", ".jp2", ".jpg", ".jpeg", ".webp", ".vrt", ".img"})


class Candidate(ABC):
    """A source of outputs to evaluate, with the baselines to compare it with.

    Attributes:
        label: its name in tables.
        signature: its bands and units.
        scale: target pixels per source pixel along one side.
        baselines: baselines by name; they run in fp32, on the same pixels.
        trained_on: hashes of the targets that it is known to have been trained on.
    """

    label: str
    signature: Signature
    scale: int
    baselines: dict[str, Baseline]
    trained_on: frozenset[str] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        """`model`, and the names of the baselines."""
        return (MODEL, *self.baselines)

    def output(self, name: str, row: Mapping[str, Any], source: Window, grid: Grid) -> Window:
        """Return the output of the candidate (`model`) or of a baseline.

        Args:
            name: one of `names`.
            row: the pair's row of the manifest.
            source: the source, in physical units.
            grid: grid of the target, which is also that of the output.
        """
        if name == MODEL:
            return self.predict(row, source, grid)
        return self.baselines[name](row, source, grid)

    @abstractmethod
    def predict(self, row: Mapping[str, Any], source: Window, grid: Grid) -> Window:
        """Return the candidate's own output; see `output`."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return its description for metrics.json."""


class ModelCandidate(Candidate):
    """A model with the baselines of its folder, and those that need no fitting.

    Args:
        model: loaded model.
        label: its name in tables.
        device: auto, cpu, cuda, mps.
        precision: precision of the model. Baselines run in fp32, so that rounding does not make
            them worse.
    """

    def __init__(self, model: Model, label: str, device: str, precision: str) -> None:
        self.model, self.label, self.device, self.precision = model, label, device, precision
        self.signature, self.scale = model.signature, model.network.scale
        self.trained_on = frozenset(read_training_data(model.folder))
        self.hashes = {name: b.weights_hash for name, b in model.baselines.items()}
        self.baselines = {name: self._baseline(b) for name, b in model.baselines.items()}
        for name, baseline in untrained_baselines(self.signature, self.scale).items():
            self.baselines.setdefault(name, baseline)

    def _baseline(self, baseline: Model) -> Baseline:
        def predict(row: Mapping[str, Any], source: Window, grid: Grid) -> Window:
            options = TileOptions(device=self.device, precision="fp32")
            return translate_window(baseline, source, options)

        return predict

    def predict(self, row: Mapping[str, Any], source: Window, grid: Grid) -> Window:
        """Translate the source."""
        return translate_window(
            self.model, source, TileOptions(device=self.device, precision=self.precision)
        )

    def describe(self) -> dict[str, Any]:
        """Return name, task, hash, bands, device and precision."""
        runtime = self.model.network.runtime
        device, precision = resolve_for(runtime, self.device, self.precision)
        return {
            "label": self.label,
            "name": self.model.name,
            "task": self.model.task,
            "weights_hash": self.model.weights_hash,
            "source": list(self.signature.source),
            "target": list(self.signature.target),
            "device": device.type,
            "precision": precision,
            "baselines": {name: self.hashes.get(name, "") for name in self.baselines},
        }


@dataclass
class FilesCandidate(Candidate):
    """A folder of files that another tool made, matched to the rows of a manifest by name.

    The file of a row has the same name without suffix as the row's target, or as its source. If
    there is none, it is the only file whose name starts with such a name and `_`, `-` or `.`. It
    holds the bands of the target: in their order if it has as many bands, otherwise with their
    names. Stored numbers become physical values by the metadata of the file; what these lack comes
    from the row's columns of the target. The file covers the row's window, or the whole target.

    Attributes:
        folder: folder of the files, searched recursively.
        label: its name in tables.
        signature: bands and units of the pairs.
        scale: target pixels per source pixel along one side.
        baselines: the baselines to compare it with.
    """

    folder: Path
    label: str
    signature: Signature
    scale: int
    baselines: dict[str, Baseline] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """List the images of the folder."""
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: no such folder of predictions")
        self._by_stem: dict[str, list[Path]] = {}
        for path in sorted(self.folder.rglob("*")):
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                self._by_stem.setdefault(path.stem, []).append(path)
        if not self._by_stem:
            raise InputError(f"{self.folder}: there is no image in this folder of predictions")
        self._open_files = OpenScenes(Packs(), limit=16)
        self._used: set[Path] = set()

    def match(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Find the file of every row.

        Raises:
            ManifestError: a row has no file or several, or two pairs have the same file.
        """
        row_of: dict[Path, Any] = {}
        for row in rows:
            path = self.path_of(row)
            other = row_of.setdefault(path, row)
            if other is not row and _key(other) != _key(row):
                raise ManifestError(
                    f"manifest rows {other['row']} and {row['row']} both match {path}: files of "
                    f"one name need names of their own"
                )
        self._used = set(row_of)

    def path_of(self, row: Mapping[str, Any]) -> Path:
        """Return the file of a row.

        Raises:
            ManifestError: there is none, or more than one.
        """
        stems = [Path(str(row[s])).stem for s in ("target", "source") if pd.notna(row[s])]
        for stem in dict.fromkeys(stems):
            files = self._by_stem.get(stem, [])
            if not files:
                longer = [p for s, p in self._by_stem.items() if s.startswith(_prefixes(stem))]
                files = [path for paths in longer for path in paths]
            if len(files) > 1:
                raise ManifestError(
                    f"manifest row {row['row']}: {len(files)} files in {self.folder} match {stem}: "
                    f"{', '.join(sorted(p.name for p in files)[:3])}"
                )
            if files:
                return files[0]
        raise ManifestError(
            f"manifest row {row['row']}: no file in {self.folder} is named "
            f"{' or '.join(dict.fromkeys(stems))}"
        )

    def predict(self, row: Mapping[str, Any], source: Window, grid: Grid) -> Window:
        """Read the file of a row."""
        path = self.path_of(row)
        cells = {**row, "target_bands": None, "target_window": None}
        needed = list(self.signature.target)
        options = row_options(cells, "target", needed)
        with open_raster(path) as dataset:
            count, names = dataset.count, [str(name).lower() for name in dataset.descriptions]
            floats = all(np.issubdtype(np.dtype(kind), np.floating) for kind in dataset.dtypes)
            if floats and all(map(is_unit, dataset.units)):  # the columns are of stored numbers
                options = ReadOptions(nodata=options.nodata)
        wanted = [name.lower() for name in needed]
        in_order = count == len(needed) and not set(names) >= set(wanted)
        for number, (name, own) in enumerate(zip(names, wanted, strict=False), start=1):
            if in_order and name in wanted and name != own:
                raise ManifestError(
                    f"manifest row {row['row']}: {path}: its band {number} is called {name}, where "
                    f"the target has {own}: name all of its bands, or none"
                )
        bands = {name: i for i, name in enumerate(needed, start=1)} if in_order else {}
        try:
            with self._open_files(str(path), replace(options, bands=bands), needed) as scene:
                return self._read(scene, row, source, grid)
        except BandError as error:
            raise ManifestError(
                f"manifest row {row['row']}: {path}: it has {count} bands, of which none is named "
                f"{' or '.join(needed)}; name them in the file, or give it {', '.join(needed)} in "
                f"this order"
            ) from error
        except CrossbandError as error:
            words = str(error)
            if "--scale" in words or "--sensor" in words:  # options that evaluate does not have
                words = f"{path}: its numbers have no unit: write it into its bands, as reflectance"
            raise ManifestError(f"manifest row {row['row']}: {words}") from error

    def _read(self, scene: Scene, row: Mapping[str, Any], source: Window, grid: Grid) -> Window:
        unit = self.signature.target_unit(source.unit)
        if scene.unit != unit:
            raise InputError(f"{scene.path}: it is {scene.unit}, and the target is {unit}")
        shape = scene.grid.height, scene.grid.width
        box = None
        if shape != (grid.height, grid.width):
            window = row["target_window"]
            at = None if pd.isna(window) else Box.parse(str(window))
            if at is None or shape != self._whole_shape(row, at):
                raise InputError(
                    f"{scene.path}: {shape[0]} x {shape[1]} pixels, and the target has "
                    f"{grid.height} x {grid.width}"
                )
            box = at
        output = scene.read(box)
        low, high = VALID_RANGE[unit]
        return Window(np.clip(output.values, low, high), output.mask, grid, output.bands, unit)

    def _whole_shape(self, row: Mapping[str, Any], part: Box) -> tuple[int, int]:
        """Return rows and columns of a target; of a packed one those of its part: it lies alone."""
        path, needed = str(row["target"]), list(self.signature.target)
        if path.startswith("pack://"):
            return part.height, part.width
        options = row_options({**row, "target_window": None}, "target", needed)
        with self._open_files(path, options, needed) as scene:
            return scene.grid.height, scene.grid.width

    def describe(self) -> dict[str, Any]:
        """Return the folder and how many of its files were used."""
        total = sum(map(len, self._by_stem.values()))
        return {
            "label": self.label,
            "name": self.folder.name,
            "task": "",
            "weights_hash": "",
            "source": list(self.signature.source),
            "target": list(self.signature.target),
            "device": "files",
            "precision": "files",
            "baselines": dict.fromkeys(self.baselines, ""),
            "predictions": {
                "folder": str(self.folder),
                "n_files": total,
                "n_used": len(self._used),
            },
        }


def _prefixes(stem: str) -> tuple[str, ...]:
    return tuple(f"{stem}{mark}" for mark in "_-.")


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row["target"]), str(row["source"])
