"""The base of layouts: they find files, pair them, and report what is missing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from crossband.core.registry import Registered
from crossband.data.splits import leakage
from crossband.errors import InputError, ManifestError

#: Columns of a manifest -> values; see `crossband.data.manifest`. Paths are absolute.
Row = dict[str, Any]


class FileSearch:
    """Finds files below a folder, and records what it searched and found.

    Attributes:
        root: the folder.
        searched: pattern -> number of files.
        unmatched: files without a counterpart, and which side is missing.
        left_out: files that cannot be used, and why.
        notes: what a user must know of this dataset, in lines.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.searched: dict[str, int] = {}
        self.unmatched: list[tuple[Path, str]] = []
        self.left_out: list[tuple[Path, str]] = []
        self.notes: list[str] = []
        self._patterns: list[str] = []

    def files(self, *patterns: str, suffixes: Collection[str] = ()) -> list[Path]:
        """Return the files below the root that match one of some glob patterns, sorted.

        Args:
            patterns: as `train/*.png`.
            suffixes: accepted extensions in lower case; `.PNG` matches `.png`.
        """
        found = {p for pattern in patterns for p in self.root.glob(pattern)}
        if suffixes:
            found = {p for p in found if p.suffix.lower() in suffixes}
        found = {p for p in found if p.is_file()}
        self.searched[" or ".join(patterns)] = len(found)
        self._patterns += patterns
        return sorted(found)

    def elsewhere(self) -> Path | None:
        """Return the folder one level up or down with most of the patterns; None if none."""
        # Patterns without a folder match anywhere; recursive ones were searched below already.
        specific = [p for p in self._patterns if "/" in p and not p.startswith("**")]
        if not specific or not self.root.is_dir():
            return None
        near = [self.root.parent, *sorted(p for p in self.root.iterdir() if p.is_dir())]
        hits = [sum(next(iter(d.glob(p)), None) is not None for p in specific) for d in near]
        return near[hits.index(max(hits))] if max(hits) else None

    def pair(
        self,
        sources: Iterable[Path],
        targets: Iterable[Path],
        key: Callable[[Path], Hashable],
        target_key: Callable[[Path], Hashable] | None = None,
    ) -> Iterator[tuple[Path, Path]]:
        """Yield sources and targets with equal keys; the others are added to `unmatched`.

        Args:
            sources: files.
            targets: files.
            key: returns what both files of a pair have in common, as the stem of the name.
            target_key: the same for targets, if it differs.

        Raises:
            ManifestError: two files of one side have the same key.
        """
        left = self._keyed(sources, key)
        right = self._keyed(targets, target_key or key)
        for name, path in left.items():
            if name in right:
                yield path, right[name]
            else:
                self.unmatched.append((path, "target"))
        self.unmatched += [(path, "source") for name, path in right.items() if name not in left]

    def _keyed(
        self, files: Iterable[Path], key: Callable[[Path], Hashable]
    ) -> dict[Hashable, Path]:
        out: dict[Hashable, Path] = {}
        for path in files:
            name = key(path)
            if name in out:
                raise ManifestError(f"{out[name]} and {path} are both called {name!r}")
            out[name] = path
        return out


class Layout(Registered, family="Layout", package="crossband.data.layouts", key="name"):
    """How the files of a dataset are arranged on a disk.

    A subclass has a `name`, an `origin` (one line that says what the data is and where it comes
    from), and `rows`. Its options are the keyword arguments of its constructor, of type str, int,
    float or bool; the command takes them as `--option`. The class docstring is the help text of the
    command. Rows state bands, sensor and scale as the documentation of the dataset does, never from
    pixel values.
    """

    name: ClassVar[str]
    origin: ClassVar[str]
    #: Whether ROOT may be a file, such as a list of scenes.
    takes_file: ClassVar[bool] = False

    def rows(self, search: FileSearch) -> Iterable[Row]:
        """Yield the rows of the manifest; `search` records what was searched and is missing."""
        raise NotImplementedError


