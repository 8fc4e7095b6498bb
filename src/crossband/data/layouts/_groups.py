"""Groups from the folder or name of a file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from crossband.errors import ManifestError


def group_function(by: str) -> Callable[[Path, Path], str | None]:
    r"""Return a function from a path and the root to the group of the file.

    Args:
        by: `parent` for the folder of the file, or a regular expression that is searched in the
            path below the root. Its first group is used, or the whole match if it has none. Empty:
            no group.

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
