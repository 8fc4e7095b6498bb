"""How far apart two sets of images are, as a network sees them: formulas on its features.

The functions take features [N, D], one row an image, and compute in float64. Which network made
them, and of what, is the business of `metrics.extractors`. `FeatureMoments` and `ClassSums` hold
sums that add up and no row; KID, precision and recall need the rows themselves.
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

Array = NDArray[np.float64]
NAN = float("nan")

#: Images below which the covariance of 2,048 Inception features is not of full rank: FID is then
#: flagged. Heusel et al. ask for 10,000.
FULL_RANK = 2048
#: Size and number of KID's subsets, as in the code of its authors.
SUBSET, SUBSETS = 1000, 100
#: Which nearest neighbour gives the radius of precision and recall.
NEIGHBOURS = 3
#: Rows that are held against all others at once.
_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class FeatureMoments:
    """Mean and covariance of features, from sums that can be added.

    Merged by the formula of Chan, Golub and LeVeque (1979), as `metrics.moments.Moments`.

    Attributes:
        n: rows.
        mean: [D].
        scatter: [D, D], sum of the products of deviations from the mean.
    """

    n: int
    mean: Array
    scatter: Array

    @classmethod
    def of(cls, features: ArrayLike) -> FeatureMoments:
        """Take the moments of features [N, D]."""
        x = _rows(features)
        mean = x.mean(axis=0) if len(x) else np.zeros(x.shape[1])
        apart = x - mean
        return cls(len(x), mean, apart.T @ apart)

    def __add__(self, other: FeatureMoments) -> FeatureMoments:
        """Return the moments of both sets of rows together."""
        n = self.n + other.n
        if self.n == 0 or other.n == 0:
            return other if self.n == 0 else self
        apart = other.mean - self.mean
        between = np.outer(apart, apart) * (self.n * other.n / n)
        mean = self.mean + apart * (other.n / n)
        return FeatureMoments(n, mean, self.scatter + other.scatter + between)

    @property
    def covariance(self) -> Array:
        """Covariance [D, D] with n - 1 in the denominator, as numpy.cov has it."""
        return np.asarray(self.scatter / (self.n - 1))

    @cached_property
    def root(self) -> Array:
        """Symmetric square root [D, D] of the covariance; singular ones have one, too."""
        values, vectors = eigh(self.covariance)
        # Rounding leaves eigenvalues of a singular matrix a little below zero.
        return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)


def fid(truth: FeatureMoments, output: FeatureMoments) -> float:
    """Frechet distance of two Gaussians with these means and covariances. Heusel et al. 2017.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)). S1 S2 is not symmetric, but has the eigenvalues of
    R S2 R with R = S1^(1/2), which is: so the trace of the root is a sum of square roots of real
    numbers, and no matrix is inverted. The true value is never below zero, and rounding is kept
    from going there.

    It is biased upwards, by about D / n of the variance: compare only at one n.

    Args:
        truth: moments of the true images' features; its `root` is computed once and kept.
        output: moments of the synthetic ones.

    Returns:
        The distance, in squared units of the features; NaN where one has fewer than 2 images.

    >>> a = FeatureMoments.of([[0.0], [2.0]])
    >>> fid(a, FeatureMoments.of([[3.0], [5.0]]))
    9.0
    """
    if truth.mean.shape != output.mean.shape:
        raise ValueError(f"{truth.mean.size} features against {output.mean.size}")
    if min(truth.n, output.n) < 2:
        return NAN
    apart = truth.mean - output.mean
    inner = truth.root @ output.covariance @ truth.root
    values = eigh((inner + inner.T) / 2, eigvals_only=True)
    both = np.trace(truth.covariance) + np.trace(output.covariance)
    found = apart @ apart + both - 2.0 * np.sqrt(np.maximum(values, 0.0)).sum()
    return max(float(found), 0.0)


def kid_full(truth: ArrayLike, output: ArrayLike, *, paired: bool = False) -> float:
    """Squared maximum mean discrepancy over all rows, unbiased. Binkowski et al. 2018.

    The kernel is (x . y / D + 1)^3. With K its values and the sums over i != j where marked ':

        sum' K(x, x) / (n (n - 1)) + sum' K(y, y) / (m (m - 1)) - 2 sum K(x, y) / (n m)

    Where row i of both is one pair, x_i and y_i are not independent, as this needs. `paired` leaves
    them out of the last sum, too, which then has n (n - 1) terms (the U-statistic of Gretton et al.
    2012, lemma 6): unbiased for pairs, and exactly 0 where both are equal.

    Args:
        truth: [N, D].
        output: [M, D].
        paired: whether row i of both belongs to one pair; N = M then.

    Returns:
        May be a little below zero where the sets are alike; NaN below 2 rows.
    """
    x, y = _alike(truth, output)
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
    truth: ArrayLike,
    output: ArrayLike,
    *,
    size: int,
    subsets: int = SUBSETS,
    seed: int = 0,
    paired: bool = False,
) -> tuple[float, float]:
    """Mean and standard deviation of `kid_full` over random subsets. Binkowski et al. 2018.

    The deviation is that of one subset, not of the mean, and subsets share rows.

    Args:
        truth: [N, D].
        output: [M, D].
        size: rows of a subset, drawn without putting back.
        subsets: how many.
        seed: of the draws.
        paired: row i of both belongs to one pair. The rows of a subset are then drawn from
            different pairs, as the halves of the truth are, so that both are independent; this
            needs 2 x size rows.

    Returns:
        Mean, standard deviation; NaN where there are too few rows for one subset.
    """
    x, y = _alike(truth, output)
    if size < 2 or len(x) < size * (1 + paired) or len(y) < size * (1 + paired):
        return NAN, NAN
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(subsets):
        if paired:
            drawn = rng.permutation(len(x))
            one, two = drawn[:size], drawn[size : 2 * size]
        else:
            one, two = rng.permutation(len(x))[:size], rng.permutation(len(y))[:size]
        found.append(kid_full(x[one], y[two]))
    return float(np.mean(found)), float(np.std(found))


def precision_recall(
    truth: ArrayLike, output: ArrayLike, *, neighbours: int = NEIGHBOURS
) -> tuple[float, float]:
    """Improved precision and recall. Kynkaanniemi et al. 2019.

    Around each row of a set lies a ball that reaches to its k-th nearest neighbour in that set,
    itself not counted. Precision is the share of outputs that lie in the ball of some truth (how
    many look real), recall the share of truths that lie in the ball of some output (how much of
    the variety is there). On the border counts as inside.

    Args:
        truth: [N, D].
        output: [M, D].
        neighbours: k.

    Returns:
        Precision, recall, both 0..1; NaN where a set has no k neighbours.

    >>> precision_recall([[0.0], [1.0], [2.0]], [[1.5], [1.6], [5.0]], neighbours=1)
    (0.6666666666666666, 0.3333333333333333)
    """
    x, y = _alike(truth, output)
    if min(len(x), len(y)) <= neighbours:
        return NAN, NAN
    # Distances do not change, and lose fewer digits where the rows lie around zero.
    middle = x.mean(axis=0)
    x, y = x - middle, y - middle
    return _inside(y, x, _radii(x, neighbours)), _inside(x, y, _radii(y, neighbours))


def inception_score(probabilities: ArrayLike, *, splits: int = 10) -> tuple[float, float]:
    """Inception Score. Salimans et al. 2016.

    exp of the mean over images of KL(p(class | image) || p(class)), in each of some equal parts of
    the images in their order. It looks at the outputs only, never at the truth; for the record.

    Args:
        probabilities: [N, K], rows that sum to 1.
        splits: parts.

    Returns:
        Mean and standard deviation over the parts, 1 at least and K at most; NaN where there are
        fewer images than parts.

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
class ClassSums:
    """What the Inception Score of all images together needs, as sums that can be added.

    Attributes:
        n: images.
        total: [K], sum of p.
        entropy: sum of p log p over images and classes.
    """

    n: int
    total: Array
    entropy: float

    @classmethod
    def of(cls, probabilities: ArrayLike) -> ClassSums:
        """Take the sums of probabilities [N, K]."""
        p = _rows(probabilities)
        return cls(len(p), p.sum(axis=0), float(xlogy(p, p).sum()))

    def __add__(self, other: ClassSums) -> ClassSums:
        """Return the sums of both sets of images."""
        return ClassSums(self.n + other.n, self.total + other.total, self.entropy + other.entropy)

    @property
    def score(self) -> float:
        """Inception Score over all images at once (one split), NaN where there is none."""
        if self.n == 0:
            return NAN
        mean = self.total / self.n
        return math.exp(self.entropy / self.n - float(xlogy(mean, mean).sum()))


