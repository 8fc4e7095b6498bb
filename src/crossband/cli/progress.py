"""The progress of a scene: a bar on a terminal, otherwise plain lines."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from crossband.core.messages import duration, is_terminal, printable, say, tell
from crossband.raster.remote import name_of

#: Seconds between two lines of progress without a terminal.
LINE_SECONDS = 15.0


class Bar:
    """Shows pixels per second and the time left of a scene."""

    def __init__(self, source: str, *, quiet: bool) -> None:
        self.name, self.quiet = name_of(source), quiet
        self.start = self.printed = time.monotonic()
        self.bar: Any = None
        self.first: int | None = None
        self.pixels = 0

    def __call__(self, done: int, total: int) -> None:
        """Show how many pixels are done."""
        if self.first is None:
            self.first = done
            self.start = time.monotonic()
        self.pixels = done - self.first
        if self.quiet or tell("progress", name=self.name, done=done, total=total, unit="pixels"):
            return
        if is_terminal():
            self._draw(done, total)
        elif time.monotonic() - self.printed >= LINE_SECONDS and done < total:
            self.printed = time.monotonic()
            rate = max(self.pixels, 1) / max(self.printed - self.start, 1e-9)
            say(
                f"{self.name}: {done / total:.0%} of {total / 1e6:.1f} MPix, "
                f"{rate / 1e6:.2f} MPix/s, {duration((total - done) / rate)} left",
                error=True,
            )

    def _draw(self, done: int, total: int) -> None:
        if self.bar is None:
            from tqdm import tqdm

            self.bar = tqdm(
                total=total,
                initial=self.first,
                unit="px",
                unit_scale=True,
                desc=printable(self.name),
                leave=False,
            )
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()

    def finish(self, path: Path, beside: Iterable[Path] = ()) -> None:
        """Print the finished file with the pixels per second, and the files beside it."""
        self.close()
        if not self.quiet:
            seconds = max(time.monotonic() - self.start, 1e-9)
            say(f"{path}  {mpix(self.pixels)}, {self.pixels / 1e6 / seconds:.2f} MPix/s")
            for other in beside:
                say(other)


def mpix(pixels: int) -> str:
    """Return a number of pixels in millions.

    >>> mpix(4_000_000), mpix(400)
    ('4.00 MPix', '0.0004 MPix')
    """
    number = pixels / 1e6
    return f"{number:.2f} MPix" if number >= 0.1 else f"{number:.2g} MPix"
