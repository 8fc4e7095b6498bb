"""Files that an earlier result of the same name has left beside the new one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from crossband.core.warned import warn
from crossband.errors import BandError
from crossband.raster.output import OutputFile
from crossband.translate.index_files import index_paths
from crossband.translate.options import IntervalOptions
from crossband.translate.provenance import read_facts
from crossband.translate.uncertain_files import uncertain_paths


def earlier_files(output: Path) -> list[Path]:
    """Return the indices, intervals and familiarity that a result of this name may have left."""
    extra: dict[str, Path] = {}
    for name in str((read_facts(output) or {}).get("--index", "")).split(", "):
        with suppress(BandError):  # a file may say anything
            extra |= index_paths(output, [name])
    both = IntervalOptions(interval=0.5, familiarity=True)  # any level: the names are the same
    return [*extra.values(), *uncertain_paths(output, extra, both)]


def tell_of_earlier(outputs: Sequence[OutputFile], earlier: Sequence[Path]) -> None:
    """Warn of files that lie beside a result and are not of it."""
    made = {output.path for output in outputs}
    for path in earlier:
        if path not in made and path.exists():
            warn(
                f"{path}: it belongs to an earlier result, not to the new {outputs[0].path.name}; "
                f"remove it",
            )
