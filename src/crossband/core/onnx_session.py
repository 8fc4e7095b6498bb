"""Run a graph in ONNX Runtime on the CPU, with limits on its time and on memory."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from crossband.core.extras import import_extra
from crossband.core.limits import Limit
from crossband.core.memory import OUT_OF_MEMORY
from crossband.core.signals import UNENDING
from crossband.errors import ModelError

RUNTIME = "onnxruntime"
#: Of all graphs of a process; read once. A few bytes of a file may ask for any amount.
MAX_MEMORY = Limit("CROSSBAND_MAX_ONNX_MIB", 8192)
#: Of one call of a graph, which is one batch of tiles. A few bytes of a file may ask for any time.
MAX_SECONDS = Limit("CROSSBAND_MAX_ONNX_SECONDS", 300)
#: Seconds that a graph has to end between two operators; within a long one it does not end.
_GRACE_SECONDS = 2.0
_AT_THE_BOUND = re.compile(r"Available memory of \d+ is smaller than requested bytes of (\d+)")


def import_runtime(what: str = "ONNX") -> Any:
    """Import ONNX Runtime; CrossbandError where it is not installed."""
    return import_extra(RUNTIME, "onnx", what)


def open_session(content: bytes, name: str) -> Any:
    """Return an InferenceSession of a graph.

    Args:
        content: of a file: no other file is opened, and its hash covers all that runs.
        name: of the graph in messages.

    Raises:
        CrossbandError: ONNX Runtime is not installed.
        ModelError: it does not take the graph.
    """
    runtime = import_runtime()
    _bound_memory(runtime)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # errors are raised as exceptions
    options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        return runtime.InferenceSession(
            content,
            options,
            providers=["CPUExecutionProvider"],
            # It computes while the graph is opened, in memory that has no bound.
            disabled_optimizers=["ConstantFolding"],
        )
    except Exception as error:
        raise failure(f"{name}: ONNX Runtime cannot open it", error) from error


def run_session(
    session: Any, feeds: dict[str, np.ndarray], name: str, outputs: Sequence[str] | None = None
) -> list[Any]:
    """Return the outputs of a graph.

    Args:
        session: of `open_session`.
        feeds: name -> values of each input.
        name: of the graph in messages.
        outputs: their names; None for all.

    Raises:
        ModelError: it fails, or takes longer than CROSSBAND_MAX_ONNX_SECONDS.
        MemoryError: the machine has not the memory.
    """
    options, ended = import_runtime().RunOptions(), threading.Event()
    options.log_severity_level = 4  # errors are raised as exceptions
    found: list[list[Any]] = []
    failed: list[Exception] = []

    def compute() -> None:
        try:
            found.append(session.run(outputs, feeds, options))
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            failed.append(error)
        ended.set()

    # In a thread: ONNX Runtime ends a run between two operators only, and one may take hours.
    threading.Thread(target=compute, name=UNENDING, daemon=True).start()
    most = MAX_SECONDS.value
    try:
        in_time = ended.wait(most)
    finally:  # Ctrl-C ends the graph, too
        options.terminate = True
    if not in_time:
        ended.wait(_GRACE_SECONDS)
        raise ModelError(
            f"{name}: it took longer than {most:,} seconds; smaller tiles or a smaller batch need "
            f"less, {MAX_SECONDS.variable}={2 * most} allows more"
        )
    if failed:
        raise failure(f"{name}: ONNX Runtime failed", failed[0]) from failed[0]
    return found[0]


@functools.cache
def _bound_memory(runtime: Any) -> None:
    """Give the sessions of this process a common allocator that has a bound."""
    kind, place = runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, runtime.OrtMemType.DEFAULT
    bound = runtime.OrtArenaCfg(MAX_MEMORY.value * 2**20, -1, -1, -1)  # -1: the runtime's choice
    try:
        runtime.create_and_register_allocator(runtime.OrtMemoryInfo("Cpu", kind, 0, place), bound)
    except Exception as error:
        if "already been registered" not in str(error):  # by the program that uses Crossband
            raise


def failure(words: str, error: Exception) -> Exception:
    """Return what to raise for an error of ONNX Runtime: of one line."""
    text = str(error)
    if found := _AT_THE_BOUND.search(text):
        asked, bound = -(-int(found[1]) // 2**20), MAX_MEMORY.value
        return ModelError(
            f"{words}: it asks for {asked:,} MiB, and graphs may take {bound:,} MiB in all; "
            f"smaller tiles need less, {MAX_MEMORY.variable}={bound + asked} would be enough"
        )
    if OUT_OF_MEMORY.search(text) or "Failed to allocate memory" in text:
        return MemoryError(text)
    return ModelError(f"{words}: {text.strip().splitlines()[0][:300] if text.strip() else error!r}")