def halves(
    count: int, groups: Sequence[str] | None = None, *, seed: int = 0
) -> tuple[NDArray[np.int_], NDArray[np.int_], str]:
    """Split true images in two, to measure how far apart two sets of real ones are.

    Whole groups go, in a random order, to the half that has fewer images so far: tiles of one scene
    are alike, and halves that share scenes would look closer than two sets of scenes are. Where
    there is only one group, or none is given, single images are split.

    Args:
        count: images.
        groups: the group of each.
        seed: of the order.

    Returns:
        Positions in each half, ascending, and what was kept whole: `groups` or `images`.

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


def _alike(truth: ArrayLike, output: ArrayLike) -> tuple[Array, Array]:
    x, y = _rows(truth), _rows(output)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"{x.shape[1]} features against {y.shape[1]}")
    return x, y


def _blocks(x: Array) -> Iterator[slice]:
    return (slice(at, at + _BLOCK) for at in range(0, len(x), _BLOCK))


def _kernel_sum(x: Array, y: Array) -> float:
    """Sum the kernel over all pairs of rows, a block at a time."""
    d = x.shape[1]
    return math.fsum(
        float(((x[a] @ y[b].T / d + 1.0) ** 3).sum()) for a in _blocks(x) for b in _blocks(y)
    )


def _kernel_diagonal(x: Array, y: Array) -> float:
    return float(((np.einsum("nd,nd->n", x, y) / x.shape[1] + 1.0) ** 3).sum())


def _squares(x: Array, y: Array) -> Array:
    """Return squared distances [N, M]; what is zero but for rounding is zero."""
    both = (x * x).sum(axis=1)[:, None] + (y * y).sum(axis=1)[None]
    found = both - 2.0 * (x @ y.T)
    return np.asarray(np.where(found > 1e-13 * both, found, 0.0))


def _radii(x: Array, neighbours: int) -> Array:
    """Return the squared distance [N] of each row to its k-th nearest other row."""
    out = np.empty(len(x))
    for a in _blocks(x):
        apart = _squares(x[a], x)
        apart[np.arange(len(apart)), np.arange(len(x))[a]] = np.inf
        out[a] = np.partition(apart, neighbours - 1, axis=1)[:, neighbours - 1]
    return out


def _inside(points: Array, centres: Array, radii: Array) -> float:
    """Return the share of points that lie in some ball."""
    found = sum(
        int((_squares(points[a], centres) <= radii).any(axis=1).sum()) for a in _blocks(points)
    )
    return found / len(points)
