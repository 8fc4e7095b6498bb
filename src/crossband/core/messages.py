"""Messages for people: `say` prints each of them, and escapes control characters.

Names of files, bands, places and models, tags and cells of tables come from others. A terminal
would obey the control characters in them: clear the screen, or replace a line that it shows.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Protocol

#: Control characters except tab and newline, characters that turn the direction of text, other
#: line ends, the mark of byte order, and surrogates, which stand for bytes of names that are not
#: UTF-8.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: object) -> str:
    r"""Return text with everything escaped that is unsafe to print; newlines and tabs stay.

    >>> print(printable("a\x1b[2Jb"), printable("gr\udce9en"), printable("grün"))
    a\x1b[2Jb gr\xe9en grün
    """
    return _UNSAFE.sub(_escaped, str(text))


def printable_line(text: object) -> str:
    r"""Return text in one line, with everything escaped that is unsafe to print.

    >>> print(printable_line("a\tb\ncrossband: done"))
    a\tb\ncrossband: done
    """
    return printable(text).replace("\t", "\\t").replace("\n", "\\n")


class Listener(Protocol):
    """A program that is told what happens as events, and people are not."""

    def __call__(self, event: str, **fields: object) -> None:
        """Take an event."""


#: Standard streams are one for the process, and so is who takes their place.
_listeners: list[Listener] = []


@contextlib.contextmanager
def telling(listener: Listener) -> Iterator[None]:
    """Have all events, and all messages as events, told to a program in this context."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell(event: str, **fields: object) -> bool:
    """Tell an event to the program that listens; False where none does, and words are needed.

    Args:
        event: its kind, see docs/progress.md.
        fields: what JSON can hold.
    """
    if _listeners:
        _listeners[-1](event, **fields)
    return bool(_listeners)


def say(text: object, *, error: bool = False) -> None:
    """Print a message to stdout, or with `error` to stderr; a closed stream takes nothing.

    Characters that the stream's encoding lacks, as an ASCII terminal, are escaped, too. Where a
    program listens, it is told the event `message`.
    """
    if tell("message", text=printable(text)):
        return
    stream = sys.stderr if error else sys.stdout
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    known = printable(text).encode(encoding, "backslashreplace").decode(encoding)
    print(known, file=stream, flush=True)


def say_warning(text: object) -> None:
    """Print what a user should know, though the work goes on, to stderr."""
    if not tell("warning", text=printable(text)):
        say(f"crossband: {text}", error=True)


def is_terminal() -> bool:
    """Return whether stderr is a terminal, which can show a progress bar."""
    return sys.stderr is not None and sys.stderr.isatty()


def duration(seconds: float) -> str:
    """Return a duration as text.

    >>> [duration(s) for s in (8, 200, 9000)]
    ['8 s', '3 min', '2.5 h']
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
