"""Engines that a process keeps: what arrives there of many scenes or blocks shares one model."""

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
    """What tells one engine from another.

    Attributes:
        identity: of the model, see `model.identity`.
        device: auto, cpu, cuda or mps.
        precision: auto, fp32 or bf16.
    """

    identity: str
    device: str
    precision: str


#: Engines that are kept; of more, the one that was not asked for longest is let go.
_KEPT = 4
_engines: dict[EngineKey, Engine] = {}
_gate: threading.Semaphore | None = None
_lock = threading.Lock()


def shared_engine(key: EngineKey, load: Callable[[], Model]) -> Engine:
    """Return this process's engine for a model; `load` is called where there is none yet."""
    with _lock:
        engine = _engines.pop(key, None) or Engine(load(), key.device, key.precision)
        _engines[key] = engine  # at the end: the most recent one
        while len(_engines) > _KEPT:
            del _engines[next(iter(_engines))]
        return engine


def compute_gate(engine: Engine) -> threading.Semaphore:
    """Return what lets as many blocks compute at once as this process has processors for.

    A network takes all threads that torch has: more blocks beside each other would only take
    memory. Workers of dask.distributed give torch one thread each.
    """
    global _gate  # noqa: PLW0603 - one for all engines of the process
    with _lock:
        if _gate is None:
            threads = max((os.cpu_count() or 1) // torch.get_num_threads(), 1)
            _gate = threading.Semaphore(threads if engine.device.type == "cpu" else 1)
        return _gate
