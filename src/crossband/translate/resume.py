"""Keep or remove the finished windows of a scene when its translation stops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from crossband.core.hidden_folder import folder_of
from crossband.core.warned import warn
from crossband.errors import (
    ClusterError,
    FinishError,
    GuideError,
    Interrupted,
    OutputError,
)
from crossband.raster.journal import Store
from crossband.raster.output import OutputFile
from crossband.raster.scene import Scene
from crossband.translate.provenance import undetectable_changes


def open_store(
    output: Path, known: Mapping[str, str], scene: Scene, *, resume: bool, may_change: Sequence[str]
) -> Store:
    """Open the store of a scene, and warn where changes of its source cannot be detected.

    Args:
        output: path of the result.
        known: what the pixels depend on, see `provenance.scene_facts`.
        scene: the source.
        resume: continue an interrupted run.
        may_change: names of facts that may differ from those of the interrupted run.
    """
    store = Store.open(output, known, resume=resume, may_change=may_change)
    if store.done and (words := undetectable_changes(scene)):
        warn(f"--resume: {words}")
    return store


def remove_leftovers(
    outputs: Sequence[OutputFile], known: Mapping[str, str], may_change: Sequence[str]
) -> None:
    """Remove the store of a run that was killed after its files were renamed into place.

    Args:
        outputs: the result, followed by the indices.
        known: what the pixels depend on.
        may_change: see `open_store`.
    """
    if not folder_of(outputs[0].path).is_dir():
        return
    with suppress(OutputError):  # another process holds it, or it belongs to another run
        store = Store.open(outputs[0].path, known, resume=True, may_change=may_change)
        for output_file in outputs:
            output_file.discard(store)
        store.remove()


@contextmanager
def keep_or_remove(store: Store, output: Path, batches: int, *, on_failure: bool) -> Iterator[None]:
    """Remove a store at the end of the work, or keep its finished windows for `--resume`.

    They are kept after Ctrl-C, a lost cluster, a guide that did not fit, and a failure to make
    the final file of complete windows.

    Args:
        store: the opened store.
        output: path of the result.
        batches: number of batches of the scene.
        on_failure: keep them after any other error, too.
    """
    keep = False
    try:
        yield
    except KeyboardInterrupt as stop:
        keep = bool(store.done)
        raise Interrupted(_interrupted_message(output, len(store.done), batches)) from stop
    except BaseException as error:
        may_go_on = isinstance(error, ClusterError | GuideError | FinishError)
        keep = (on_failure or may_go_on) and bool(store.done)
        raise
    finally:
        if keep:
            store.close()
        else:
            store.remove()


def _interrupted_message(output: Path, done: int, total: int) -> str:
    if not done:
        return f"{output}: interrupted before anything was finished; nothing was left"
    return (
        f"{output}: interrupted; {done} of {total} windows are kept: the same command with "
        f"--resume goes on, without it starts anew"
    )
