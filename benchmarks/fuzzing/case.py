"""What a case is, and how its parts are drawn."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import random
import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
#: Path in a folder -> content; text for a link to it. A path that ends with / is a folder.
Files = dict[str, bytes | str]

#: What a case has to end in, where its construction says it.
RIGHT, REFUSED = "right", "refused"


@dataclass
class Case:
    """A command, the files that it meets, and how its end is judged.

    Attributes:
        arguments: of the command, run in a folder that holds the files.
        files: that lie in the folder.
        must: RIGHT where refusing would be wrong, REFUSED where an answer would be; None where
            either will do.
        check: says what is wrong with the files of a success in the folder; None where it is right.
        made: patterns of paths that a success may make; `*` stands for slashes, too.
        environment: variables; None removes one.
        codes: exit codes of a success.
        kept: whether what a refused command made may stay, as the finished scenes of many.
        says: pattern of lines that may be on stderr beside our own, as progress.
        note: what is special, for people.
    """

    arguments: list[str]
    files: Files = field(default_factory=dict)
    must: str | None = None
    check: Callable[[Path], str | None] = lambda folder: None
    made: tuple[str, ...] = ("out.tif",)
    environment: dict[str, str | None] = field(default_factory=dict)
    codes: tuple[int, ...] = (0,)
    kept: bool = False
    says: str = "$^"
    note: str = ""

    def makes(self, name: str) -> bool:
        """Return whether a success may make this path."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.made)


def listed(text: str) -> tuple[str, ...]:
    """Return the words of a text."""
    return tuple(text.split())


class Draw(random.Random):
    """Random draws."""

    def chance(self, share: float) -> bool:
        """Return True in this share of all draws."""
        return self.random() < share

    def some(self, items: Sequence[T], most: int) -> list[T]:
        """Return up to `most` items, in their order."""
        chosen = self.sample(range(len(items)), self.randint(0, min(most, len(items))))
        return [items[n] for n in sorted(chosen)]

    def text(self, most: int = 12) -> str:
        """Return text of any characters, few of them harmless."""
        kinds = (
            string.ascii_letters,
            string.punctuation + " ",
            "\x00\x01\x1b\x7f\t\n\r\x85\u2028\u202e\ufeff",
            "éßæ中文🛰 \u02bc\u0301",
            "\udce9\udcff",
        )
        weights = (12, 4, 1, 2, 1)
        return "".join(
            self.choice(self.choices(kinds, weights)[0]) for _ in range(self.randint(0, most))
        )

    def number(self) -> str:
        """Return a number as text, or what looks like one."""
        return self.choice(
            (
                *("0", "1", "-1", "2", "0.0001", "1e-4", "-0.1", "255", "65535", "-9999"),
                *("nan", "inf", "-inf", "NaN", "1e300", "-1e300", "1e-320", "1e400", "-0.0"),
                *("", " ", "abc", "0x10", "1,5", "1e", "١٢", "²", "1_000", "True", "null", "--"),
                *("9" * 25, "-" + "9" * 25, "9" * 5000, "2147483647", "2147483648"),
                *("-2147483649", "4294967296", "9223372036854775807", "18446744073709551615"),
                str(self.randint(-10, 300)),
                f"{self.uniform(-5, 5):.6g}",
                repr(self.uniform(-1, 1) * 10 ** self.randint(-40, 40)),
            )
        )

    def json_value(self, depth: int = 0) -> Any:
        """Return any value of JSON."""
        leaves: list[Any] = [None, True, False, 0, -1, 1.5, 10**9, 10**40, 1e308]
        leaves += [float("nan")]
        leaves += ["", "x", self.text(), self.number(), [], {}, -(10**30), 2**31, 0.1]
        if depth < 3 and self.chance(0.3):
            inner = [self.json_value(depth + 1) for _ in range(self.randint(0, 3))]
            return inner if self.chance(0.5) else {self.text(4): value for value in inner}
        return self.choice(leaves)


