"""What tests of commands share."""

from __future__ import annotations


def one_line(done, *words):
    """Check for exit code 2, one line on stderr, no traceback, and these words in it."""
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert done.stderr.startswith("crossband: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
