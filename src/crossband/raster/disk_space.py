"""Check before the work that the disk can hold the raw files and the finished files."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from crossband.core.hidden_folder import folder_of
from crossband.errors import OutputError
from crossband.raster.journal import RawFile
from crossband.raster.output import OutputFile


def check_disk_space(
    outputs: Sequence[OutputFile], intermediate: Sequence[OutputFile] = ()
) -> None:
    """Raise OutputError where raw files and finished files together would not fit on the disk.

    Finished files count without compression and with their overviews, see `OutputFile.most_bytes`.
    Raw files of an interrupted run are not counted again.

    Args:
        outputs: files that are written; the store lies in the folder of the first one.
        intermediate: outputs that have a raw file only.
    """
    store = folder_of(outputs[0].path)
    needs = {
        store.parent: sum(
            RawFile.size(o.shape, o.encoding.dtype, masked=o.encoding.mask_band)
            for o in intermediate
        )
    }
    for output in outputs:
        e = output.encoding
        size = RawFile.size(output.shape, e.dtype, masked=e.mask_band)
        needs[store.parent] = needs.get(store.parent, 0) + size
        needs[output.path.parent] = needs.get(output.path.parent, 0) + output.most_bytes()
    if store.exists():
        there = sum(p.lstat().st_blocks * 512 for p in store.glob("*.raw"))
        needs[store.parent] = max(needs[store.parent] - there, 0)
    disks: dict[int, tuple[Path, int]] = {}
    for folder, need in needs.items():
        first, total = disks.get(folder.stat().st_dev, (folder, 0))
        disks[folder.stat().st_dev] = (first, total + need)
    for folder, need in disks.values():
        free = shutil.disk_usage(folder).free
        if need > free:
            raise OutputError(
                f"{outputs[0].path}: needs about {need / 2**20:.3g} MiB of free disk in {folder} "
                f"(the raw store and the finished file), there are {free / 2**20:.3g}"
            )
