"""M3FD: drives and streets in all weathers, visible and thermal, registered by the authors.

The form is that of the archives `M3FD_Detection` and `M3FD_Fusion` of
github.com/JinyuanLiu-CV/TarDAL: `Vis/00000.png` and `Ir/00000.png`. They come without a split.
"""

from __future__ import annotations

from pathlib import Path

from crossband.data.layouts._visible_thermal import _VisibleThermal, block_of
from crossband.data.layouts.base import Row


class M3FD(_VisibleThermal):
    """`{Vis,Ir}/<number>.png`, in `M3FD_Detection`, in `M3FD_Fusion`, or both.

    Args:
        block: pictures whose numbers lie in one block of that many are one group; 0 for no groups.
        unpaired: pairs that differ in size become rows without a counterpart.
    """

    name = "m3fd"
    origin = (
        "4,500 scenes, visible and thermal 1024 x 768 (Liu et al. 2022): "
        "github.com/JinyuanLiu-CV/TarDAL, for academic use"
    )
    sides = (("Vis", "Ir"),)

    def __init__(self, block: int = 0, unpaired: bool = False) -> None:
        super().__init__(unpaired)
        self.block = block

    def about(self, path: Path, folders: tuple[str, ...]) -> Row:
        """Return the block, of the archive that it is in."""
        row = block_of(path, self.block)
        return {k: f"{folders[-1]}/{v}" for k, v in row.items()}
