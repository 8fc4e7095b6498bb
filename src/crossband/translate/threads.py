"""Reading and writing beside the computing: one thread before it, one behind, short queues between.

GDAL, NumPy and the file system let go of Python's lock while they work, and so does torch. The
queues are bounded: what is read ahead and what waits to be written does not grow with the scene.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from crossband.raster.blocks import ReadStats

T = TypeVar("T")
_END = object()
#: Seconds after which a thread that waits looks whether it is still wanted.
_LOOK = 0.2


@dataclass
class Statistics:
    """What a translation did, and where its time went.

    Attributes:
        pixels: pixels of the result.
        tiles: tiles of the plan.
        computed: tiles that went through the network in this run.
        empty: tiles of this run where every pixel is masked.
        resumed: tiles that an earlier run had finished.
        seen: source pixels that the network saw in this run, halos included.
        kept: source pixels of them that were kept.
        reads: what was read.
        computing: seconds in the network.
        waiting_for_reading: seconds in which the network waited for a window.
        waiting_for_writing: seconds in which it waited for the writer.
        windows: seconds from the first window's reading to the last one's computing.
        draining: seconds from there until all windows are on disk.
        finishing: seconds for making the final file.
        skipped: nothing was done, as the finished file was there.
    """

    pixels: int = 0
    tiles: int = 0
    computed: int = 0
    empty: int = 0
    resumed: int = 0
    seen: int = 0
    kept: int = 0
    reads: ReadStats = field(default_factory=ReadStats)
    computing: float = 0.0
    waiting_for_reading: float = 0.0
    waiting_for_writing: float = 0.0
    windows: float = 0.0
    draining: float = 0.0
    finishing: float = 0.0
    skipped: bool = False

    @property
    def halo(self) -> float:
        """Source pixels computed per pixel kept, minus one."""
        return self.seen / self.kept - 1.0 if self.kept else 0.0

    @property
    def reads_per_block(self) -> float:
        """How often a block of the file was decoded, on average."""
        return self.reads.block_reads / self.reads.blocks if self.reads.blocks else 0.0


class Interrupts:
    """Ctrl-C between two items, not in the middle of a lock: a queue does not survive that.

    A second Ctrl-C is let through at once. A program with a handler of its own keeps it.
    """

    def __init__(self) -> None:
        self._asked = False
        self._old: Any = None

    def __enter__(self) -> Self:
        ours = threading.current_thread() is threading.main_thread()
        if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._old = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        if self._old is not None:
            signal.signal(signal.SIGINT, self._old)

    def _ask(self, *_: object) -> None:
        self._asked = True
        signal.signal(signal.SIGINT, self._old)

    def check(self) -> None:
        """Raise KeyboardInterrupt where the user has asked for it."""
        if self._asked:
            raise KeyboardInterrupt


class Prefetcher(Generic[T]):
    """Iterates over a generator that runs in a thread of its own, a few items ahead.

    Args:
        items: closed in its thread, whatever happens.
        check: called before each item and while there is none; may raise.
        depth: items that may wait.
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
                item = self._queue.get(timeout=_LOOK)
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

    Leaving the context waits until all that was put is done, also after an error or Ctrl-C.

    Args:
        consume: what is done with an item; after it raised, nothing more is done.
        depth: items that may wait.
    """

    def __init__(self, consume: Callable[[T], None], depth: int = 1) -> None:
        self._consume = consume
        self._queue: queue.Queue[Any] = queue.Queue(depth)
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
        """Hand over an item; raises what `consume` raised on an earlier one."""
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
    """Put an item unless the other side has gone; says whether it was put."""
    while not stop.is_set():
        try:
            items.put(item, timeout=_LOOK)
        except queue.Full:
            continue
        return True
    return False
