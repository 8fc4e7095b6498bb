"""Engines that a process keeps, so that many scenes and blocks share one loaded model."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import torch

from crossband.model import Model
from crossband.translate.engine import Engine, EngineKey

#: Engines that are kept at most; the least recently used one is dropped.
_KEPT = 4
_engines: dict[EngineKey, Engine] = {}
_gates: dict[str, threading.Semaphore] = {}
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
    """Return the semaphore that limits how many windows a device of this process computes at once.

    One network uses all of torch's threads, so more windows at once would only take more memory.
    Workers of dask.distributed give torch one thread each, and then one window per processor is
    computed.
    """
    device = engine.device.type
    if device not in _gates:
        threads = max((os.cpu_count() or 1) // torch.get_num_threads(), 1)
        _gates[device] = threading.Semaphore(threads if device == "cpu" else 1)
    return _gates[device]
