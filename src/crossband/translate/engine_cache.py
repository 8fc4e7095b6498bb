"""Engines that a process keeps, so that many scenes and blocks share one loaded model."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch

from crossband.model import Model
from crossband.translate.engine import Engine


@dataclass(frozen=True)
class EngineKey:
    """The key of an engine among those that a process keeps.

    Attributes:
        identity: hash of the model, see `model.identity`.
        device: auto, cpu, cuda or mps.
        precision: auto, fp32 or bf16.
    """

    identity: str
    device: str
    precision: str


#: Engines that are kept at most; the least recently used one is dropped.
_KEPT = 4
_engines: dict[EngineKey, Engine] = {}
_gate: threading.Semaphore | None = None
_lock = threading.Lock()


def shared_engine(key: EngineKey, load: Callable[[], Model]) -> Engine:
    """Return this process's engine for a model.

    Args:
        key: of the engine.
        load: returns the model; called where the process has no such engine yet.
    """
    with _lock:
        engine = _engines.pop(key, None)
        if engine is None:
            engine = Engine(load(), key.device, key.precision)
            engine.gate = _compute_gate(engine)
        _engines[key] = engine  # at the end: the most recent one
        while len(_engines) > _KEPT:
            del _engines[next(iter(_engines))]
        return engine


def _compute_gate(engine: Engine) -> threading.Semaphore:
    """Return the semaphore that limits how many windows are computed at once in this process.

    One network uses all of torch's threads, so more windows at once would only take more memory.
    Workers of dask.distributed give torch one thread each, and then one window per processor is
    computed.
    """
    global _gate  # noqa: PLW0603 - one for all engines of the process
    if _gate is None:
        threads = max((os.cpu_count() or 1) // torch.get_num_threads(), 1)
        _gate = threading.Semaphore(threads if engine.device.type == "cpu" else 1)
    return _gate
