"""MSRS: road scenes by day and night, visible and thermal.

The form is that of the repository github.com/Linfeng-Tang/MSRS: `train/{vi,ir}/00001D.png` and
`test/{vi,ir}/00537D.png`; the letter after the number is D by day and N by night. The pictures in
`detection/` are a part of them under other names, and are left out.
"""

from __future__ import annotations

from pathlib import Path

from crossband.data.layouts._visible_thermal import _VisibleThermal, block_of, split_of
from crossband.data.layouts.base import Row

_LIGHT = {"D": "day", "N": "night"}


class MSRS(_VisibleThermal):
    """`{train,test}/{vi,ir}/<number>{D,N}.png`; the column `light` is day or night.

    Args:
        block: pictures whose numbers lie in one block of that many are one group; 0 for no groups.
        unpaired: pairs that differ in size become rows without a counterpart.
    """

    name = "msrs"
    origin = (
        "1,444 road scenes, visible and thermal 640 x 480 (Tang et al. 2022, from MFNet): "
        "github.com/Linfeng-Tang/MSRS, no licence stated, for research"
    )
    sides = (("vi", "ir"),)

    def __init__(self, block: int = 0, unpaired: bool = False) -> None:
        super().__init__(unpaired)
        self.block = block

    def keep(self, path: Path, folders: tuple[str, ...]) -> bool:
        """Leave out what is there twice."""
        return super().keep(path, folders) and "detection" not in folders[1:]

    def about(self, path: Path, folders: tuple[str, ...]) -> Row:
        """Return light, split and block."""
        row: Row = {"light": _LIGHT.get(path.stem[-1:])}
        return row | split_of(folders, "MSRS") | block_of(path, self.block)
