"""Worker processes of a data loader: they ignore signals, and their errors are unwrapped."""

from __future__ import annotations

import re
import signal

from crossband.errors import CrossbandError

#: Signals that ask a training to end; Windows has no SIGUSR1.
SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, n)]


def ignore_signals(worker: int) -> None:
    """Ignore the signals that end a training; the `worker_init_fn` of a data loader.

    Ctrl-C and schedulers signal all processes of a group. The training process finishes its step,
    which needs its loading processes. They end when it tells them to, or when it has ended.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def original(error: CrossbandError) -> CrossbandError:
    """Return the error as the loading process raised it: torch adds a traceback to its message.

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
