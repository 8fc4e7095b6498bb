"""Who is judged: a model, which answers, or a folder of files that another tool made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossband.core.devices import resolve_device, resolve_precision
from crossband.core.registry import build
from crossband.core.sensors import VALID_RANGE
from crossband.core.signature import Signature, UnitRange
from crossband.data.open_scenes import OpenScenes
from crossband.data.packed.read import Packs
from crossband.data.rows import read_options
from crossband.errors import BandError, CrossbandError, InputError, ManifestError
from crossband.metrics import MODEL
from crossband.model import Model
from crossband.networks import Generator
from crossband.raster.grid import Box, Grid, Window
from crossband.raster.open import open_raster
from crossband.raster.scene import Scene
from crossband.translate.options import TileOptions
from crossband.translate.window import translate_window

#: What a folder of predictions may hold; anything else in it is not looked at.
SUFFIXES = frozenset({".tif", ".tiff", ".png", ".jp2", ".jpg", ".jpeg", ".webp", ".vrt", ".img"})

#: A baseline: what it makes of a source, on the grid of the target.
Baseline = Callable[[Window, Grid], Window]


class Entrant(ABC):
    """Answers each pair, and brings the baselines that it is held against.

    Attributes:
        label: how it is called in tables.
        signature: its bands and units.
        scale: target pixels per source pixel along one side.
        baselines: name -> what it makes of a source; on the same pixels, in fp32.
    """

    label: str
    signature: Signature
    scale: int
    baselines: dict[str, Baseline]

    @property
    def names(self) -> tuple[str, ...]:
        """Who answers: `model`, then the baselines."""
        return (MODEL, *self.baselines)

    def answer(self, who: str, row: Mapping[str, Any], source: Window, grid: Grid) -> Window:
        """Return what `who` makes of a pair, on the target's grid, in physical units."""
        return self.own(row, source, grid) if who == MODEL else self.baselines[who](source, grid)

    @abstractmethod
    def own(self, row: Mapping[str, Any], source: Window, grid: Grid) -> Window:
        """Return its own answer."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what metrics.json says of it."""


class ModelEntrant(Entrant):
    """A model with its baselines, and those that need no fitting.

    Args:
        model: loaded model.
        label: its name in tables.
        device: auto, cpu, cuda, mps.
        precision: of the model; baselines run in fp32, so that rounding does not weaken them.
    """

    def __init__(self, model: Model, label: str, device: str, precision: str) -> None:
        self.model, self.label, self.device, self.precision = model, label, device, precision
        self.signature, self.scale = model.signature, model.network.scale
        self.hashes = {name: b.weights_hash for name, b in model.baselines.items()}
        self.baselines = {name: self._of(b) for name, b in model.baselines.items()}
        for name, baseline in unfitted(self.signature, self.scale).items():
            self.baselines.setdefault(name, baseline)

    def _of(self, baseline: Model) -> Baseline:
        def answer(source: Window, grid: Grid) -> Window:
            return translate_window(
                baseline, source, TileOptions(device=self.device, precision="fp32")
            )

        return answer

    def own(self, row: Mapping[str, Any], source: Window, grid: Grid) -> Window:
        """Translate the source."""
        return translate_window(
            self.model, source, TileOptions(device=self.device, precision=self.precision)
        )

    def describe(self) -> dict[str, Any]:
        """Return name, task, hash, bands, device and precision."""
        where = resolve_device(self.device)
        return {
            "label": self.label,
            "name": self.model.name,
            "task": self.model.task,
            "weights_hash": self.model.weights_hash,
            "source": list(self.signature.source),
            "target": list(self.signature.target),
            "device": where.type,
            "precision": resolve_precision(where, self.precision),
            "baselines": {name: self.hashes.get(name, "") for name in self.baselines},
        }


def unfitted(signature: Signature, scale: int) -> dict[str, Baseline]:
    """Return the baselines that nothing is fitted for.

    `bicubic` where the target's bands are the source's on a finer grid, `copy` where they are on
    the same grid: what one gets for doing nothing.
    """
    if not set(signature.target) <= set(signature.source):
        return {}
    same = all(r.target_unit in (None, unit) for unit, r in signature.units.items())
    if not same:
        return {}
    if scale == 1:
        return {"copy": lambda source, grid: _of_source(signature, source, source.values)}
    bands, count = signature.target, len(signature.target)
    plain = {
        unit: UnitRange([(0.0, 1.0)] * count, [(0.0, 1.0)] * count) for unit in signature.units
    }
    options = {"in_channels": count, "out_channels": count, "scale": scale}
    network = build(Generator, "Bicubic", options)
    model = Model(network, Signature(bands, bands, plain), name="bicubic", task="")

    def bicubic(source: Window, grid: Grid) -> Window:
        own = _of_source(signature, source, source.values)
        return translate_window(model, own, TileOptions(device="cpu", precision="fp32"))

    return {"bicubic": bicubic}


