"""FamiliarBlend: a network near its training data, blended with simpler ones elsewhere."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from crossband.errors import RecipeError
from crossband.networks.cells import interpolate_cells
from crossband.networks.conditions import Conditions
from crossband.networks.generators.blend import Blend, part_output
from crossband.networks.generators.local_pyramid import LocalPyramid
from crossband.networks.k_means import k_means, squared_distances

#: Share of the training samples that are closer to a centre than `reach`.
INSIDE = 0.5
#: Smallest reach, in standard deviations of the features.
LEAST = 0.1
#: Smallest number of samples for each centre.
FOR_EACH = 8
#: Iterations of k-means; centres hardly move after these.
ROUNDS = 8


class FamiliarBlend(Blend):
    """Output of the first generator in familiar surroundings, a weighted mean of all elsewhere.

    A network with context can have large errors in surroundings that are unlike the training data
    (open water, snow, another sensor). A per-pixel MLP has smaller errors there.

    After training, k-means summarises the features of the surroundings of training samples by
    centres. The distance of the features of a place to the nearest centre says how familiar the
    place is. It gives the weight of the first generator: 1 at a centre, 1/2 at the distance
    `reach`, 0 far away. The rest of the weight is that of the weighted mean of all generators. The
    weights are computed on the coarsest cells of the pyramid and interpolated to the pixels. The
    network is strictly local.

    Before `fit_centres` all surroundings count as familiar.

    Args:
        parts: `class` and `arguments` of each generator; the first is a `LocalPyramid`.
        shares: weights of the generators in the weighted mean; they sum to 1. That of the first may
            be 0.
        centres: number of centres.

    Attributes:
        centres: [centres, F], in the features of `LocalPyramid.description`.
        reach: half of the training samples are closer than this to a centre.
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
        """Translate; the surroundings are computed once, for the output and for its weight."""
        return self.blended(x, cast(LocalPyramid, self.parts[0]).surroundings(x), conditions)

    def blended(self, x: Tensor, levels: list[Tensor], conditions: Conditions) -> Tensor:
        """Translate, from the surroundings of x that the first part computes."""
        network = cast(LocalPyramid, self.parts[0])
        output = network.predict(x, levels).float()
        first, *others = self.shares
        mean = output * first
        for part, share in zip(list(self.parts)[1:], others, strict=True):
            mean = mean.add(part_output(part, x, conditions), alpha=share)
        rows, columns = (slice(0, length) for length in x.shape[-2:])
        cells = self.weights(network.description(levels))
        weight = interpolate_cells(cells, rows, columns, network.stride).permute(0, 3, 1, 2)
        return mean.lerp(output, weight)

    def weights(self, description: Tensor) -> Tensor:
        """Return the first generator's weight in each cell: [B, h, w, F] -> [B, h, w, 1]."""
        far = (self._distances(description) / self.reach)[..., None]
        # By products: the last numbers of `torch.pow` differ in their last bit from those within,
        # so that a tile would not equal the whole scene.
        return 1.0 / (1.0 + (far * far * far).square())

    def _distances(self, features: Tensor) -> Tensor:
        """Return the distance of features to the nearest centre: [..., F] -> [...]."""
        return squared_distances(features, self.centres).amin(dim=-1).sqrt()

    @torch.no_grad()
    def fit_centres(self, features: Tensor, seed: int = 0) -> None:
        """Set the centres and their reach by k-means.

        Args:
            features: [N, F], the `description` of the surroundings of training samples.
            seed: seed of the choice of the initial centres.
        """
        count = len(self.centres)
        order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
        # With few samples each would be a centre, and only these samples familiar. So some initial
        # centres are equal.
        start = order[: max(len(order) // FOR_EACH, 1)]
        centres = features[start[torch.arange(count) % len(start)]].clone()
        self.centres.copy_(k_means(features, centres, ROUNDS))
        # If all samples are equal, rounding errors would decide what is near.
        self.reach.copy_(torch.quantile(self._distances(features), INSIDE).clamp_min(LEAST))