def mutate_bytes(draw: Draw, data: bytes, most: int = 12) -> bytes:
    """Return bytes with a few changes, mostly near the head: set, cut, inserted, copied."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 3, draw.randint(1, most)))):
        if not out:
            break
        at = draw.randrange(min(len(out), draw.choice((16, 64, 300, 10**9))))
        kind = draw.randrange(8)
        if kind == 0:
            out[at] = draw.randrange(256)
        elif kind == 1:
            out[at] ^= 1 << draw.randrange(8)
        elif kind == 2:
            del out[draw.randrange(len(out)) :]
        elif kind == 3:
            word = draw.choice((b"\xff" * 4, b"\x00" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"))
            out[at : at + len(word)] = word
        elif kind == 4:
            out[at:at] = draw.randbytes(draw.randint(1, 8))
        elif kind == 5:
            del out[at : at + draw.randint(1, 8)]
        elif kind == 6:
            other = draw.randrange(len(out))
            out[at : at + 12] = out[other : other + 12]
        else:
            out[at : at + 2] = draw.randrange(2**16).to_bytes(2, "little")
    return bytes(out)


def mutate_text(draw: Draw, text: str, words: Sequence[str] = ()) -> bytes:
    """Return text with a few changes, in an encoding.

    Args:
        draw: of random numbers.
        text: to change.
        words: pieces that are put in, beside odd ones.
    """
    odd = (*words, draw.text(), draw.number(), "\x00", "&amp;", "<!--", "]]>", "[" * 500)
    for _ in range(draw.choice((1, 1, 2, 3, 6))):
        at = draw.randrange(len(text) + 1)
        kind = draw.randrange(5)
        if kind == 0:
            text = text[:at] + draw.choice(odd) + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + draw.randint(1, 20) :]
        elif kind == 2:
            text = text[:at] + text[at : at + 40] * draw.choice((2, 3, 50)) + text[at + 40 :]
        elif kind == 3:
            text = _replaced_number(draw, text)
        else:
            text = text[:at] if draw.chance(0.3) else text.swapcase() if draw.chance(0.1) else text
    encoding = draw.choices(("utf-8", "latin-1", "utf-16", "utf-8-sig"), (20, 2, 1, 2))[0]
    # Surrogates stand for bytes where such a byte can be, and are written as they are elsewhere.
    for errors in ("surrogateescape", "surrogatepass"):
        with contextlib.suppress(UnicodeEncodeError):
            return text.encode(encoding, errors)
    return text.encode(encoding, "replace")


def _replaced_number(draw: Draw, text: str) -> str:
    found = list(re.finditer(r"-?\d+(\.\d+)?", text))
    if not found:
        return text
    one = draw.choice(found)
    return text[: one.start()] + draw.number() + text[one.end() :]


def mutate_tree(draw: Draw, tree: Any) -> Any:
    """Return plain data with one node changed: replaced, removed, doubled, renamed, nested."""
    nodes = list(_nodes(tree))
    if not nodes:
        return draw.json_value()
    parent, key = draw.choice(nodes)
    kind = draw.randrange(6)
    if kind <= 2:
        parent[key] = draw.json_value()
    elif kind == 3:
        del parent[key]
    elif kind == 4:
        value: Any = parent[key]
        for _ in range(draw.choice((1, 2, 70, 3000))):
            value = [value] if draw.chance(0.5) else {"x": value}
        parent[key] = value
    elif isinstance(parent, dict):
        parent[draw.text(6)] = parent.pop(key)
    else:
        parent.extend(parent[key : key + 1] * draw.choice((1, 2, 2000)))
    return tree


def _nodes(tree: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        keys: list[Any] = []
        if isinstance(node, dict):
            keys = list(node)
        elif isinstance(node, list):
            keys = list(range(len(node)))
        found += [(node, key) for key in keys]
        waiting += [node[key] for key in keys]
    return found


def dumped(tree: Any) -> bytes:
    """Return JSON, of a tree of any depth that Python's writer can still go down."""
    try:
        return json.dumps(tree).encode("utf-8", "surrogatepass")
    except RecursionError:
        return b'{"a":' * 10**4
