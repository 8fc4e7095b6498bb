"""Lists of bands, as options give them."""

from __future__ import annotations

from crossband.errors import ManifestError
from crossband.raster.bands import parse_bands


def numbered(text: str) -> dict[str, int | str]:
    """Parse `nir`, `red,green,blue` (bands 1, 2, 3) or `red=3,green=2` (as they say).

    >>> numbered("red,green,blue"), numbered("nir=4")
    ({'red': 1, 'green': 2, 'blue': 3}, {'nir': 4})
    """
    if "=" in text:
        return parse_bands(text)
    return dict(zip(names(text), range(1, text.count(",") + 2), strict=True))


def names(text: str) -> list[str]:
    """Parse `red,green,blue` into names; ManifestError for an empty or a repeated one."""
    found = [name.strip() for name in text.split(",")]
    if "" in found or len(set(found)) < len(found) or "=" in text:
        raise ManifestError(f"bands are given as in red,green,blue, each once: {text!r}")
    return found


def words(bands: dict[str, int | str]) -> str:
    """Write bands as a manifest has them.

    >>> words({"red": 3, "nir": 4})
    'red=3,nir=4'
    """
    return ",".join(f"{name}={value}" for name, value in bands.items())
