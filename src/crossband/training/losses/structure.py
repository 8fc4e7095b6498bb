"""Structure losses: they compare the self-similarity of two images, so no pairs are needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from crossband.core.resample import resize_to
from crossband.training.losses.base import Loss, Prediction
from crossband.training.losses.vgg import VGG, valid_fraction

#: Standard deviations, in pixels, of the Gaussians whose derivatives are the features.
SCALES = (1.0, 2.0)


class SpatialCorrelative(Loss):
    """Spatially-correlative loss: distance between the self-similarity maps of two images.

    F-LSeSim of Zheng, Cham and Cai 2021, The spatially-correlative loss for various image
    translation tasks, eq. 3 to 5. For each query point, the cosine similarities between its feature
    and the features of the patch around it form a self-similarity map. The loss is 1 - the cosine
    of the two images' maps, averaged over the query points. It compares the layout of an image
    rather than its colours or temperatures.

    With a file of VGG-16 weights the features are those of the paper, minus the mean over the image
    of each channel, and the loss is averaged over the layers. Without weights the features are the
    first derivatives along rows and columns and the Laplacian of Gaussians of 1 and 2 pixels, of
    the mean over the bands: 6 numbers for each pixel. For these features an image and its negative
    have the same maps; for a VGG they have not. Query points lie on a regular grid over the whole
    image, so nothing is random; a patch that would extend beyond the image is shifted inside. The
    variant of the paper with learned features is not implemented.

    Args:
        queries: query points along each side; 16 give the 256 of the original.
        patch: side of the patch in feature pixels, at most the size of the features; the original
            has 64.
        against: the image that the output is compared with: its `source`, resized to the output
            (no pairs are needed), or the `target`.
        vgg: file of VGG weights, see `VGG`; None uses the features without weights.
        layers: layers of that VGG; the original's are the default.
        weight: weight of this loss.
    """

    examples = ({"queries": 3, "patch": 8}, {"against": "target"})

    def __init__(
        self,
        queries: int = 16,
        patch: int = 64,
        against: Literal["source", "target"] = "source",
        vgg: str | None = None,
        layers: Sequence[str] = ("relu3_1", "relu4_1", "relu4_3"),
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        if queries < 1 or patch < 2:
            raise ValueError("queries must be at least 1 and patch at least 2")
        self.queries, self.patch, self.against, self.weight = queries, patch, against, weight
        self.vgg = VGG(vgg, layers) if vgg else None

    def forward(self, prediction: Prediction) -> Tensor:
        """Return 1 - cosine of the self-similarity maps, [B]."""
        p = prediction
        size = p.output.shape[-2:]
        other = resize_to(p.source, size) if self.against == "source" else p.target
        return self.compare(p.output, other, p.mask)

    def compare(self, one: Tensor, other: Tensor, mask: Tensor) -> Tensor:
        """Compare two images of the same size, with any numbers of bands.

        Args:
            one: [B, C, H, W].
            other: [B, D, H, W].
            mask: bool [B, 1, H, W]; invalid pixels are neither query points nor part of a patch.

        Returns:
            [B], 0 to 2; 0 for a sample without a valid query point.
        """
        if self.vgg is None:
            return self._distance(_derivatives(one, mask), _derivatives(other, mask), mask)
        layers = [self.vgg(image.masked_fill(~mask, 0.0)) for image in (one, other)]
        distances = []
        for features in zip(*layers, strict=True):
            known = valid_fraction(mask, features[0]) > 0.5
            first, second = (_centred(f, known) for f in features)
            distances.append(self._distance(first, second, known))
        return torch.stack(distances).mean(dim=0)

    def _distance(self, one: Tensor, other: Tensor, mask: Tensor) -> Tensor:
        """Compare two maps of unit-length features, [B, C, H, W] each."""
        size = one.shape[-2:]
        at = [_centres(n, self.queries).to(one.device) for n in size]
        around = [_around(c, n, self.patch) for c, n in zip(at, size, strict=True)]
        known = _patches(mask.to(one.dtype), around)[:, 0]  # [B, Q, P]
        centres = _pixels(mask, at)[:, 0]  # [B, Q]
        maps = []
        for features in (one, other):
            patches, queries = _patches(features, around), _pixels(features, at)
            maps.append(torch.einsum("bcqp,bcq->bqp", patches, queries) * known)
        alike = _cosine(maps[0], maps[1], dim=2)
        count = centres.sum(dim=1).clamp_min(1)
        return ((1.0 - alike) * centres).sum(dim=1) / count


def _derivatives(image: Tensor, mask: Tensor) -> Tensor:
    """Return unit-length Gaussian derivatives: [B, C, H, W] -> [B, 6, H, W]."""
    grey = image.masked_fill(~mask, 0.0).mean(dim=1, keepdim=True)
    found = []
    for scale in SCALES:
        reach = round(3 * scale)
        at = torch.arange(-reach, reach + 1, dtype=grey.dtype, device=grey.device)
        smooth = torch.exp(-0.5 * (at / scale) ** 2)
        smooth = smooth / smooth.sum()
        first = -at / scale * smooth  # times the scale, so that both scales have equal weight
        second = (at**2 / scale**2 - 1.0) * smooth
        second = second - second.sum() * smooth  # the truncated kernel must sum to 0
        padded = functional.pad(grey, [reach] * 4, mode="replicate")
        for down, along in ((first, smooth), (smooth, first)):
            found.append(_separable(padded, down, along))
        found.append(_separable(padded, second, smooth) + _separable(padded, smooth, second))
    features = torch.cat(found, dim=1)
    return _unit_length(features)


def _centred(features: Tensor, mask: Tensor) -> Tensor:
    """Subtract the mean of each channel over the valid pixels; scale to unit length."""
    count = mask.sum(dim=(2, 3), keepdim=True).clamp_min(1)
    mean = features.masked_fill(~mask, 0.0).sum(dim=(2, 3), keepdim=True) / count
    return _unit_length(features - mean)


def _unit_length(features: Tensor) -> Tensor:
    # In flat areas the features stay near 0, and so does their similarity to others.
    return features * (features.square().sum(dim=1, keepdim=True) + 1e-4).rsqrt()


def _separable(x: Tensor, down: Tensor, along: Tensor) -> Tensor:
    return functional.conv2d(
        functional.conv2d(x, down[None, None, :, None]), along[None, None, None]
    )


def _centres(size: int, queries: int) -> Tensor:
    """Return the positions of the query points along one side, spread evenly, [queries]."""
    count = min(queries, size)
    return ((torch.arange(count) + 0.5) * size / count).long()


def _around(centres: Tensor, size: int, patch: int) -> Tensor:
    """Return the positions along one side of the patch of each query point, [queries, patch]."""
    patch = min(patch, size)
    first = (centres - patch // 2).clamp(0, size - patch)
    return first[:, None] + torch.arange(patch, device=centres.device)


def _patches(x: Tensor, around: list[Tensor]) -> Tensor:
    """Return the patches of the query points, [B, C, Q, P]."""
    rows, cols = around
    cut = x[:, :, rows[:, None, :, None], cols[None, :, None, :]]  # [B, C, q, q, p, p]
    return cut.flatten(4).flatten(2, 3)


def _pixels(x: Tensor, at: list[Tensor]) -> Tensor:
    """Return the query points themselves, [B, C, Q]."""
    return x[:, :, at[0][:, None], at[1][None]].flatten(2)


def _cosine(one: Tensor, other: Tensor, dim: int) -> Tensor:
    """Return the cosine of two maps, each with one more value of 0.01: two empty maps match."""
    sizes = [x.square().sum(dim) + 1e-4 for x in (one, other)]
    return ((one * other).sum(dim) + 1e-4) / (sizes[0] * sizes[1]).sqrt()
