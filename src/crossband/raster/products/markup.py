"""Read XML metadata; invalid XML and missing elements are errors of one line."""

from __future__ import annotations

from xml.etree.ElementTree import Element, ParseError, fromstring

import numpy as np
from numpy.typing import NDArray

from crossband.errors import InputError
from crossband.raster.source import Tree


def parse(tree: Tree, name: str) -> Element:
    """Return the root of an XML file."""
    try:
        return fromstring(tree.read(name))
    except (ParseError, ValueError, LookupError) as error:  # the last two: an unknown encoding
        raise InputError(f"{tree.path}: {name}: not XML that can be read: {error}") from error


def text(element: Element, path: str) -> str:
    """Return the text of a descendant; InputError if it is missing or empty."""
    found = element.findtext(path)
    if found is None or not found.strip():
        raise InputError(f"no {path.rpartition('/')[2]}")
    return found.strip()


def number(element: Element, path: str) -> float:
    """Return the number in a descendant; InputError if it is none."""
    word = text(element, path)
    try:
        return float(word)
    except ValueError:
        raise InputError(f"{path.rpartition('/')[2]} is {word!r}, and no number") from None


def numbers(element: Element, path: str) -> NDArray[np.float64]:
    """Return the numbers in a descendant, which are separated by blanks."""
    try:
        return np.array(text(element, path).split(), np.float64)
    except ValueError:
        raise InputError(f"{path.rpartition('/')[2]} has a word that is no number") from None