def _of_source(signature: Signature, source: Window, values: Any) -> Window:
    picked = [source.bands.index(band) for band in signature.target]
    return Window(values[picked], source.mask, source.grid, tuple(signature.target), source.unit)


@dataclass
class FilesEntrant(Entrant):
    """Files that another tool made, matched to the rows of a manifest by name.

    A row's file is the one whose name without suffix is that of the row's target, or of its source;
    where there is none, the only one that begins with such a name and `_`, `-` or `.`. It holds the
    target's bands: in their order where it has as many bands, else by the names that it gives them.
    Its numbers become physical values by its own metadata, then by what the row says of the target.
    It covers the row's window, or the whole target.

    Attributes:
        folder: of the files, searched to any depth.
        label: its name in tables.
        signature: bands and units of the pairs.
        scale: target pixels per source pixel along one side.
        baselines: what it is held against.
    """

    folder: Path
    label: str
    signature: Signature
    scale: int
    baselines: dict[str, Baseline] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Look at the folder."""
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: no such folder of predictions")
        self._by_stem: dict[str, list[Path]] = {}
        for path in sorted(self.folder.rglob("*")):
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                self._by_stem.setdefault(path.stem, []).append(path)
        if not self._by_stem:
            raise InputError(f"{self.folder}: there is no image in this folder of predictions")
        self._opened = OpenScenes(Packs(), limit=16)
        self._used: set[Path] = set()

    def check(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Find the file of every row; ManifestError names the first that has none."""
        claimed: dict[Path, Any] = {}
        for row in rows:
            path = self.path_of(row)
            other = claimed.setdefault(path, row)
            if other is not row and _key(other) != _key(row):
                raise ManifestError(
                    f"manifest rows {other['row']} and {row['row']} both match {path}: files of "
                    f"one name need names of their own"
                )
        self._used = set(claimed)

    def path_of(self, row: Mapping[str, Any]) -> Path:
        """Return the file of a row; ManifestError where there is none, or more than one."""
        stems = [Path(str(row[s])).stem for s in ("target", "source") if pd.notna(row[s])]
        for stem in dict.fromkeys(stems):
            found = self._by_stem.get(stem, [])
            if not found:
                near = [p for s, p in self._by_stem.items() if s.startswith(_beginnings(stem))]
                found = [path for paths in near for path in paths]
            if len(found) > 1:
                raise ManifestError(
                    f"manifest row {row['row']}: {len(found)} files in {self.folder} match {stem}: "
                    f"{', '.join(sorted(p.name for p in found)[:3])}"
                )
            if found:
                return found[0]
        raise ManifestError(
            f"manifest row {row['row']}: no file in {self.folder} is named {' or '.join(stems)}"
        )

    def own(self, row: Mapping[str, Any], source: Window, grid: Grid) -> Window:
        """Read the file of a row."""
        path = self.path_of(row)
        cells = {**row, "target_bands": None, "target_window": None}
        needed = list(self.signature.target)
        with open_raster(path) as dataset:
            count = dataset.count
        in_order = count == len(needed)
        bands = {name: i for i, name in enumerate(needed, start=1)} if in_order else {}
        options = read_options(cells, "target", needed, alone=pd.isna(row["source"]))
        try:
            with self._opened(str(path), replace(options, bands=bands), needed) as scene:
                return self._fitted(scene, row, source, grid)
        except BandError as error:
            raise ManifestError(
                f"manifest row {row['row']}: {path}: it has {count} bands, of which none is named "
                f"{' or '.join(needed)}; name them in the file, or give it {', '.join(needed)} in "
                f"this order"
            ) from error
        except CrossbandError as error:
            raise ManifestError(f"manifest row {row['row']}: {error}") from error

    def _fitted(self, scene: Scene, row: Mapping[str, Any], source: Window, grid: Grid) -> Window:
        unit = self.signature.target_unit(source.unit)
        if scene.unit != unit:
            raise InputError(f"{scene.path}: it is {scene.unit}, and the target is {unit}")
        shape = scene.grid.height, scene.grid.width
        box = None
        if shape != (grid.height, grid.width):
            window = row["target_window"]
            at = None if pd.isna(window) else Box.parse(str(window))
            if at is None or at.row + at.height > shape[0] or at.col + at.width > shape[1]:
                raise InputError(
                    f"{scene.path}: {shape[0]} x {shape[1]} pixels, and the target has "
                    f"{grid.height} x {grid.width}"
                )
            box = at
        found = scene.read(box)
        low, high = VALID_RANGE[unit]
        return Window(np.clip(found.values, low, high), found.mask, grid, found.bands, unit)

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


def _beginnings(stem: str) -> tuple[str, ...]:
    return tuple(f"{stem}{mark}" for mark in "_-.")


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row["target"]), str(row["source"])
