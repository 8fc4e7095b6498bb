"""Parse and format lists of bands in options."""

from __future__ import annotations

from crossband.errors import ManifestError
from crossband.raster.bands import parse_bands


def parse_numbered(text: str) -> dict[str, int | str]:
    """Parse `nir`, `red,green,blue` (numbered 1, 2, 3) or `red=3,green=2`.

    >>> parse_numbered("red,green,blue"), parse_numbered("nir=4")
    ({'red': 1, 'green': 2, 'blue': 3}, {'nir': 4})
    """
    if "=" in text:
        return parse_bands(text)
    return dict(zip(parse_names(text), range(1, text.count(",") + 2), strict=True))


def parse_names(text: str) -> list[str]:
    """Parse `red,green,blue` into names; ManifestError for an empty or a repeated one."""
    names = [name.strip() for name in text.split(",")]
    if "" in names or len(set(names)) < len(names) or "=" in text:
        raise ManifestError(f"bands are given as in red,green,blue, each once: {text!r}")
    return names


def format_bands(bands: dict[str, int | str]) -> str:
    """Format bands as a manifest has them.

    >>> format_bands({"red": 3, "nir": 4})
    'red=3,nir=4'
    """
    return ",".join(f"{name}={value}" for name, value in bands.items())
