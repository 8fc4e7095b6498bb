"""The layout `folders`: pairs of pictures that are found by the names of their folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal

from crossband.core import sensors
from crossband.data.layouts import _bands
from crossband.data.layouts._groups import group_function
from crossband.data.layouts._headers import Header, read_all, read_header
from crossband.data.layouts.base import FileSearch, Layout, Row
from crossband.errors import ManifestError
from crossband.raster.grid import Box

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


_Keys = dict[Path, tuple[str, ...]]


class Folders(Layout):
    """Any pictures in two folders, or side by side in one file.

    The names of the folders select one of these forms; the first that exists is used:

    1. The two folders that --source-folder and --target-folder name. Files with equal names are
       pairs, as `A/train/7.png` and `B/train/7.jpg`. A folder may be a pattern, as `*/RGB`.
    2. pix2pix: `train_A` and `train_B`, `val_A`, `test_A`, ... Files with equal names are pairs.
    3. CycleGAN: `trainA` and `trainB`, `testA`, ... The files are not pairs.
    4. pix2pix with A and B in one file: `train`, `val`, `test`. The left half of each file is A,
       the right half is B.

    Folders called train, val, valid, validation or test give the split. PNG, JPEG and BMP files of
    8 bits are pictures, not measurements, so their sensor is `display`. Other files must state
    their unit, or you must give the sensor. Only the first file of each format is opened to find
    its bands and unit.

    Args:
        source_folder: folder of the sources below ROOT, or a pattern for several folders.
        target_folder: folder of the targets; see source_folder.
        source: bands of the sources, as red,green,blue (bands 1, 2, 3) or red=3,green=2,blue=1; not
            needed for colour pictures.
        target: bands of the targets, as nir; see source.
        sensor: sensor of the sources; see `crossband sensors`.
        target_sensor: sensor of the targets.
        direction: BtoA makes B the source.
        paired: whether files with equal names are pairs; auto means all except those of CycleGAN.
        group_by: parent (each folder is a group), or a regular expression that is searched in the
            path below ROOT; the text that its first parentheses match names the group.
    """

    examples = ({"target": "nir"},)

    name: ClassVar[str] = "folders"
    origin: ClassVar[str] = "any pictures in two folders, or side by side; pix2pix and CycleGAN"

    def __init__(
        self,
        source_folder: str = "",
        target_folder: str = "",
        source: str = "",
        target: str = "",
        sensor: str = "",
        target_sensor: str = "",
        direction: Literal["AtoB", "BtoA"] = "AtoB",
        paired: Literal["auto", "yes", "no"] = "auto",
        group_by: str = "",
    ) -> None:
        if bool(source_folder) != bool(target_folder):
            raise ManifestError("--source-folder and --target-folder belong together: give both")
        if source_folder and direction != "AtoB":
            raise ManifestError("--direction is for A and B; swap --source-folder, --target-folder")
        if source_folder and source_folder == target_folder:
            raise ManifestError(f"source and target are one folder: {source_folder!r}")
        self.trees = source_folder.strip("/"), target_folder.strip("/")
        self.swap, self.paired, self.group = direction == "BtoA", paired, group_function(group_by)
        self.sides = _Side("source", source, sensor), _Side("target", target, target_sensor)

    def rows(self, search: FileSearch) -> Iterator[Row]:
        """See `Layout.rows`."""
        if self.trees[0]:
            one, two = ({p: _key(p, search.root, t) for p in _all(search, t)} for t in self.trees)
            yield from self._pairs(search, one, two, paired=self.paired != "no")
            return
        for form, paired in (("{}_{}", self.paired != "no"), ("{}{}", self.paired == "yes")):
            splits = [s for s in SPLITS if (search.root / form.format(s, "A")).is_dir()]
            if splits:
                one, two = (
                    {
                        p: (split, *_key(p, search.root, tree))
                        for split in splits
                        for tree in [form.format(split, letter)]
                        for p in _all(search, tree)
                    }
                    for letter in ("BA" if self.swap else "AB")
                )
                yield from self._pairs(search, one, two, paired=paired)
                return
        yield from self._halves(search)

    def _pairs(self, search: FileSearch, one: _Keys, two: _Keys, *, paired: bool) -> Iterator[Row]:
        keys = one | two
        splits = {p: next((SPLITS[k] for k in keys[p][:-1] if k in SPLITS), None) for p in keys}
        pairs: Iterable[tuple[Path | None, Path | None]]
        if paired:
            pairs = search.pair(one, two, one.__getitem__, two.__getitem__)
        else:
            pairs = [*((p, None) for p in one), *((None, p) for p in two)]
        for a, b in pairs:
            row: Row = {"source": a, "target": b}
            for side, path in zip(self.sides, (a, b), strict=True):
                row |= side.columns(path) if path else {}
            path = a or b
            if path is not None:
                row["group"] = self.group(path, search.root)
                if None not in splits.values():
                    row |= {"split": splits[path], "split_by": "the folders"}
            yield row

    def _halves(self, search: FileSearch) -> Iterator[Row]:
        files = search.files(*(f"{split}/*" for split in SPLITS), suffixes=PICTURES)
        if not files:  # for the message, which lists all patterns
            search.files("train_A/*", "trainA/*", suffixes=PICTURES)
        for path, header in read_all(files, read_header):
            if not isinstance(header, Header):
                search.left_out.append((path, str(header)))
                continue
            if header.width % 2:
                search.left_out.append((path, f"two halves, but {header.width} pixels wide"))
                continue
            half = header.width // 2
            boxes = [Box(0, col, header.height, half).srcwin() for col in (0, half)]
            windows = boxes[:: -1 if self.swap else 1]
            row: Row = {"split": SPLITS[path.parent.name], "split_by": "the folders"}
            group = self.group(path, search.root)
            row["group"] = path.relative_to(search.root).as_posix() if group is None else group
            alone = [
                {side.name: path, f"{side.name}_window": window} | side.columns(path)
                for side, window in zip(self.sides, windows, strict=True)
            ]
            if self.paired == "no":
                yield from (row | columns for columns in alone)
            else:
                yield row | alone[0] | alone[1]


class _Side:
    """Bands and sensor of the files of one side."""

    def __init__(self, name: str, bands: str, sensor: str) -> None:
        self.name, self.sensor = name, sensor
        self.bands = _bands.parse_numbered(bands) if bands else {}
        self.known: dict[str, Row] = {}
        if sensor:
            sensors.get(sensor)

    def columns(self, path: Path) -> Row:
        """Return the columns of a file: bands and sensor."""
        suffix = path.suffix.lower()
        if suffix not in self.known:
            header = read_header(path)
            sensor = "sensor" if self.name == "source" else "target_sensor"
            self.known[suffix] = {
                f"{self.name}_bands": _bands.format_bands(self._bands(path, header)),
                sensor: self._sensor(path, header),
            }
        return self.known[suffix]

    def _bands(self, path: Path, header: Header) -> dict[str, int | str]:
        if not self.bands and header.colours[:3] == ("red", "green", "blue"):
            return {"red": 1, "green": 2, "blue": 3}
        count = header.count
        if not self.bands:
            raise ManifestError(
                f"{path}: {count} band{'s' * (count > 1)} without colour: say what is in them, as "
                f"--{self.name} nir or --{self.name} red=3,green=2,blue=1"
            )
        highest = max((n for n in self.bands.values() if isinstance(n, int)), default=0)
        if highest > count:
            raise ManifestError(
                f"{path}: --{self.name} {_bands.format_bands(self.bands)}, but it has {count} "
                f"band{'s' * (count > 1)}"
            )
        return self.bands

    def _sensor(self, path: Path, header: Header) -> str | None:
        if self.sensor or header.has_unit:
            return self.sensor or None
        if header.format in ("PNG", "JPEG", "BMP") and header.dtype == "uint8":
            return "display"
        option = "--sensor" if self.name == "source" else "--target-sensor"
        raise ManifestError(
            f"{path}: {header.dtype} numbers of unknown unit: give {option}, as {option} display "
            f"for a picture, or see 'crossband sensors'"
        )


def _all(search: FileSearch, tree: str) -> list[Path]:
    return search.files(f"{tree}/**/*", suffixes=PICTURES)


def _key(path: Path, root: Path, tree: str) -> tuple[str, ...]:
    """Return what a file and its counterpart have in common.

    That is what the stars of the tree match, the folders below it, and the name without extension.
    """
    parts, fixed = path.relative_to(root).parts, PurePosixPath(tree).parts
    wild = [part for part, name in zip(parts, fixed, strict=False) if "*" in name]
    return (*wild, *parts[len(fixed) : -1], path.stem)
