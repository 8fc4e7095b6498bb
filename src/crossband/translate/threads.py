"""Threads that read ahead of the network and write behind it, connected by bounded queues.

GDAL, NumPy, file access and torch release Python's global lock while they work. The queues are
bounded, so that memory does not grow with the scene.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from crossband.core.signals import raises_interrupt

T = TypeVar("T")
_END = object()
#: Seconds after which a waiting thread checks whether it should stop.
_POLL_SECONDS = 0.2


class DeferredInterrupt:
    """Defers Ctrl-C to the next call of `check`, so that it cannot leave a queue's lock held.

    A second Ctrl-C interrupts at once. Where the program has its own handler of SIGINT, or this is
    not the main thread, nothing is changed. Use as a context manager.
    """

    def __init__(self) -> None:
        self._requested = False
        self._old: Any = None

    def __enter__(self) -> Self:
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and raises_interrupt(signal.getsignal(signal.SIGINT)):
            self._old = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._old is not None:
            signal.signal(signal.SIGINT, self._old)

    def _handle(self, *_: object) -> None:
        self._requested = True
        signal.signal(signal.SIGINT, self._old)

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed."""
        if self._requested:
            raise KeyboardInterrupt


class Prefetcher(Generic[T]):
    """Iterates over a generator that runs in a thread of its own, a few items ahead.

    Args:
        items: the generator; it is closed in its own thread.
        check: called before each item and while waiting for one; it may raise an error.
        depth: items that may wait in the queue.
    """

    def __init__(
        self,
        items: Generator[T, None, None],
        check: Callable[[], None] = lambda: None,
        depth: int = 2,
    ) -> None:
        self._items, self._check = items, check
        self._queue: queue.Queue[Any] = queue.Queue(depth)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="crossband-read", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for item in self._items:
                if not _put(self._queue, item, self._stop):
                    break
            self._items.close()
        except BaseException as error:  # noqa: BLE001 - raised again where the items are used
            self._error = error
        _put(self._queue, _END, self._stop)

    def __iter__(self) -> Iterator[T]:
        while True:
            self._check()
            try:
                item = self._queue.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if item is _END:
                break
            yield item
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


class BackgroundWriter(Generic[T]):
    """Hands items to a function in a thread of its own, in order.

    Leaving the context waits until all items are consumed, also after an error or Ctrl-C.

    Args:
        consume: called with each item; after it raises, no further item is consumed.
    """

    def __init__(self, consume: Callable[[T], None]) -> None:
        self._consume = consume
        self._queue: queue.Queue[Any] = queue.Queue(1)  # one item waits while one is consumed
        self._failed = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="crossband-write", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while (item := self._queue.get()) is not _END:
                self._consume(item)
                del item
        except BaseException as error:  # noqa: BLE001 - raised again where items are put
            self._error = error
            self._failed.set()

    def put(self, item: T) -> None:
        """Queue an item; raise the error that `consume` raised for an earlier one."""
        if not _put(self._queue, item, self._failed):
            self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _put(self._queue, _END, self._failed)
        self._thread.join()
        if error is None:
            self._raise()


def _put(items: queue.Queue[Any], item: Any, stop: threading.Event) -> bool:
    """Put an item unless `stop` is set; return whether it was put."""
    while not stop.is_set():
        try:
            items.put(item, timeout=_POLL_SECONDS)
        except queue.Full:
            continue
        return True
    return False
