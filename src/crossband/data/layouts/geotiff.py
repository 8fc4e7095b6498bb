"""The layout `geotiff`: any folder of rasters with named bands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from crossband.data.layouts import _bands
from crossband.data.layouts._groups import group_function
from crossband.data.layouts._headers import read_all
from crossband.data.layouts.base import FileSearch, Layout, Row
from crossband.data.manifest import NUMBERS
from crossband.data.table_file import read_table
from crossband.errors import CrossbandError, ManifestError, nearest
from crossband.raster.bands import parse_bands
from crossband.raster.open import open_scene
from crossband.raster.options import ReadOptions

#: Columns of the radiometry of a file; of a target, they have the prefix `target_`.
_OWN = ("sensor", "scale", "offset", "nodata")
_SIDES = ("source_bands", "target_bands")


class Geotiff(Layout):
    """Any folder of rasters with several bands, with source and target in one file or in two.

    The bands are identified by the band names and colours in each file, by a sensor whose files
    have a fixed order of bands, or by --bands. Units come from the file or from --sensor. A file
    whose bands or unit are unknown is left out, and the report gives the reason.

    If source and target are in two files, give --source-glob and --target-glob, as `*_rgb.tif` and
    `*_nir.tif`, or `rgb/*.tif` and `nir/*.tif`. Two files are a pair if the stars match the same
    text.

    Args:
        source: names of the source bands.
        target: names of the target bands.
        source_glob: pattern of the source files below ROOT.
        target_glob: pattern of the target files; empty if the source files also have the target.
        bands: band numbers or names in the source files, as red=3,nir=B08; they override what the
            files state.
        target_bands: the same for the target files of --target-glob.
        sensor: sensor of the files; see `crossband sensors`.
        target_sensor: sensor of the targets, if it differs.
        table: CSV with a column `file` (a name, or a path below ROOT) and any columns of a
            manifest: sensor, scale, offset, nodata, bands, group, split, lon, ...; they override
            the options above. Target files of --target-glob may have rows, too.
        group_by: parent (each folder is a group), or a regular expression that is searched in the
            path below ROOT; the text that its first parentheses match names the group.
    """

    examples = ({"sensor": "reflectance"},)

    name: ClassVar[str] = "geotiff"
    origin: ClassVar[str] = "any folder of multi-band rasters, GeoTIFF or other"

    def __init__(
        self,
        source: str = "red,green,blue",
        target: str = "nir",
        source_glob: str = "**/*.tif",
        target_glob: str = "",
        bands: str = "",
        target_bands: str = "",
        sensor: str = "",
        target_sensor: str = "",
        table: str = "",
        group_by: str = "",
    ) -> None:
        if target_bands and not target_glob:
            raise ManifestError("--target-bands is for targets in other files: give --target-glob")
        self.needed = _bands.parse_names(source), _bands.parse_names(target)
        self.globs = source_glob, target_glob
        if target_glob and len(_parts(source_glob)) != len(_parts(target_glob)):
            raise ManifestError(
                f"--source-glob {source_glob} and --target-glob {target_glob} must have equally "
                f"many stars: what they stand for tells the pairs"
            )
        options = {"source_bands": bands, "target_bands": target_bands if target_glob else bands}
        options |= {"sensor": sensor, "target_sensor": target_sensor}
        self.options = {k: v for k, v in options.items() if v}
        self.table, self.group = table, group_function(group_by)

    def rows(self, search: FileSearch) -> Iterator[Row]:
        """See `Layout.rows`."""
        known = _FileTable(self.table, search.root)
        one = search.files(self.globs[0])
        pairs = [(p, p) for p in one]
        if self.globs[1]:
            keys = [_matcher(glob, search.root) for glob in self.globs]
            pairs = list(search.pair(one, search.files(self.globs[1]), *keys))
        stated = {a: self._stated(known.of(a, b)) for a, b in pairs}
        targets = dict(pairs)

        def read(path: Path) -> Row:
            return _identify(path, targets[path], stated[path], *self.needed)

        for path, found in read_all(stated, read):
            if isinstance(found, CrossbandError):
                search.left_out.append((path, str(found)))
                continue
            row = {"source": path, "target": targets[path]} | stated[path] | found
            yield row | {"group": row["group"] or self.group(path, search.root)}
        search.notes += known.notes(len({*targets, *targets.values()}))

    def _stated(self, columns: Row) -> Row:
        row: Row = {"group": None} | self.options | columns
        if any(f"target_{name}" in row for name in _OWN) and "sensor" in row:
            # A scale of the target is used only with a sensor of its own.
            row.setdefault("target_sensor", row["sensor"])
        return row


def _identify(source: Path, target: Path, stated: Row, first: list[str], second: list[str]) -> Row:
    """Open a pair as training does; return its columns of bands, or raise what training would."""
    own = [f"target_{name}" for name in _OWN]
    apart = source != target or any(name in stated for name in own)
    bands = {s: parse_bands(stated[s]) if s in stated else {} for s in _SIDES}
    if not apart:
        both = list(dict.fromkeys([*first, *second]))
        numbers = _numbers(source, both, bands[_SIDES[0]], [stated.get(n) for n in _OWN])
        return {
            side: _bands.format_bands({name: numbers[name] for name in names})
            for side, names in zip(_SIDES, (first, second), strict=True)
        }
    columns = [list(_OWN), own if "target_sensor" in stated else list(_OWN)]
    return {
        side: _bands.format_bands(
            _numbers(path, names, bands[side], [stated.get(n) for n in names_of])
        )
        for side, path, names, names_of in zip(
            _SIDES, (source, target), (first, second), columns, strict=True
        )
    }


def _numbers(
    path: Path, needed: list[str], bands: Mapping[str, int | str], stated: list[Any]
) -> dict[str, int | str]:
    given = {name: value for name, value in bands.items() if name in needed}
    with open_scene(path, ReadOptions(given, *stated), needed=needed) as scene:
        return dict(zip(scene.bands, scene.numbers, strict=True))


class _FileTable:
    """The CSV of the option `table`: columns for files that lack metadata."""

    def __init__(self, path: str, root: Path) -> None:
        self.path, self.root = path, root
        self.rows: dict[str, Row] = {}
        self.used: set[str] = set()
        if not path:
            return
        table = read_table(Path(path))
        if "file" not in table.columns:
            columns = [*map(str, table.columns)]
            raise ManifestError(f"{path}: no column 'file': {nearest('file', columns)}")
        for record in table.to_dict("records"):
            row = {str(k): _cell(path, str(k), v) for k, v in record.items() if not pd.isna(v)}
            name = str(row.pop("file", ""))
            if name in self.rows:
                raise ManifestError(f"{path}: two rows are about {name!r}")
            self.rows[name] = row

    def of(self, source: Path, target: Path) -> Row:
        """Return the manifest columns that the table has for a pair."""
        row = self._row(source)
        if source == target:
            names = {"bands": "source_bands"}
            row |= {"target_bands": row["bands"]} if "bands" in row else {}
            return {names.get(k, k): v for k, v in row.items()}
        row = {("source_bands" if k == "bands" else k): v for k, v in row.items()}
        own = self._row(target)
        return row | {f"target_{k}": v for k, v in own.items() if k in (*_OWN, "bands")}

    def _row(self, path: Path) -> Row:
        """Return the row of a file, by its path below the root or by its name."""
        for name in (path.relative_to(self.root).as_posix(), path.name):
            if name in self.rows:
                self.used.add(name)
                return dict(self.rows[name])
        return {}

    def notes(self, files: int) -> list[str]:
        """Return lines on rows without a file, and on the number of files without a row."""
        out = []
        idle = [name for name in self.rows if name not in self.used]
        if idle:
            out.append(f"{len(idle):,} rows of {self.path} are about no file, as {idle[0]!r}")
        if self.path and len(self.used) < files:
            out.append(f"{self.path} has rows for {len(self.used):,} of {files:,} files")
        return out


def _parts(glob: str) -> list[str]:
    """Return the wildcards of a glob: `**/`, `*`, `?` and `[...]`."""
    return re.findall(r"\*\*/|\*|\?|\[[^]]+\]", glob)


def _matcher(glob: str, root: Path) -> Any:
    """Return a function from a path to the texts that the wildcards of a glob match."""
    regex = {"**/": "((?:.*/)?)", "*": "([^/]*)", "?": "([^/])"}
    words = re.split(r"(\*\*/|\*|\?|\[[^]]+\])", glob)
    pattern = "".join(
        (regex.get(w) or "(" + w.replace("[!", "[^") + ")") if n % 2 else re.escape(w)
        for n, w in enumerate(words)
    )

    def key(path: Path) -> tuple[str, ...]:
        found = re.fullmatch(pattern, path.relative_to(root).as_posix())
        return found.groups() if found else (str(path),)

    return key


def _cell(path: str, column: str, value: Any) -> Any:
    """Return a cell of the table, a number where manifests have one."""
    if column not in NUMBERS:
        return value
    try:
        return float(value)
    except ValueError:
        raise ManifestError(f"{path}: {column} {value!r:.60} is not a number") from None
