"""Truth, model and baselines, image by image, and how far apart their sets are in the end.

`FeatureSet` is for an `Extractor`, `DistanceSet` for a `Distance`; both take the same images and
`collect` makes the one that fits. Images are shown as `Channels` says. What is not valid in the
truth is filled with the middle value in truth and outputs alike, and an image with less than half
of its pixels valid is left out for all of them, and counted.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from crossband.errors import CrossbandError
from crossband.metrics import distances as formulas
from crossband.metrics.distances import ClassSums, FeatureMoments
from crossband.metrics.extractors.base import Distance, Extractor
from crossband.metrics.extractors.channels import LEAST_VALID, Channels

#: How the true images are called beside `model` and the baselines.
TRUTH = "truth"
NAN = float("nan")


class PictureSet(ABC):
    """Images of the truth and of some outputs, all with one look.

    Args:
        channels: which bands are shown, and how.
        who: names of the outputs, as `model` and the baselines.
    """

    def __init__(self, channels: Channels, who: Sequence[str]) -> None:
        self.channels, self.who = channels, list(who)
        self.groups: list[str] = []
        self.n_left_out = 0
        self.n_nonfinite = dict.fromkeys(self.who, 0)

    @property
    def n(self) -> int:
        """How many images were taken."""
        return len(self.groups)

    def add(
        self,
        truth: ArrayLike,
        outputs: Mapping[str, ArrayLike],
        mask: ArrayLike | None = None,
        group: str = "",
    ) -> bool:
        """Add one image.

        Args:
            truth: [C, H, W], physical; a pixel that is not finite in some band is masked.
            outputs: name -> [C, H, W], the same unit, one for each of `who`. A value that is not
                finite where there is a truth is counted, and leaves the output without a number.
            mask: bool [H, W], True where a pixel counts; all where None.
            group: of the image.

        Returns:
            Whether it was taken: at least half of its pixels are valid.
        """
        true = np.asarray(truth)
        valid = np.isfinite(true).all(axis=0)
        if mask is not None:
            valid &= np.asarray(mask, dtype=bool)
        if valid.mean() < LEAST_VALID:
            self.n_left_out += 1
            return False
        made = {name: np.asarray(outputs[name]) for name in self.who}
        pictures = {TRUTH: self.channels.picture(true, valid)}
        for name, values in made.items():
            if values.shape != true.shape:
                raise ValueError(f"{name} is {values.shape}, and the truth {true.shape}")
            shown = values[list(self.channels.places)]
            self.n_nonfinite[name] += not np.isfinite(shown).all(axis=0)[valid].all()
            pictures[name] = self.channels.picture(values, valid)
        self._take({name: torch.from_numpy(p) for name, p in pictures.items()}, str(group))
        self.groups.append(str(group))
        return True

    @abstractmethod
    def _take(self, pictures: dict[str, Tensor], group: str) -> None:
        """Take the pictures [3, H, W] of one image, the truth's first."""

    @abstractmethod
    def result(self) -> dict[str, Any]:
        """Return everything that metrics.json says; NaN where there is no number."""

    def _about(self) -> dict[str, Any]:
        return {
            **self.channels.about(),
            "n": self.n,
            "n_left_out": self.n_left_out,
            "n_groups": len(set(self.groups)),
        }

    def _notes(self) -> list[str]:
        """Return what a reader must know of how the images are shown."""
        notes = []
        if self.channels.repeated:
            notes.append(
                f"{self.channels.bands[0]} is shown three times, as a grey picture: the network "
                "knows colour photographs, so compare only numbers that were made this way"
            )
        elif self.channels.bands != ("red", "green", "blue"):
            notes.append(
                f"{', '.join(self.channels.bands)} are shown as red, green, blue: compare only "
                "numbers that were made this way"
            )
        if self.n_left_out:
            notes.append(f"images left out, as less than half is valid: {self.n_left_out}")
        return notes


