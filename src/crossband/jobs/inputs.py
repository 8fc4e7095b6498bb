"""Expand inputs to scenes: files, glob patterns, text lists, manifests, STAC item collections.

| input | recognised by | scenes |
|---|---|---|
| pattern | `*`, `?` or `[`, and no file of that name | the matching files; `**` is any depth |
| text list | ends in .txt, not metadata of a product | each line; not empty ones and comments |
| manifest | ends in .csv, .parquet or .pq | the source of each row, read as its columns say |
| STAC item collection | .json or .geojson, a FeatureCollection | each item |
| anything else | | itself |

A row or an item may name the guide of its scene: a manifest by the columns `guide`, `guide_bands`,
`guide_sensor` and `guide_datetime`, an item by properties of these names after `crossband:`.

Relative paths in a list or a manifest are relative to its folder. A scene that is named twice is
translated once. A missing file is reported when its turn comes, so that the others are translated.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from crossband.core import columns
from crossband.core.dates import date_cell
from crossband.core.json_text import parse_json
from crossband.core.regular_file import read_bytes, read_text
from crossband.errors import CrossbandError, InputError, ManifestError
from crossband.raster import products
from crossband.raster.bands import parse_bands
from crossband.raster.options import ReadOptions
from crossband.raster.remote import is_remote, name_of
from crossband.raster.source import LARGEST
from crossband.translate.guide_folder import is_guide_folder
from crossband.translate.options import GuideOptions

#: What the names of properties of an item begin with.
PREFIX = "crossband:"
LIST, MANIFEST, COLLECTION = (".txt",), (".csv", ".parquet", ".pq"), (".json", ".geojson")


@dataclass(frozen=True)
class SceneInput:
    """A scene that is to be translated.

    Attributes:
        path: as `open_scene` takes it.
        stem: from which the output is named.
        label: the scene's name in messages.
        read: how it is read, by its row in a manifest.
        complete: `read` is complete, and the options of the run do not apply.
        guide: what its row in a manifest, or its item, says of its guide.
        row: the cells of its row in a manifest, by column; empty elsewhere.
    """

    path: str
    stem: str
    label: str
    read: ReadOptions = field(default_factory=ReadOptions)
    complete: bool = False
    guide: GuideOptions = field(default_factory=GuideOptions)
    row: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def key(self) -> tuple[str, str]:
        """Equal for inputs that are the same scene, read in the same way."""
        at = self.path if is_remote(self.path) else os.path.abspath(self.path)
        how = [asdict(self.read), asdict(self.guide)]
        return at, json.dumps(how, sort_keys=True, default=str)

    def read_options(self, options: ReadOptions, bands: Collection[str]) -> ReadOptions:
        """Return how the scene is read; its row in a manifest overrides the options of the run.

        Args:
            options: of the run.
            bands: that are read; a row may name further bands.
        """
        read = self.read if self.complete else self.read.over(options)
        return read if self.read.bands is None else read.only(bands)

    def guide_options(self, options: GuideOptions, bands: Collection[str]) -> GuideOptions:
        """Return the scene's guide; its row or item overrides the options of the run.

        Args:
            options: of the run.
            bands: that may be read of it; a row may name further bands.

        Raises:
            InputError: it is a folder of guides, which only the options of the run may name.
        """
        own = self.guide
        if own.guide is not None and is_guide_folder(own.guide):
            # A table of strangers could name one with all files of a machine.
            raise InputError(f"{self.label}: its guide {own.guide} is a folder: name a raster")
        if own.bands is not None:
            own = replace(own, bands={k: v for k, v in own.bands.items() if k in bands})
        stated = date_cell(self.row)
        if own.scene_datetime is None and stated is not None:
            own = replace(own, scene_datetime=stated[1])
        return own.over(options)


def stands_for_many(text: str) -> bool:
    """Return whether an input is a pattern, list, manifest or collection of scenes."""
    suffix = Path(text).suffix.lower()
    if is_remote(text):
        return False
    if suffix in MANIFEST or _is_list(text) or _is_pattern(text):
        return True
    return _items(text) is not None


def expand_inputs(inputs: Sequence[str]) -> list[SceneInput]:
    """Return the scenes of all inputs, each once.

    Raises:
        InputError: a pattern without a match; a list or collection that cannot be read.
        ManifestError: a manifest that cannot be read.
    """
    found: dict[tuple[str, str], SceneInput] = {}
    for text in inputs:
        for source in _expanded(text):
            found.setdefault(source.key, source)
    return list(found.values())


def _expanded(text: str) -> Iterator[SceneInput]:
    suffix = Path(text).suffix.lower()
    if is_remote(text):
        yield _plain(text)
    elif _is_pattern(text):
        names = sorted(glob.glob(text, recursive=True))
        if not names:
            raise InputError(f"{text}: no file matches this pattern")
        yield from map(_plain, names)
    elif _is_list(text):
        yield from _listed(Path(text))
    elif suffix in MANIFEST:
        yield from _rows(Path(text))
    else:
        items = _items(text)
        yield from [_plain(text)] if items is None else _collected(text, items)


def _plain(path: str, label: str | None = None) -> SceneInput:
    return SceneInput(path, Path(name_of(path)).stem, label or path)


def _is_list(text: str) -> bool:
    """Return whether an input is a text list, and not the metadata of a product."""
    return Path(text).suffix.lower() in LIST and not products.is_metadata_name(text)


def _listed(path: Path) -> Iterator[SceneInput]:
    lines = read_text(path, most=LARGEST).splitlines()
    empty = True
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if "\0" in text:
            raise InputError(f"{path}: line {number} has a NUL byte: not a list of scenes")
        if text and not text.startswith("#"):
            empty = False
            at = text if is_remote(text) else str(path.parent / text)
            yield _plain(at, f"{path} line {number}: {text}")
    if empty:
        raise InputError(f"{path}: the list names no scene")


def _rows(path: Path) -> Iterator[SceneInput]:
    import pandas as pd

    from crossband.data import manifest

    table = manifest.read(path, any_split=True, lenient=True, sources=True)
    rows = table[table["source"].notna()]
    if rows.empty:
        raise ManifestError(f"{path}: no row has a source")
    for record in rows.to_dict("records"):
        row = {str(k): v for k, v in record.items()}
        label = f"{path} row {row['row']}: {Path(row['source']).name}"
        try:
            read = _read_options({k: v for k, v in row.items() if not pd.isna(v)})
            guide = GuideOptions.of_row(row)
        except CrossbandError as error:
            raise ManifestError(f"{path}: row {row['row']}: {error}") from error
        stem = _plain(row["source"]).stem
        if read.window is not None:  # several rows may be parts of one image
            stem += "_" + read.window.srcwin().replace(",", "-")
        yield SceneInput(row["source"], stem, label, read, guide=guide, row=row)


def _read_options(row: dict[str, Any]) -> ReadOptions:
    """Return the options that the columns of a row state for its source.

    Args:
        row: its cells by column, without empty ones.
    """
    from crossband.data.rows import parse_window

    stated: dict[str, Any] = {
        name: row[name] for name in ("sensor", "scale", "offset", "nodata") if name in row
    }
    if "source_bands" in row:
        stated["bands"] = parse_bands(row["source_bands"])
    if "source_window" in row:
        stated["window"] = parse_window(row, "source")
    return ReadOptions(**stated)


def _items(text: str) -> list[Any] | None:
    """Return the items of a STAC item collection; None for anything else."""
    path = Path(text)
    if path.suffix.lower() not in COLLECTION or not path.is_file():
        return None
    try:
        data = parse_json(read_bytes(path, most=LARGEST))
    except (InputError, ValueError):
        return None  # opening it as a scene reports the error
    if not isinstance(data, dict) or data.get("type") != "FeatureCollection":
        return None
    items = data.get("features")
    if not isinstance(items, list) or not items:
        raise InputError(f"{text}: the collection has no items")
    return items


def _collected(text: str, items: Sequence[Any]) -> Iterator[SceneInput]:
    seen: set[str] = set()
    for number, item in enumerate(items, start=1):
        name = item.get("id") if isinstance(item, dict) and "stac_version" in item else None
        if not isinstance(name, str) or not name:
            raise InputError(f"{text}: feature {number} is no STAC item (no stac_version or id)")
        if "\0" in name:
            raise InputError(f"{text}: the id of feature {number} has a NUL byte")
        if name in seen:
            raise InputError(f"{text}: two items are called {name!r}")
        seen.add(name)
        stem = re.sub(r"[/\\\0]", "_", name)
        label = f"{text} item {name}"
        yield SceneInput(item_path(text, name), stem, label, guide=_item_guide(text, item, label))


def _item_guide(text: str, item: dict[str, Any], label: str) -> GuideOptions:
    """Return what the properties of an item say of its guide; paths count from the collection."""
    properties = item.get("properties")
    stated = properties if isinstance(properties, dict) else {}
    row: dict[str, Any] = {}
    for column in columns.GUIDE:
        value = stated.get(f"{PREFIX}{column}")
        if value is not None and not isinstance(value, str):
            raise InputError(f"{label}: its property {PREFIX}{column} is no text")
        row[column] = value or None
    path = row.get("guide")
    if path is not None and not is_remote(path):
        if "\0" in path:
            raise InputError(f"{label}: its property {PREFIX}guide has a NUL byte")
        row["guide"] = str(Path(text).parent / path)
    try:
        return GuideOptions.of_row(row)
    except CrossbandError as error:
        raise InputError(f"{label}: {error}") from error


def item_path(collection: str, name: str) -> str:
    """Return the path under which one item of a collection is opened, as in `items.json#ID`."""
    return f"{collection}#{name}"


def _is_pattern(text: str) -> bool:
    return glob.has_magic(text) and not Path(text).exists()
