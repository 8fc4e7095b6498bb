"""What a loading process does with signals: nothing."""

from __future__ import annotations

import signal

#: Signals that ask a training to end; Windows has no SIGUSR1.
SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, n)]


def ignore_signals(worker: int) -> None:
    """Let a loading process go on: a signal is for the training, which still ends its step.

    Ctrl-C and clusters signal the whole group of processes; a loader that died of it would take
    the step with it. It ends when the training tells it to, or is gone.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
