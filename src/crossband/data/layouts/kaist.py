"""KAIST multispectral pedestrians: videos by day and night, visible and thermal 640 x 512.

The form is that of github.com/SoonminHwang/rgbt-ped-detection, whose README lists the sets:
`set00/V000/{visible,lwir}/I00000.jpg`; sets 00 to 05 are for training and 06 to 11 for testing
(Hwang et al. 2015), and each set is of one place, by day or by night.
"""

from __future__ import annotations

from pathlib import Path

from crossband.data.layouts._visible_thermal import _VisibleThermal
from crossband.data.layouts.base import Row

_PLACES = ("campus", "road", "downtown")


class KAIST(_VisibleThermal):
    """`set<nn>/V<nnn>/{visible,lwir}/I<nnnnn>.jpg`; columns `light` and `place` as published.

    Args:
        unpaired: pairs that differ in size become rows without a counterpart.
    """

    name = "kaist"
    origin = (
        "95,328 frames of drives, visible and thermal 640 x 512 (Hwang et al. 2015): "
        "github.com/SoonminHwang/rgbt-ped-detection, no licence stated there"
    )
    sides = (("visible", "lwir"),)
    pattern = "**/set[01][0-9]/V[0-9][0-9][0-9]/{}/*"

    def about(self, path: Path, folders: tuple[str, ...]) -> Row:
        """Return video, split, light and place."""
        *_, name, video = folders
        number = int(name[3:])
        row: Row = {"group": f"{name}/{video}"}
        row["light"] = "day" if number % 6 < 3 else "night"
        row["place"] = _PLACES[number % 3]
        return row | {"split": "train" if number < 6 else "test", "split_by": "KAIST"}
