"""What becomes of the finished windows of a scene when its translation stops: kept, or removed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from crossband.errors import (
    ClusterError,
    CrossbandWarning,
    FinishError,
    Interrupted,
    MatchError,
    OutputError,
)
from crossband.raster.journal import Store, folder_of
from crossband.raster.scene import Scene
from crossband.raster.write import Output
from crossband.translate.provenance import unnoticed


def open_store(
    output: Path, known: Mapping[str, str], scene: Scene, *, resume: bool, later: Sequence[str]
) -> Store:
    """Open the store; say what could have changed unnoticed since it was begun."""
    store = Store.open(output, known, resume=resume, later=later)
    if store.done and (words := unnoticed(scene)):
        warnings.warn(f"--resume: {words}", CrossbandWarning, stacklevel=3)
    return store


def tidy(outputs: Sequence[Output], known: Mapping[str, str], later: Sequence[str]) -> None:
    """Remove the store of a run that was killed after its files had their names."""
    if not folder_of(outputs[0].path).is_dir():
        return
    with suppress(OutputError):  # another process has it, or it is of another run
        store = Store.open(outputs[0].path, known, resume=True, later=later)
        for made in outputs:
            made.discard(store)
        store.remove()


@contextmanager
def kept(store: Store, output: Path, jobs: int, *, on_failure: bool) -> Iterator[None]:
    """Remove a store after the work, or keep what is done of it for `--resume`.

    Args:
        store: opened.
        output: the final name.
        jobs: how many there are.
        on_failure: keep it after any error, and not only where a cluster went away, the reference
            did not fit, or a disk was full when all windows were there.
    """
    keep = False
    try:
        yield
    except KeyboardInterrupt as stop:
        keep = bool(store.done)
        raise Interrupted(_how_far(output, len(store.done), jobs)) from stop
    except BaseException as error:
        may_go_on = isinstance(error, ClusterError | MatchError | FinishError)
        keep = (on_failure or may_go_on) and bool(store.done)
        raise
    finally:
        if keep:
            store.close()
        else:
            store.remove()


def _how_far(output: Path, done: int, total: int) -> str:
    if not done:
        return f"{output}: interrupted before anything was finished; nothing was left"
    return (
        f"{output}: interrupted; {done} of {total} windows are kept: the same command with "
        f"--resume goes on, without it starts anew"
    )
