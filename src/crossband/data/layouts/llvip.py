"""LLVIP: streets by night from fixed cameras, visible and thermal, strictly registered.

The form is that of github.com/bupt-ai-cz/LLVIP (README, "File structure"): `visible/{train,test}`
and `infrared/{train,test}` with equal names, as `010001.jpg` and `190001.jpg`. The first two digits
number the recording (Jia et al. 2021: 26 places, the camera stands still at each), so that they are
the group: a group that is too large leaks nothing.
"""

from __future__ import annotations

from pathlib import Path

from crossband.data.layouts._visible_thermal import _VisibleThermal, split_of
from crossband.data.layouts.base import Row


class LLVIP(_VisibleThermal):
    """`{visible,infrared}/{train,test}/<number>.jpg`.

    Args:
        unpaired: pairs that differ in size become rows without a counterpart.
    """

    name = "llvip"
    origin = (
        "15,488 street scenes, visible and thermal 1280 x 1024 (Jia et al. 2021): "
        "github.com/bupt-ai-cz/LLVIP, its own terms, non-commercial"
    )
    sides = (("visible", "infrared"),)
    pattern = "**/{}/*/*"

    def about(self, path: Path, folders: tuple[str, ...]) -> Row:
        """Return split and recording."""
        return {"group": f"llvip-{path.stem[:2]}"} | split_of(folders, "LLVIP")
