"""Statistics of a translation: what it did, and how long each step took."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from crossband.raster.blocks import ReadStats


@dataclass
class Statistics:
    """What a translation did, and how long its steps took.

    Attributes:
        pixels: pixels of the result.
        tiles: tiles of the plan.
        computed: tiles that went through the network in this run.
        empty: tiles of this run in which every pixel is masked.
        resumed: tiles that an earlier run had finished.
        seen: source pixels that the network saw in this run, halos included.
        kept: source pixels in the cores of these tiles.
        reads: how much was read.
        computing: seconds in the network.
        waiting_for_reading: seconds in which the network waited for a window.
        waiting_for_writing: seconds in which the network waited for the writer.
        windows: seconds from the start until the last window was computed.
        finishing: seconds for making the final file.
        guide: path of the guide that the result was corrected by; None without one.
        guide_datetime: when it was taken, where that was stated or looked for.
        unfamiliar: share of the scene that is unlike the training places; None where unknown.
        unfamiliar_line: what to tell people, where it is more than a tenth, with the likely cause.
        files: the result and those beside it: indices, intervals, familiarity.
        skipped: the finished file existed and was up to date, so nothing was done.
    """

    pixels: int = 0
    tiles: int = 0
    computed: int = 0
    empty: int = 0
    resumed: int = 0
    seen: int = 0
    kept: int = 0
    reads: ReadStats = field(default_factory=ReadStats)
    computing: float = 0.0
    waiting_for_reading: float = 0.0
    waiting_for_writing: float = 0.0
    windows: float = 0.0
    finishing: float = 0.0
    guide: str | None = None
    guide_datetime: str | None = None
    unfamiliar: float | None = None
    unfamiliar_line: str = ""
    files: tuple[Path, ...] = ()
    skipped: bool = False

    @property
    def halo(self) -> float:
        """Source pixels computed per pixel kept, minus one."""
        return self.seen / self.kept - 1.0 if self.kept else 0.0

    @property
    def reads_per_block(self) -> float:
        """How often a block of the file was decoded, on average."""
        return self.reads.block_reads / self.reads.blocks if self.reads.blocks else 0.0
