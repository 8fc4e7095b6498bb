"""Square cells of pixels: their size, and the interpolation of their values to the pixels.

The compiled loops of `pixel_loops` interpolate in the same way.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from crossband.networks.tracing import is_traced

#: Side of the finest cells, in pixels, and the ratio of the cell sizes of two successive levels.
CELL, STEP = 4, 2
#: Pixels computed at once at inference, so that intermediate results stay in the cache.
CACHED = 2**14


def strips_of(rows: slice, width: int) -> list[slice]:
    """Return parts of the rows: whole cells, and about `CACHED` pixels."""
    if is_traced():
        return [rows]
    count = max(CACHED // width // CELL, 1) * CELL
    starts = range(rows.start, rows.stop, count)
    return [slice(top, min(top + count, rows.stop)) for top in starts]


def interpolate_cells(vectors: Tensor, rows: slice, columns: slice, cell: int = CELL) -> Tensor:
    """Interpolate cell values to the pixels of rows and columns: [B, h, w, F] -> [B, r, c, F]."""
    first, last = max(rows.start // cell - 1, 0), (rows.stop + cell - 1) // cell + 1
    start, end = max(columns.start // cell - 1, 0), (columns.stop + cell - 1) // cell + 1
    some = vectors[:, first:last, start:end].permute(0, 3, 1, 2)  # a view
    wide = functional.interpolate(some, scale_factor=cell, mode="bilinear").permute(0, 2, 3, 1)
    top, west = rows.start - first * cell, columns.start - start * cell
    return wide[:, top : top + rows.stop - rows.start, west : west + columns.stop - columns.start]


def corners_of(
    row: Tensor, column: Tensor, factor: int, height: int, width: int
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return row, column and weight [N, 1] of the four cells around each of N finer cells.

    Args:
        row: rows of the finer cells, [N].
        column: columns of the finer cells, [N].
        factor: finer cells along one side of a cell.
        height: rows of cells.
        width: columns of cells.
    """
    sides = []
    for place, length in ((row, height), (column, width)):
        exact = ((place + 0.5) / factor - 0.5).clamp(0, length - 1)
        low = exact.floor().long()
        share = (exact - low)[:, None]
        sides.append([(low, 1 - share), ((low + 1).clamp_max(length - 1), share)])
    return [(r, c, a * b) for r, a in sides[0] for c, b in sides[1]]


def cells_at(cells: Tensor, rows: Tensor, columns: Tensor, cell: int) -> Tensor:
    """Interpolate cell values at N pixels, as `interpolate_cells` does: [B, h, w, F] -> [B, N, F].

    Args:
        cells: values of cells.
        rows: of the pixels, [N].
        columns: of the pixels, [N].
        cell: side of a cell in pixels.
    """
    height, width = cells.shape[1:3]
    x = (2 * columns + 1) / (width * cell) - 1
    y = (2 * rows + 1) / (height * cell) - 1
    where = torch.stack([x, y], dim=-1).to(cells.dtype).expand(len(cells), 1, -1, -1)
    planes = cells.movedim(-1, 1)
    found = functional.grid_sample(planes, where, padding_mode="border", align_corners=False)
    return found[:, :, 0].movedim(1, -1)
