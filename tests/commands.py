"""What tests of commands share."""

from __future__ import annotations

import time

#: Seconds for what takes a few on an idle machine.
PATIENCE = 240


def wait_until(so, process):
    """Wait until something is so; the process must be at work all the while."""
    end = time.monotonic() + PATIENCE
    while not so():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def one_line(done, *words):
    """Check for exit code 2, one line on stderr, no traceback, and these words in it."""
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert done.stderr.startswith("crossband: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