class FeatureSet(PictureSet):
    """FID, KID, precision, recall and Inception Score of outputs against the truth.

    Kept are the features, float32 [n, D] for the truth and each output, and sums of a fixed size.
    Results do not depend on the order of the images: rows are brought into an order of their own
    (group, then content) before subsets are drawn. They depend on the size of batches, and means
    on the order, in the last digits only.

    Args:
        extractor: see `crossband.metrics.extractors.load`.
        channels: which bands are shown, and how.
        who: names of the outputs.
        batch: pictures that the network gets at once.
        seed: of KID's subsets and of the halves of the truth.
        subset: most images of a subset of KID; half of the images where there are fewer than two
            subsets.
        subsets: how many subsets.
    """

    def __init__(
        self,
        extractor: Extractor,
        channels: Channels,
        who: Sequence[str],
        *,
        batch: int = 16,
        seed: int = 0,
        subset: int = formulas.SUBSET,
        subsets: int = formulas.SUBSETS,
    ) -> None:
        super().__init__(channels, who)
        self.extractor, self.batch, self.seed = extractor, batch, seed
        self.subset, self.subsets = subset, subsets
        self._waiting: list[tuple[str, Tensor]] = []
        self._keys: list[tuple[str, bytes]] = []
        names = (TRUTH, *self.who)
        self._rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
        self._moments: dict[str, FeatureMoments] = {}
        self._classes: dict[str, ClassSums] = {}

    def _take(self, pictures: dict[str, Tensor], group: str) -> None:
        digest = hashlib.sha256()
        for name, picture in pictures.items():
            digest.update(picture.numpy().tobytes())
            self._waiting.append((name, self.extractor.prepare(picture)))
        self._keys.append((group, digest.digest()))
        if len(self._waiting) >= self.batch:
            self._flush()

    def _flush(self) -> None:
        """Show the waiting pictures to the network, those of one size together."""
        while self._waiting:
            shape = self._waiting[0][1].shape
            fit = [p.shape == shape for _, p in self._waiting[: self.batch]]
            count = fit.index(False) if False in fit else len(fit)
            names, pictures = zip(*self._waiting[:count], strict=True)
            del self._waiting[:count]
            found = self.extractor(torch.stack(pictures))
            values = found.values.numpy()
            if not np.isfinite(values).all():
                raise CrossbandError(f"{self.extractor.name}: its features are not finite numbers")
            for name in dict.fromkeys(names):
                own = [i for i, n in enumerate(names) if n == name]
                self._rows[name].append(values[own])
                _add(self._moments, name, FeatureMoments.of(values[own]))
                if found.probabilities is not None:
                    _add(self._classes, name, ClassSums.of(found.probabilities.numpy()[own]))

    def result(self) -> dict[str, Any]:
        """Return the numbers of each output, the real-against-real floor, and how it was done."""
        self._flush()
        features = {name: self._ordered(name) for name in (TRUTH, *self.who)} if self.n else {}
        size = min(self.subset, self.n // 2)
        flagged = self.n < formulas.FULL_RANK
        notes = self._notes()
        if flagged:
            notes.insert(
                0,
                f"FID of {self.n} images, fewer than {formulas.FULL_RANK:,}, is biased upwards and "
                "can only be compared at this number; read KID",
            )
        return {
            "extractor": self.extractor.about(),
            **self._about(),
            "n_features": next(iter(features.values())).shape[1] if features else 0,
            "kid_subset": size,
            "kid_subsets": self.subsets,
            "neighbours": formulas.NEIGHBOURS,
            "seed": self.seed,
            "fid_flagged": flagged,
            "leads": "kid" if flagged else "fid",
            "notes": notes,
            "floor": self._floor(features.get(TRUTH)),
            "scores": {name: self._score(name, features, size) for name in self.who},
        }

    def _ordered(self, name: str) -> NDArray[np.float32]:
        order = sorted(range(self.n), key=self._keys.__getitem__)
        return np.concatenate(self._rows[name])[order]

    def _score(
        self, name: str, features: Mapping[str, NDArray[np.float32]], size: int
    ) -> dict[str, Any]:
        bad = self.n_nonfinite[name]
        out: dict[str, Any] = {"n_nonfinite": bad}
        if bad or not features:
            return {**dict.fromkeys((*NUMBERS, "inception_score"), NAN), **out}
        truth, own = features[TRUTH], features[name]
        mean, std = formulas.kid(
            truth, own, size=size, subsets=self.subsets, seed=self.seed, paired=True
        )
        precision, recall = formulas.precision_recall(truth, own)
        numbers = (
            formulas.fid(self._moments[TRUTH], self._moments[name]),
            *(mean, std, formulas.kid_full(truth, own, paired=True), precision, recall),
        )
        classes = self._classes.get(name)
        return {
            **dict(zip(NUMBERS, numbers, strict=True)),
            "inception_score": classes.score if classes else NAN,
            **out,
        }

    def _floor(self, truth: NDArray[np.float32] | None) -> dict[str, Any]:
        """Measure one half of the true images against the other."""
        if truth is None:
            return {**dict.fromkeys(NUMBERS, NAN), "n": [0, 0], "split": "images"}
        groups = sorted(self.groups)  # the order of the rows
        named = groups if any(groups) else None
        one, two, split = formulas.halves(self.n, named, seed=self.seed)
        a, b = truth[one], truth[two]
        size = min(self.subset, min(len(a), len(b)) // 2)
        mean, std = formulas.kid(a, b, size=size, subsets=self.subsets, seed=self.seed)
        precision, recall = formulas.precision_recall(a, b)
        numbers = (
            formulas.fid(FeatureMoments.of(a), FeatureMoments.of(b)),
            *(mean, std, formulas.kid_full(a, b) if len(a) else NAN, precision, recall),
        )
        return {
            **dict(zip(NUMBERS, numbers, strict=True)),
            "n": [len(a), len(b)],
            "kid_subset": size,
            "split": split,
        }


#: The numbers of an output, and of the floor.
NUMBERS = ("fid", "kid", "kid_std", "kid_full", "precision", "recall")


class DistanceSet(PictureSet):
    """The mean distance of outputs from their truth, over images; nothing else is kept.

    Args:
        distance: see `crossband.metrics.extractors.load`.
        channels: which bands are shown, and how.
        who: names of the outputs.
    """

    def __init__(self, distance: Distance, channels: Channels, who: Sequence[str]) -> None:
        super().__init__(channels, who)
        self.distance = distance
        self._sums = dict.fromkeys(self.who, 0.0)

    def _take(self, pictures: dict[str, Tensor], group: str) -> None:
        truth = pictures[TRUTH][None]
        if min(truth.shape[-2:]) < self.distance.smallest:
            raise CrossbandError(
                f"{self.distance.name}: images of {self.distance.smallest} x "
                f"{self.distance.smallest} pixels at least, not {truth.shape[-2]} x "
                f"{truth.shape[-1]}"
            )
        for name in self.who:
            self._sums[name] += float(self.distance(truth, pictures[name][None])[0])

    def result(self) -> dict[str, Any]:
        """Return the mean distance of each output."""
        return {
            "extractor": self.distance.about(),
            **self._about(),
            "notes": self._notes(),
            "scores": {
                name: {
                    self.distance.name: total / self.n
                    if self.n and not self.n_nonfinite[name]
                    else NAN,
                    "n_nonfinite": self.n_nonfinite[name],
                }
                for name, total in self._sums.items()
            },
        }


def collect(
    judge: Extractor | Distance, channels: Channels, who: Sequence[str], **options: Any
) -> FeatureSet | DistanceSet:
    """Return what collects images for an extractor or a distance.

    Args:
        judge: what `crossband.metrics.extractors.load` returned.
        channels: which bands are shown, and how.
        who: names of the outputs.
        **options: of `FeatureSet`; a distance takes none.
    """
    if isinstance(judge, Distance):
        return DistanceSet(judge, channels, who, **options)
    return FeatureSet(judge, channels, who, **options)


def _add(sums: dict[str, Any], name: str, more: Any) -> None:
    sums[name] = sums[name] + more if name in sums else more
