"""Signals that end a command: none takes effect while a library is imported.

A KeyboardInterrupt inside an import is lost where the library catches it, and aborts the process
where C++ code imports.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

from crossband.errors import Preempted

#: Signals that ask a training to end; Windows has no SIGUSR1.
SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, n)]
#: Seconds after which a postponed signal comes again.
AGAIN_SECONDS = 0.05


class Interrupter:
    """A signal handler that raises KeyboardInterrupt, as soon as no library is being imported.

    Args:
        note: called with the number of the signal when it takes effect.
    """

    def __init__(self, note: Callable[[int], None] = lambda number: None) -> None:
        self._note = note
        self._outer = _imports(sys._getframe())

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt, or postpone the signal."""
        if not self.postpone(number, frame):
            self._note(number)
            raise KeyboardInterrupt

    def postpone(self, number: int, frame: FrameType | None) -> bool:
        """Return whether a library is being imported; if so, the signal comes again soon.

        Imports that were under way when this was made do not count: a program may be a module.
        """
        if _imports(frame) <= self._outer:
            return False
        again = threading.Timer(AGAIN_SECONDS, _send, (number,))
        again.daemon = True
        again.start()
        return True


def _imports(frame: FrameType | None) -> int:
    """Return how many functions of the import machinery a stack holds."""
    count = 0
    while frame is not None:
        count += frame.f_code.co_filename.startswith("<frozen importlib")
        frame = frame.f_back
    return count


def _send(number: int) -> None:
    """Send a signal to this process's main thread."""
    if os.name == "posix":
        os.kill(os.getpid(), number)
    else:
        signal.raise_signal(number)


def raises_interrupt(handler: Any) -> bool:
    """Return whether a handler of SIGINT does no more than raise KeyboardInterrupt."""
    return handler is signal.default_int_handler or isinstance(handler, Interrupter)


@contextlib.contextmanager
def handled(handler: Any, numbers: Sequence[int]) -> Iterator[bool]:
    """Install a handler of signals in this context; yield whether this thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield False
        return
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in before:
            signal.signal(number, handler)
        yield True
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextlib.contextmanager
def interrupts_after_imports() -> Iterator[None]:
    """Have Ctrl-C raise KeyboardInterrupt when an import is over, and not inside one.

    A program's own handler is left alone.
    """
    if raises_interrupt(signal.getsignal(signal.SIGINT)):
        with handled(Interrupter(), [signal.SIGINT]):
            yield
    else:
        yield


@contextlib.contextmanager
def preempted() -> Iterator[None]:
    """Have SIGTERM and SIGUSR1 raise Preempted, for a command that has begun nothing yet."""
    noted: list[int] = []
    with handled(Interrupter(noted.append), SIGNALS[1:]):
        try:
            yield
        except KeyboardInterrupt:
            if not noted:
                raise
            name = signal.Signals(noted[0]).name
            raise Preempted(
                f"stopped by {name} before the training began; give the same command again"
            ) from None


def ignore_signals(worker: int = 0) -> None:
    """Ignore the signals that end a command, for the rest of the process.

    Also the `worker_init_fn` of a data loader. Ctrl-C and schedulers signal all processes of a
    group. The training process finishes its step, which needs its loading processes. They end when
    it tells them to, or when it has ended.
    """
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


#: Name of a thread that computes in C++ and cannot be ended.
UNENDING = "crossband: computes without an end"


def end_at_once(code: int) -> None:
    """End the process where a thread still computes in C++.

    When such a thread has computed, it asks for the interpreter. If that has ended, C++ aborts the
    process, with another exit code.
    """
    if any(thread.name == UNENDING for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
