"""A network that answers where its surroundings are familiar, and simpler ones elsewhere."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from crossband.errors import RecipeError
from crossband.networks.conditions import Conditions
from crossband.networks.generators.blend import Blend, answer_of
from crossband.networks.generators.local_pyramid import LocalPyramid, between_cells

#: Share of the training samples that are closer to a centre than `reach`.
INSIDE = 0.95
#: How steeply the weight falls at `reach`, where it is 1/2: 1 / (1 + (distance / reach)^STEEPNESS).
STEEPNESS = 6
#: Smallest reach, in widths of the features.
LEAST = 0.1
#: Samples for each centre, at least.
FOR_EACH = 8
#: Rounds of k-means; centres hardly move after these.
ROUNDS = 8


class FamiliarBlend(Blend):
    """The first generator's answer near what it was trained on, and a weighted mean far away.

    A network that reads its surroundings may be far wrong where they are unlike those of training
    (open water, snow, another sensor), and a perceptron for each pixel is wrong by less there. The
    features of the surroundings of the training samples are summed up in the centres of k-means.
    For each of the pyramid's coarsest cells the distance to the nearest centre gives the first
    generator's weight, which is interpolated to the pixels: 1 at a centre, 1/2 at `reach`, 0 far
    away. What the
    first generator does not answer, the weighted mean of all does. Strictly local.

    Before `fit_centres` everything is familiar.

    Args:
        parts: `class` and `arguments` of each generator; the first is a `LocalPyramid`.
        shares: weight of each generator where nothing is familiar; they sum to 1. That of the first
            may be 0.
        centres: centres of k-means.

    Attributes:
        centres: [centres, F], in the features of `LocalPyramid.description`.
        reach: distance within which 95 % of the training samples are from a centre.
    """

    examples = (
        {
            "parts": [
                {"class": "LocalPyramid", "arguments": {"width": 6, "hidden": 5, "levels": 2}},
                {"class": "PerPixelMLP", "arguments": {"width": 5}},
            ],
            "shares": [0.0, 1.0],
            "centres": 4,
        },
    )

    centres: Tensor
    reach: Tensor

    def __init__(
        self, parts: list[dict[str, Any]], shares: list[float], centres: int = 256
    ) -> None:
        super().__init__(parts, shares)
        if centres < 1:
            raise RecipeError(f"FamiliarBlend needs at least one centre, not {centres}")
        network = self.parts[0]
        if not isinstance(network, LocalPyramid):
            raise RecipeError(
                f"FamiliarBlend needs a LocalPyramid as its first part, not "
                f"{type(network).__name__}: it compares the surroundings that this one reads"
            )
        self.register_buffer("centres", torch.zeros(centres, network.moments * network.levels))
        self.register_buffer("reach", torch.tensor(float("inf")))

    def forward_conditioned(self, x: Tensor, conditions: Conditions) -> Tensor:
        """Translate; the surroundings are computed once, for the answer and for its weight."""
        network = cast(LocalPyramid, self.parts[0])
        levels = network.surroundings(x)
        answer = network.answer(x, levels).float()
        first, *others = self.shares
        elsewhere = answer * first
        for part, share in zip(list(self.parts)[1:], others, strict=True):
            elsewhere = elsewhere + answer_of(part, x, conditions) * share
        rows, columns = (slice(0, length) for length in x.shape[-2:])
        cells = self.weights(network.description(levels))
        weight = between_cells(cells, rows, columns, network.stride).movedim(-1, 1)
        return elsewhere + weight * (answer - elsewhere)

    def weights(self, description: Tensor) -> Tensor:
        """Return the first generator's weight in each cell: [B, h, w, F] -> [B, h, w, 1]."""
        far = self._distances(description) / self.reach
        return 1.0 / (1.0 + far[..., None] ** STEEPNESS)

    def _distances(self, features: Tensor) -> Tensor:
        """Return the distance of features to the nearest centre: [..., F] -> [...]."""
        return _squares(features, self.centres).amin(dim=-1).sqrt()

    @torch.no_grad()
    def fit_centres(self, features: Tensor, seed: int = 0) -> None:
        """Set the centres and their reach by k-means.

        Args:
            features: [N, F], the `description` of the surroundings of training samples.
            seed: of the samples with which k-means starts.
        """
        count = len(self.centres)
        order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
        # Of few samples each would be a centre, and nothing else familiar: some centres are equal.
        start = order[: max(len(order) // FOR_EACH, 1)]
        centres = features[start[torch.arange(count) % len(start)]].clone()
        for _ in range(ROUNDS):
            nearest = _squares(features, centres).argmin(dim=1)
            sums = torch.zeros_like(centres).index_add_(0, nearest, features)
            sizes = torch.bincount(nearest, minlength=count)[:, None]
            centres = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
        self.centres.copy_(centres)
        # Where all samples are alike, rounding would decide what is near.
        self.reach.copy_(torch.quantile(self._distances(features), INSIDE).clamp_min(LEAST))


def _squares(features: Tensor, centres: Tensor) -> Tensor:
    """Return squared distances in fp32, as one product: [..., F], [K, F] -> [..., K]."""
    with torch.autocast(features.device.type, enabled=False):
        features, centres = features.float(), centres.float()
        own = features.square().sum(dim=-1, keepdim=True)
        both = centres.square().sum(dim=1) - 2.0 * (features @ centres.T)
        return (own + both).clamp_min(0.0)
