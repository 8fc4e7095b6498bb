"""Stop a training between two steps after a signal; all processes stop at the same step.

SIGINT is Ctrl-C. A cluster sends SIGTERM before it takes a machine away. With `--signal=USR1@60`,
SLURM sends SIGUSR1 a minute before that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from crossband.core.messages import say
from crossband.core.signals import SIGNALS, Interrupter, handled
from crossband.errors import Interrupted, Preempted

#: Steps between two synchronisations of the processes: often enough for a grace period of seconds,
#: and rare enough to cost nothing.
AGREE_EVERY = 10
#: A second SIGTERM within so many seconds is the same one: a cluster signals the whole process
#: group, and a launcher forwards the signal too.
REPEAT_SECONDS = 0.5


class StopRequest:
    """A request to stop the training, made by a signal.

    Attributes:
        signal: number of the signal; 0 without a request. Tests may set it.
        training: whether a training runs, which stops after its step; otherwise a signal stops at
            once.
    """

    def __init__(self) -> None:
        self.signal = 0
        self.training = False
        self._phase = ""
        self._seen: set[int] = set()
        self._first = 0.0
        self._group: Any = None
        self._launcher: Any = None
        self._installed = False
        self._interrupter = Interrupter()

    def agreed(self, step: int, *, now: bool = False) -> int:
        """Return the signal that any process received; the same value in all processes.

        Several processes communicate on the CPU with gloo, every `AGREE_EVERY` steps, so nothing
        waits for an accelerator. A single process returns its own signal.

        Args:
            step: generator steps done.
            now: communicate at this step; all processes must pass the same value.
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
        """Return the exception to raise; its exit code depends on the signal."""
        after = f" {self._phase}" if self._phase else ""
        after += "" if step is None else f" after step {step}"
        if self.signal in (0, signal.SIGINT):
            return Interrupted(f"stopped{after}; go on with --resume")
        name = signal.Signals(self.signal).name
        return Preempted(f"stopped{after} by {name}; go on with --resume")

    def install_handlers(self, trainer: lightning.Trainer) -> None:
        """Replace Lightning's signal handlers by ours, and create the process group.

        Lightning's handlers would end the run inside a step, forward the signal, and requeue the
        job under SLURM.
        """
        self._launcher = trainer.strategy.launcher
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            self._group = torch.distributed.new_group(backend="gloo")
        if self._installed:
            self._install()

    @contextlib.contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Return a context with our signal handlers; only Python's main thread can install them."""
        with handled(self._handle, SIGNALS) as installed:
            self._installed = installed
            try:
                yield
            finally:
                self._installed = False

    @contextlib.contextmanager
    def during_training(self, phase: str = "") -> Iterator[None]:
        """Return the context of a training, in which a signal takes effect after the step.

        Args:
            phase: what is trained, for the message, as `while fitting baseline mlp`; empty for the
                model itself.
        """
        self._phase, self.training, self._group, self._launcher = phase, True, None, None
        try:
            yield
        finally:
            self.training, self._group, self._launcher = False, None, None

    def _install(self) -> None:
        for number in SIGNALS:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        if not self.training and self._interrupter.postpone(number, frame):
            return
        again = number in self._seen
        self._seen.add(number)
        self.signal = max(self.signal, number)  # SIGTERM has priority
        if not self.training or (again and number == signal.SIGINT):
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            _say("\nstopping after this step (Ctrl-C again stops at once)")
        elif number == signal.SIGTERM:
            if not again:
                self._first = time.monotonic()
            elif time.monotonic() - self._first > REPEAT_SECONDS:
                self._end()

    def _end(self) -> None:
        """Exit at once; kill the processes that the launcher started."""
        if self._launcher is not None:
            with contextlib.suppress(OSError):
                self._launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))
        os._exit(128 + signal.SIGTERM)


def _say(text: str) -> None:
    # A signal may interrupt a write to the same stream; Python then raises RuntimeError.
    with contextlib.suppress(RuntimeError):
        say(text, error=True)


def no_requeue() -> list[Any]:
    """Return the plugins that keep Lightning from requeueing a SLURM job."""
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


def was_launched(trainer: lightning.Trainer) -> bool:
    """Return whether Lightning's launcher started this process, in addition to the first one.

    When all processes have agreed to stop, such a process must exit with code 0. With any other
    code Lightning would kill the first process, whose exit code is the one that the user sees.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return isinstance(environment, LightningEnvironment) and trainer.local_rank > 0
