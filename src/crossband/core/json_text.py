"""Parse JSON that others wrote; whatever is wrong with it is a ValueError."""

from __future__ import annotations

import json
from typing import Any


def parse_json(content: str | bytes) -> Any:
    """Return what JSON holds.

    Raises:
        ValueError: it is no JSON, not of a known encoding, or is nested too deeply.

    >>> parse_json("[" * 10**5)
    Traceback (most recent call last):
    ValueError: its brackets are nested too deeply
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None
