"""Products of matrices whose rows do not depend on the rows beside them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from crossband.networks.tracing import is_traced

#: Rows of a block of a product of matrices, at least those of any library.
ROWS = 64


def by_rows(layers: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply layers to each row of [..., F], with the same result whatever rows are beside it.

    Libraries compute the last rows of a product of matrices in another order, and products of
    stacked matrices, so that a pixel of a tile would differ in its last bit from that of the whole
    scene. Full blocks of rows of one matrix have no such rows.
    """
    if is_traced() or not x.numel():
        return layers(x)
    rows = x.flatten(0, -2)
    full = len(rows) - len(rows) % ROWS
    found = [layers(rows[:full])] if full else []
    if full < len(rows):
        rest = functional.pad(rows[full:], (0, 0, 0, ROWS - (len(rows) - full)))
        found.append(layers(rest)[: len(rows) - full])
    made = torch.cat(found) if len(found) > 1 else found[0]
    return made.view(*x.shape[:-1], -1)
