"""Fit the head that gives the width of the interval at each pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from crossband.evaluation.place_errors import SampleTable
from crossband.model.calibration import Head
from crossband.networks.uncertainty import WidthHead

#: Hidden units, steps, pixels of a step, learning rate and weight decay of the head.
HIDDEN, STEPS, BATCH, RATE, DECAY = 16, 400, 2048, 0.01, 1e-3
#: The head's widths are those of intervals that miss this share.
MISSED = 0.1


def fit_head(table: SampleTable, weights: Tensor) -> WidthHead:
    """Fit the head by the interval score of each quantity; its standardisation is folded in."""
    cells, pixels, errors = table.cells[:, 0], table.pixels[:, 0], table.errors
    quantities = errors.shape[1]
    sizes = torch.bincount(table.place, minlength=len(weights)).clamp_min(1)
    weight = (weights / sizes)[table.place]
    weight = weight / weight.mean()
    usual = [part.mean(dim=0) for part in (cells, pixels)]
    spread = [part.std(dim=0) + 1e-3 for part in (cells, pixels)]
    cells, pixels = ((p - u) / s for p, u, s in zip((cells, pixels), usual, spread, strict=True))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = WidthHead(cells.shape[1], pixels.shape[1], HIDDEN, 2 * quantities)
        known = torch.isfinite(errors)
        typical = [
            torch.quantile(own.abs()[:100_000], 1 - MISSED) if len(own) else torch.tensor(1.0)
            for own in (errors[known[:, q], q] for q in range(quantities))
        ]
        logs = torch.stack(typical).clamp_min(1e-3).log()
        with torch.no_grad():
            head.out.weight.mul_(0.1)
            head.out.bias.copy_(logs.repeat_interleave(2))
        optimiser = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
        for _ in range(STEPS):
            chosen = torch.randint(len(errors), (BATCH,))
            widths = head(head.cells(cells[chosen]), pixels[chosen])
            loss = _interval_loss(widths, errors[chosen], logs.exp()) * weight[chosen, None]
            optimiser.zero_grad()
            torch.autograd.backward(loss.mean())
            optimiser.step()
            schedule.step()
    return _folded(head, usual, spread)


def _interval_loss(widths: Tensor, errors: Tensor, typical: Tensor) -> Tensor:
    """Return the interval score of each quantity in units of its typical error; 0 if unknown."""
    below, above = widths[:, 0::2], widths[:, 1::2]
    known = torch.isfinite(errors)
    errors = torch.where(known, errors, 0.0)
    beyond = (-below - errors).relu() + (errors - above).relu()
    return torch.where(known, (below + above + 2 / MISSED * beyond) / typical, 0.0)


def _folded(head: WidthHead, usual: list[Tensor], spread: list[Tensor]) -> WidthHead:
    """Fold the standardisation of the inputs into the first layer."""
    with torch.no_grad():
        for layer, middle, width in zip((head.cells, head.pixels), usual, spread, strict=True):
            layer.weight.div_(width)
            head.cells.bias.sub_(layer.weight @ middle)
    return head.eval().requires_grad_(False)


def scores(table: SampleTable, head: WidthHead | None) -> Tensor:
    """Return the score of each error: its part of the width below or above; NaN if unknown."""
    errors = table.errors
    if head is None:
        return errors.abs()
    widths = head(head.cells(table.cells), table.pixels).mean(dim=1)
    return torch.where(errors < 0, -errors / widths[:, 0::2], errors / widths[:, 1::2])


def arrays(head: WidthHead) -> Head:
    """Return the weights of a head as numbers that a model folder holds."""
    arrays = (
        *(head.cells.weight, head.pixels.weight, head.cells.bias),
        *(head.out.weight, head.out.bias),
    )
    return Head(*(a.numpy() for a in arrays))
