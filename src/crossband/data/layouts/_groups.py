"""Groups that are told from a file's place or name."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from crossband.errors import ManifestError


def group_function(by: str) -> Callable[[Path, Path], str | None]:
    r"""Return what tells a file's group from its path and the root.

    Args:
        by: `parent` for the folder that the file is in; else a regular expression that is looked
            for in the path below the root, of which the first bracket counts, or all of it where
            there is none; nothing where empty.

    >>> group = group_function(r"(scene\d+)_")
    >>> group(Path("/data/a/scene7_12.png"), Path("/data"))
    'scene7'
    """
    if not by:
        return lambda path, root: None
    if by == "parent":
        return lambda path, root: path.parent.relative_to(root).as_posix()
    try:
        pattern = re.compile(by)
    except re.error as error:
        raise ManifestError(f"--group-by {by!r} is no regular expression: {error}") from None

    def group(path: Path, root: Path) -> str | None:
        name = path.relative_to(root).as_posix()
        found = pattern.search(name)
        if found is None:
            raise ManifestError(f"--group-by {by!r} is not in {name!r}")
        return found[1] if pattern.groups else found[0]

    return group
