"""A translation that is killed after so many windows."""

from __future__ import annotations

import signal

#: Ends itself as a kill would, after so many windows are on disk.
KILLED = """
import os, signal, sys
from crossband.raster import journal
journal.FLUSH_SECONDS = 0.0
limit = int(sys.argv.pop(1))
mark_done = journal.Store.mark_done
def marking(self, batch, valid):
    mark_done(self, batch, valid)
    if len(self.done) >= limit:
        os.kill(os.getpid(), signal.SIGKILL)
journal.Store.mark_done = marking
from crossband.cli.main import main
main(sys.argv[1:])
"""


def killed(interpreters, limit, *arguments):
    """Run `crossband translate` until so many windows are on disk, and no further."""
    process = interpreters.start("-c", KILLED, limit, "translate", *arguments)
    _, said = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, said
