"""Distances between two sets of images, from the features of a network: FID, KID and others.

The functions take features [N, D], one row for each image, and compute in float64.
`metrics.extractors` computes features. `FeatureMoments` and `ClassSums` hold additive sums and no
rows. KID, precision and recall need all rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.special import xlogy

from crossband.metrics.moments import NAN, Additive

Array = NDArray[np.float64]

#: With fewer images, the covariance of 2,048 Inception features does not have full rank, and FID is
#: flagged. Heusel et al. recommend 10,000.
FULL_RANK = 2048
#: Size and number of the subsets of KID, as in the authors' code.
SUBSET, SUBSETS = 1000, 100
#: k of the nearest neighbour that gives the radius for precision and recall.
NEIGHBOURS = 3
#: Number of rows that are compared with all others at a time.
_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class FeatureMoments:
    """Additive mean and covariance of features.

    They are merged by the formula of Chan, Golub and LeVeque (1979), as in
    `metrics.moments.Moments`.

    Attributes:
        n: number of rows.
        mean: [D].
        scatter: [D, D], sum of the products of deviations from the mean.
    """

    n: int
    mean: Array
    scatter: Array

    @classmethod
    def of(cls, features: ArrayLike) -> FeatureMoments:
        """Compute the moments of features [N, D]."""
        x = _rows(features)
        mean = x.mean(axis=0) if len(x) else np.zeros(x.shape[1])
        difference = x - mean
        return cls(len(x), mean, difference.T @ difference)

    def __add__(self, other: FeatureMoments) -> FeatureMoments:
        """Return the moments over both sets of rows."""
        n = self.n + other.n
        if self.n == 0 or other.n == 0:
            return other if self.n == 0 else self
        difference = other.mean - self.mean
        between = np.outer(difference, difference) * (self.n * other.n / n)
        mean = self.mean + difference * (other.n / n)
        return FeatureMoments(n, mean, self.scatter + other.scatter + between)

    @property
    def covariance(self) -> Array:
        """Covariance [D, D] with n - 1 in the denominator, as in numpy.cov."""
        return np.asarray(self.scatter / (self.n - 1))

    @cached_property
    def root(self) -> Array:
        """Symmetric square root [D, D] of the covariance, which may be singular."""
        values, vectors = eigh(self.covariance)
        # Rounding errors make some eigenvalues of a singular matrix slightly negative.
        return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)


def fid(target: FeatureMoments, output: FeatureMoments) -> float:
    """Frechet distance of two Gaussians with these means and covariances. Heusel et al. 2017.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)). S1 S2 is not symmetric, but it has the same
    eigenvalues as the symmetric matrix R S2 R with R = S1^(1/2). So the trace of the root is a sum
    of square roots of real numbers, and no matrix is inverted. The result is clipped at 0, because
    rounding could make it negative.

    FID is biased upwards, by about D / n of the variance: compare only sets of equal size n.

    Args:
        target: moments of the features of the true images; its `root` is computed once and kept.
        output: moments of the features of the synthetic images.

    Returns:
        The distance, in squared units of the features; NaN for fewer than 2 images in a set.

    Raises:
        ValueError: different numbers of features.

    >>> a = FeatureMoments.of([[0.0], [2.0]])
    >>> fid(a, FeatureMoments.of([[3.0], [5.0]]))
    9.0
    """
    if target.mean.shape != output.mean.shape:
        raise ValueError(f"{target.mean.size} features against {output.mean.size}")
    if min(target.n, output.n) < 2:
        return NAN
    difference = target.mean - output.mean
    inner = target.root @ output.covariance @ target.root
    values = eigh((inner + inner.T) / 2, eigvals_only=True)
    both = np.trace(target.covariance) + np.trace(output.covariance)
    distance = difference @ difference + both - 2.0 * np.sqrt(np.maximum(values, 0.0)).sum()
    return max(float(distance), 0.0)


def kid_full(target: ArrayLike, output: ArrayLike, *, paired: bool = False) -> float:
    """Squared maximum mean discrepancy over all rows, unbiased. Binkowski et al. 2018.

    The kernel is (x . y / D + 1)^3. With K its values, and sum' a sum over i != j:

        sum' K(x, x) / (n (n - 1)) + sum' K(y, y) / (m (m - 1)) - 2 sum K(x, y) / (n m)

    This assumes that x_i and y_i are independent. They are not where row i of both is a pair of
    target and output. With `paired` the terms i = j are left out of the last sum too, which then
    has n (n - 1) terms (the U-statistic of Gretton et al. 2012, lemma 6). The result is unbiased
    for pairs, and exactly 0 where both sets are equal.

    Args:
        target: [N, D].
        output: [M, D].
        paired: whether row i of both is a pair; then N = M.

    Returns:
        The distance. It may be slightly below 0 for similar sets, and is NaN for fewer than 2 rows.

    Raises:
        ValueError: `paired`, and the sets have different sizes.
    """
    x, y = _paired_rows(target, output)
    n, m = len(x), len(y)
    if paired and n != m:
        raise ValueError(f"pairs need as many outputs as truths, not {m} and {n}")
    if min(n, m) < 2:
        return NAN
    within = (_kernel_sum(x, x) - _kernel_diagonal(x, x)) / (n * (n - 1))
    within += (_kernel_sum(y, y) - _kernel_diagonal(y, y)) / (m * (m - 1))
    if paired:
        return within - 2.0 * (_kernel_sum(x, y) - _kernel_diagonal(x, y)) / (n * (n - 1))
    return within - 2.0 * _kernel_sum(x, y) / (n * m)


def kid(
    target: ArrayLike,
    output: ArrayLike,
    *,
    size: int,
    subsets: int = SUBSETS,
    seed: int = 0,
    paired: bool = False,
) -> tuple[float, float]:
    """Mean and standard deviation of `kid_full` over random subsets. Binkowski et al. 2018.

    The standard deviation is that of a single subset, not of the mean. Subsets may share rows.

    Args:
        target: [N, D].
        output: [M, D].
        size: rows of a subset, drawn without replacement.
        subsets: number of subsets.
        seed: seed of the random subsets.
        paired: whether row i of both is a pair. The two halves of a subset are then drawn from
            different pairs, so that they are independent; this needs 2 x size rows.

    Returns:
        Mean and standard deviation; NaN where there are too few rows for one subset.
    """
    x, y = _paired_rows(target, output)
    if size < 2 or len(x) < size * (1 + paired) or len(y) < size * (1 + paired):
        return NAN, NAN
    rng = np.random.default_rng(seed)
    distances = []
    for _ in range(subsets):
        if paired:
            drawn = rng.permutation(len(x))
            one, two = drawn[:size], drawn[size : 2 * size]
        else:
            one, two = rng.permutation(len(x))[:size], rng.permutation(len(y))[:size]
        distances.append(kid_full(x[one], y[two]))
    return float(np.mean(distances)), float(np.std(distances))


def precision_recall(
    target: ArrayLike, output: ArrayLike, *, neighbours: int = NEIGHBOURS
) -> tuple[float, float]:
    """Improved precision and recall. Kynkaanniemi et al. 2019.

    Each row of a set is the centre of a ball whose radius is the distance to its k-th nearest
    neighbour in that set (without itself). Precision is the share of outputs in the ball of some
    target: how many look real. Recall is the share of targets in the ball of some output: how much
    of the variety is covered. A point on the border is inside.

    Args:
        target: [N, D].
        output: [M, D].
        neighbours: k.

    Returns:
        Precision and recall, both 0..1; NaN where a set has fewer than k + 1 rows.

    >>> precision_recall([[0.0], [1.0], [2.0]], [[1.5], [1.6], [5.0]], neighbours=1)
    (0.6666666666666666, 0.3333333333333333)
    """
    x, y = _paired_rows(target, output)
    if min(len(x), len(y)) <= neighbours:
        return NAN, NAN
    # Centring does not change distances, and they lose fewer digits to rounding.
    middle = x.mean(axis=0)
    x, y = x - middle, y - middle
    return _inside(y, x, _radii(x, neighbours)), _inside(x, y, _radii(y, neighbours))


def inception_score(probabilities: ArrayLike, *, splits: int = 10) -> tuple[float, float]:
    """Inception Score. Salimans et al. 2016.

    exp of the mean over images of KL(p(class | image) || p(class)), computed for each of several
    equal splits of the images, in the given order. It uses the outputs only, not the targets.

    Args:
        probabilities: [N, K], rows that sum to 1.
        splits: number of splits.

    Returns:
        Mean and standard deviation over the splits; the mean lies in 1..K. NaN where there are
        fewer images than splits.

    >>> inception_score([[1.0, 0.0], [0.0, 1.0]], splits=1)
    (2.0, 0.0)
    """
    p = _rows(probabilities)
    if len(p) < splits:
        return NAN, NAN
    cuts = [len(p) * i // splits for i in range(splits + 1)]
    scores = [ClassSums.of(p[a:b]).score for a, b in pairwise(cuts)]
    return float(np.mean(scores)), float(np.std(scores))


@dataclass(frozen=True, eq=False)
class ClassSums(Additive):
    """Additive sums of the Inception Score over all images.

    Attributes:
        n: number of images.
        total: [K], sum of p.
        entropy: sum of p log p over images and classes.
    """

    n: int
    total: Array
    entropy: float

    @classmethod
    def of(cls, probabilities: ArrayLike) -> ClassSums:
        """Compute the sums of probabilities [N, K]."""
        p = _rows(probabilities)
        return cls(len(p), p.sum(axis=0), float(xlogy(p, p).sum()))

    @property
    def score(self) -> float:
        """Inception Score over all images at once (one split); NaN for no images."""
        if self.n == 0:
            return NAN
        mean = self.total / self.n
        return math.exp(self.entropy / self.n - float(xlogy(mean, mean).sum()))


def halves(
    count: int, groups: Sequence[str] | None = None, *, seed: int = 0
) -> tuple[NDArray[np.int_], NDArray[np.int_], str]:
    """Split true images into two halves, to measure the distance between two sets of true images.

    Groups are not split: tiles of one scene are similar, so halves that share scenes would have a
    smaller distance than two sets of scenes. In a random order, each group goes to the half that
    has fewer images so far. If there is only one group, or none is given, images are split.

    Args:
        count: number of images.
        groups: the group of each image.
        seed: seed of the order.

    Returns:
        Positions of the images in each half, ascending, and the unit of the split: `groups` or
        `images`.

    Raises:
        ValueError: another number of groups than of images.

    >>> halves(4, ["a", "a", "b", "b"])[2]
    'groups'
    """
    rng = np.random.default_rng(seed)
    if groups is not None and len(groups) != count:
        raise ValueError(f"{len(groups)} groups for {count} images")
    names = sorted(set(groups or ()))
    if len(names) < 2:
        order = rng.permutation(count)
        return np.sort(order[: count // 2]), np.sort(order[count // 2 :]), "images"
    members: dict[str, list[int]] = {name: [] for name in names}
    for position, name in enumerate(groups or ()):
        members[name].append(position)
    parts: tuple[list[int], list[int]] = ([], [])
    for number in rng.permutation(len(names)):
        parts[len(parts[0]) > len(parts[1])].extend(members[names[number]])
    one, two = (np.sort(np.asarray(part, dtype=np.int_)) for part in parts)
    return one, two, "groups"


def _rows(features: ArrayLike) -> Array:
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2:
        raise ValueError(f"features are [N, D], not {list(x.shape)}")
    if not np.isfinite(x).all():
        raise ValueError("features must be finite")
    return x


def _paired_rows(target: ArrayLike, output: ArrayLike) -> tuple[Array, Array]:
    x, y = _rows(target), _rows(output)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"{x.shape[1]} features against {y.shape[1]}")
    return x, y


def _blocks(x: Array) -> Iterator[slice]:
    return (slice(at, at + _BLOCK) for at in range(0, len(x), _BLOCK))


def _kernel_sum(x: Array, y: Array) -> float:
    """Return the sum of the kernel over all pairs of rows, computed in blocks."""
    d = x.shape[1]
    return math.fsum(
        float(((x[a] @ y[b].T / d + 1.0) ** 3).sum()) for a in _blocks(x) for b in _blocks(y)
    )


def _kernel_diagonal(x: Array, y: Array) -> float:
    return float(((np.einsum("nd,nd->n", x, y) / x.shape[1] + 1.0) ** 3).sum())


def _squares(x: Array, y: Array) -> Array:
    """Return squared distances [N, M]; values of the size of the rounding error become 0."""
    both = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1)[None]
    squares = both - 2.0 * (x @ y.T)
    return np.asarray(np.where(squares > 1e-13 * both, squares, 0.0))


def _radii(x: Array, neighbours: int) -> Array:
    """Return the squared distance [N] of each row to its k-th nearest other row."""
    out = np.empty(len(x))
    for a in _blocks(x):
        squares = _squares(x[a], x)
        squares[np.arange(len(squares)), np.arange(len(x))[a]] = np.inf
        out[a] = np.partition(squares, neighbours - 1, axis=1)[:, neighbours - 1]
    return out


def _inside(points: Array, centres: Array, radii: Array) -> float:
    """Return the share of points that lie in at least one ball."""
    inside = sum(
        int((_squares(points[a], centres) <= radii).any(axis=1).sum()) for a in _blocks(points)
    )
    return inside / len(points)
