"""What a loading process does with signals: nothing. And what its errors look like outside."""

from __future__ import annotations

import re
import signal

from crossband.errors import CrossbandError

#: Signals that ask a training to end; Windows has no SIGUSR1.
SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, n)]


def ignore_signals(worker: int) -> None:
    """Let a loading process go on: a signal is for the training, which still ends its step.

    Ctrl-C and clusters signal the whole group of processes; a loader that died of it would take
    the step with it. It ends when the training tells it to, or is gone.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def original(error: CrossbandError) -> CrossbandError:
    """Return the error that a loading process raised: torch puts its traceback into the message.

    >>> from crossband.errors import ManifestError
    >>> text = "Caught ManifestError in DataLoader worker process 0. Original Traceback (most "
    >>> text += "recent call last): ... crossband.errors.ManifestError: row 3: no such file"
    >>> original(ManifestError(text))
    ManifestError('row 3: no such file')
    """
    if "in DataLoader worker process" not in str(error):
        return error
    *_, last = re.split(rf"\b{type(error).__name__}: ", str(error))
    return type(error)(last)
