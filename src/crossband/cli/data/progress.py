"""Progress of commands that process the rows of a manifest."""

from __future__ import annotations

from typing import Any, Self

from crossband.core.messages import is_terminal, say, tell


class RowProgress:
    """A context manager with a progress bar on a terminal, or a line at each tenth elsewhere.

    Args:
        what: verb for the rows that are done, as `checked`.
        quiet: print nothing.
    """

    def __init__(self, what: str, *, quiet: bool = False) -> None:
        self.what, self.quiet, self.terminal = what, quiet, is_terminal()
        self.bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        """Report the number of rows done."""
        if self.quiet or tell("progress", name=self.what, done=done, total=total, unit="rows"):
            return
        if self.terminal:
            if self.bar is None:
                from tqdm import tqdm

                self.bar = tqdm(total=total, unit="row", leave=False)
            self.bar.update(done - self.bar.n)
        elif done * 10 // total != (done - 1) * 10 // total:
            say(f"{self.what} {done} of {total} rows", error=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()
