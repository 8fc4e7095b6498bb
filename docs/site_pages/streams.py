"""The printed output of a tutorial's cell as one text for stdout and one for stderr.

IPython reads what a command prints in pieces of 100 bytes, and MyST-NB's own function ends each
piece with a newline, so that lines break anywhere.
"""

from __future__ import annotations

import re
from typing import Any

#: What a carriage return overwrites, as a progress bar does.
_OVERWRITTEN = re.compile(r"[^\n]*\r(?=[^\n])")


def merge(outputs: list[Any]) -> list[Any]:
    r"""Return outputs of a cell with the pieces of stdout, then those of stderr, as one each.

    >>> pieces = [{"output_type": "stream", "name": "stdout", "text": t} for t in ("a b", "c\n")]
    >>> [one["text"] for one in merge(pieces)]
    ['a bc\n']
    """
    printed = []
    for name in ("stdout", "stderr"):
        pieces = [o for o in outputs if o["output_type"] == "stream" and o["name"] == name]
        if pieces:
            text = "".join(piece["text"] for piece in pieces)
            pieces[0]["text"] = _OVERWRITTEN.sub("", text).rstrip() + "\n"
            printed.append(pieces[0])
    return printed + [o for o in outputs if o["output_type"] != "stream"]
