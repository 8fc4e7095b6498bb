"""VIFB: a benchmark of 21 visible and thermal pairs, for judging and not for training.

The form is that of github.com/xingchenzhang/VIFB: `VI/carShadow.jpg` and `IR/carShadow.jpg`. Some
of the visible pictures are grey and are left out.
"""

from __future__ import annotations

from pathlib import Path

from crossband.data.layouts._visible_thermal import _VisibleThermal
from crossband.data.layouts.base import Row


class VIFB(_VisibleThermal):
    """`{VI,IR}/<name>.jpg`; all of it is `test`.

    Args:
        unpaired: pairs that differ in size become rows without a counterpart.
    """

    name = "vifb"
    origin = (
        "21 visible and thermal pairs of many cameras (Zhang et al. 2020): "
        "github.com/xingchenzhang/VIFB, no licence stated, for research"
    )
    sides = (("VI", "IR"),)

    def about(self, path: Path, folders: tuple[str, ...]) -> Row:
        """Return the split: a benchmark is for testing."""
        return {"split": "test", "split_by": "VIFB"}