@dataclass(frozen=True)
class LayoutResult:
    """The result of a layout: a manifest, and what a user must know of it.

    Attributes:
        table: the manifest.
        searched: pattern -> number of files.
        unmatched: files without a counterpart, and which side is missing.
        left_out: files that cannot be used, and why.
        notes: what a user must know, in lines.
    """

    table: pd.DataFrame
    searched: Mapping[str, int]
    unmatched: list[tuple[Path, str]] = field(default_factory=list)
    left_out: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the report in lines: counts, missing files, leakage of the split."""
        table = self.table
        both = int((table["source"].notna() & table["target"].notna()).sum())
        groups = "no groups"
        if "group" in table:  # a row without a group is its own group
            alone = "row " + table.index.astype(str).to_series(index=table.index)
            table = table.assign(group=table["group"].where(table["group"].notna(), alone))
            groups = f"{table['group'].nunique():,} groups"
        out = [f"{both:,} pairs, {groups}{_by_split(table)}"]
        made = pd.Series(False, index=table.index)
        if "degradation" in table:
            made = table["source"].isna() & table["degradation"].notna()
            for how, count in table.loc[made, "degradation"].value_counts().items():
                out.append(f"{count:,} targets, whose source is made at reading: {how}")
        for side, other in (("source", "target"), ("target", "source")):
            only = int((table[side].notna() & table[other].isna() & ~made).sum())
            if only:
                out.append(f"{only:,} rows have a {side} only")
        if self.unmatched:
            out += self._missing(len(table) + len(self.unmatched))
        if self.left_out:
            path, why = self.left_out[0]
            count = len(self.left_out)
            out.append(f"{count:,} files cannot be used and were left out, as {_why(path, why)}")
        out += self.notes
        if "split" in table and "group" in table:
            by = table["split_by"].iloc[0] if "split_by" in table else "the given split"
            out += [f"{by} leaks: {leak}" for leak in leakage(table) if leak.cut]
        return out

    def _missing(self, total: int) -> list[str]:
        out = []
        for side in ("target", "source"):
            files = [path for path, missing in self.unmatched if missing == side]
            if files:
                out.append(
                    f"{len(files):,} of {total:,} files and pairs have no {side} and were left "
                    f"out, as {files[0]}"
                )
        if len(self.unmatched) * 2 >= total:
            out.append(f"that is half of them or more; looked for {_words(self.searched)}")
        return out


def build_manifest(layout: Layout, root: str | Path) -> LayoutResult:
    """Build the manifest of a dataset from its files, which stay where they are.

    Raises:
        InputError: the folder is not there.
        ManifestError: no pair is found; the message says what was searched.
    """
    root = Path(root)
    if not root.is_dir() and not (layout.takes_file and root.is_file()):
        raise InputError(f"{root}: {'not a folder' if root.is_file() else 'no such folder'}")
    search = FileSearch(root.resolve())
    rows = list(layout.rows(search))
    if not rows:
        raise ManifestError(_nothing(layout, root, search))
    table = pd.DataFrame(rows)
    for column in ("source", "target"):
        files = table[column] if column in table else [None] * len(rows)
        table[column] = pd.Series([None if pd.isna(f) else str(f) for f in files], dtype=object)
    first = ["source", "target"]
    filled = [c for c in table.columns if c not in first and table[c].notna().any()]
    table = table[first + filled]
    return LayoutResult(table, search.searched, search.unmatched, search.left_out, search.notes)


def _nothing(layout: Layout, root: Path, search: FileSearch) -> str:
    """Return the message for a layout without any row: what was searched, and hints."""
    out = (
        f"{root}: nothing that fits the layout {layout.name}: looked for {_words(search.searched)}"
    )
    if search.unmatched:
        path, side = search.unmatched[0]
        out += f"; {len(search.unmatched):,} files have no counterpart, as {path} no {side}"
    if search.left_out:
        path, why = search.left_out[0]
        out += f"; {len(search.left_out):,} files cannot be used, as {_why(path, why)}"
    elif not any(search.searched.values()) and (other := search.elsewhere()) is not None:
        out += f"; such files are in {other}: is that what you mean?"
    return "; ".join([out, *search.notes])


def _why(path: Path, why: str) -> str:
    return why if str(path) in why else f"{path}: {why}"


def _words(searched: Mapping[str, int]) -> str:
    return ", ".join(f"{what} ({count:,} files)" for what, count in searched.items()) or "nothing"


def _by_split(table: pd.DataFrame) -> str:
    if "split" not in table:
        return ""
    counts = table["split"].value_counts()
    return ": " + ", ".join(f"{s} {counts[s]:,}" for s in ("train", "val", "test") if s in counts)
