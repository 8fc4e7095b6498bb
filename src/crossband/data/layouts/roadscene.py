"""RoadScene: pairs cut from the video of FLIR ADAS, registered by its authors.

The published form is that of the repository github.com/hanna-xu/RoadScene: `crop_LR_visible` and
`cropinfrared`, of equal size, and `crop_HR_visible`, of another size and another field of view. The
same files are also kept as `<part>/{RGB,thermal_8_bit,RGB_hr}`, as FLIR ADAS calls its folders.
"""

from __future__ import annotations

from pathlib import Path

from crossband.data.layouts._visible_thermal import _VisibleThermal, block_of, split_of
from crossband.data.layouts.base import Row


class RoadScene(_VisibleThermal):
    """`crop_LR_visible/FLIR_<number>.jpg` and `cropinfrared/`, or `<part>/{RGB,thermal_8_bit}/`.

    Args:
        block: pictures whose numbers lie in one block of that many are one group: frames of one
            drive are neighbours by number. 0 for no groups.
        high_resolution: take `crop_HR_visible` or `RGB_hr`, which need `unpaired`.
        unpaired: pairs that differ in size become rows without a counterpart.
    """

    name = "roadscene"
    origin = (
        "221 road scenes, visible and thermal (Xu et al. 2020, from FLIR ADAS): "
        "github.com/hanna-xu/RoadScene, no licence stated, FLIR ADAS is for non-commercial research"
    )

    def __init__(
        self, block: int = 500, high_resolution: bool = False, unpaired: bool = False
    ) -> None:
        super().__init__(unpaired)
        self.block, self.high_resolution = block, high_resolution
        visible = ("crop_HR_visible", "RGB_hr") if high_resolution else ("crop_LR_visible", "RGB")
        self.sides = ((visible[0], "cropinfrared"), (visible[1], "thermal_8_bit"))

    def about(self, path: Path, folders: tuple[str, ...]) -> Row:
        """Return split and block."""
        return split_of(folders, "the folders") | block_of(path, self.block)
