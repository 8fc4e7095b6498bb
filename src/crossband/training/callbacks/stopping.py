"""Signals that end a training between two steps, agreed between its processes.

SIGINT is Ctrl-C. SIGTERM is what a cluster sends before it takes the machine away, SIGUSR1 what
`--signal=USR1@60` makes SLURM send a minute before that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from crossband.data.workers import SIGNALS
from crossband.errors import Interrupted, Preempted

#: Steps between two agreements of several processes: often enough for a grace of seconds, and
#: seldom enough that lining the processes up costs nothing.
AGREE_EVERY = 10
#: Seconds in which a second SIGTERM is the same one: a cluster signals the whole group, and a
#: launcher passes it on as well.
REPEAT_SECONDS = 0.5


class StopRequest:
    """The wish to stop: the number of the signal that made it, 0 for none.

    Attributes:
        signal: set by a signal; a test may set it.
        training: whether a training waits to be asked; outside one, a signal stops at once.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.training = False
        self._seen: set[int] = set()
        self._first = 0.0
        self._group: Any = None
        self._launcher: Any = None
        self._installed = False

    def agreed(self, step: int, *, now: bool = False) -> int:
        """Return the signal that any process got, the same in all of them at the same step.

        Several processes ask each other on the CPU, over gloo, every `AGREE_EVERY` steps: nothing
        waits for an accelerator, and one process alone asks nobody.

        Args:
            step: generator steps done.
            now: ask whatever the step is; all processes must say so at the same one.
        """
        if self._group is None:
            return self.signal
        if not now and step % AGREE_EVERY:
            return 0
        signals = torch.tensor([self.signal])
        torch.distributed.all_reduce(signals, torch.distributed.ReduceOp.MAX, group=self._group)
        self.signal = int(signals)
        return self.signal

    def error(self, step: int | None = None) -> Interrupted | Preempted:
        """Return what to raise: which code says "go on with --resume" depends on the signal."""
        after = "" if step is None else f" after step {step}"
        if self.signal in (0, signal.SIGINT):
            return Interrupted(f"stopped{after}; go on with --resume")
        name = signal.Signals(self.signal).name
        return Preempted(f"stopped{after} by {name}; go on with --resume")

    def install_handlers(self, trainer: lightning.Trainer) -> None:
        """Put our handlers where Lightning put its own, and learn which processes there are.

        Its handlers would end the run inside a step, forward the signal, and under SLURM requeue
        the job by themselves.
        """
        self._launcher = trainer.strategy.launcher
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            self._group = torch.distributed.new_group(backend="gloo")
        if self._installed:
            self._install()

    @contextlib.contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Context in which the signals are ours; only Python's main thread can have them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self._installed = True
        self._install()
        try:
            yield
        finally:
            self._installed = False
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def during_training(self) -> Iterator[None]:
        """Context of a training: a signal waits for the end of the step."""
        self.training, self._group, self._launcher = True, None, None
        try:
            yield
        finally:
            self.training, self._group, self._launcher = False, None, None

    def _install(self) -> None:
        for number in SIGNALS:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        again = number in self._seen
        self._seen.add(number)
        self.signal = max(self.signal, number)  # SIGTERM wins over the others
        if not self.training or (again and number == signal.SIGINT):
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            _say("\nstopping after this step (Ctrl-C again stops at once)\n")
        elif number == signal.SIGTERM:
            if not again:
                self._first = time.monotonic()
            elif time.monotonic() - self._first > REPEAT_SECONDS:
                self._end()

    def _end(self) -> None:
        """End at once, the processes that were started too."""
        if self._launcher is not None:
            with contextlib.suppress(OSError):
                self._launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))
        os._exit(128 + signal.SIGTERM)


def _say(text: str) -> None:
    # A signal may come in the middle of a write to the same stream, which Python refuses.
    with contextlib.suppress(RuntimeError):
        sys.stderr.write(text)


def no_requeue() -> list[Any]:
    """Return the plugin that keeps Lightning from requeueing a SLURM job by itself."""
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def was_launched(trainer: lightning.Trainer) -> bool:
    """Say whether Lightning started this process beside the first one.

    Such a process ends with code 0 when all have agreed to stop: Lightning kills the first one
    when another one ends with any other code, and it is the first one's code that is seen.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return isinstance(environment, LightningEnvironment) and trainer.local_rank > 0
