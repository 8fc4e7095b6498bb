"""Compute several batches of tiles at once on a CPU, each in a thread of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import torch
from torch import Tensor

from crossband.translate.engine import Engine, PreparedBatch

#: Batches computed at once, at most; each takes the memory of its tiles.
AT_ONCE = 4
_Pending = tuple[PreparedBatch, Future[Tensor | None]]


class TilePool:
    """Computes prepared batches, several at once where the network gains by it.

    A network of many small operations leaves all but one processor idle between two of them, and
    small operations are hardly faster in several threads. So each batch gets its share of torch's
    threads, and as many batches are computed as there are shares. The result does not depend on it.

    Use as a context manager; leaving it waits for the batches that are being computed.

    Args:
        engine: the model; one on an accelerator computes one batch at a time.
        batches: batches of the plan; a single one gets all threads.

    Attributes:
        workers: batches that are computed at once.
    """

    def __init__(self, engine: Engine, batches: int) -> None:
        self._engine = engine
        fits = engine.device.type == "cpu" and engine.model.network.parallel_tiles
        self.workers = min(torch.get_num_threads(), AT_ONCE, batches) if fits else 1
        self._pool = _start(self.workers) if self.workers > 1 else None

    def compute(
        self, items: Iterable[PreparedBatch], waited: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[PreparedBatch, Tensor | None]]:
        """Yield each batch with its predictions, in order; see `Engine.compute`.

        Args:
            items: the batches; one more than is computed at once is taken ahead.
            waited: called after each wait for the next item.
        """
        if self._pool is None:
            for item in items:
                waited()
                yield item, self._engine.compute(item)
            return
        pending: deque[_Pending] = deque()
        for item in items:
            waited()
            pending.append((item, self._pool.submit(self._engine.compute, item)))
            if len(pending) > self.workers:
                yield _finished(pending.popleft())
        while pending:
            yield _finished(pending.popleft())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _finished(pending: _Pending) -> tuple[PreparedBatch, Tensor | None]:
    item, future = pending
    return item, future.result()


def _start(workers: int) -> ThreadPoolExecutor:
    """Start threads that share torch's threads."""
    threads = torch.get_num_threads()
    share, all_there = threads // workers, threading.Barrier(workers + 1)

    def begin() -> None:
        torch.get_num_threads()  # its first call in a thread sets the number of the whole process
        torch.set_num_threads(share)

    pool = ThreadPoolExecutor(workers, "crossband-compute", initializer=begin)
    for _ in range(workers):
        pool.submit(all_there.wait)
    all_there.wait()
    # The number holds for the thread that sets it, and for threads that begin later.
    torch.set_num_threads(threads)
    return pool
