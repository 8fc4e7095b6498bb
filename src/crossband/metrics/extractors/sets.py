"""Collectors: they take targets and outputs image by image, and compute distances at the end.

`FeatureSet` is for an `Extractor`, `DistanceSet` for a `Distance`; `collect` returns the matching
one. `Channels` converts images to pictures. Pixels that are masked in the target get the same value
in target and outputs. Images with less than half of their pixels valid are left out for target and
outputs, and counted.
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
from crossband.metrics.extractors.channels import MIN_VALID, Channels
from crossband.metrics.moments import NAN

#: Name of the true images, beside `model` and the baselines.
TARGET = "truth"


class PictureSet(ABC):
    """Pictures of targets and of their outputs.

    Args:
        channels: conversion of images to pictures.
        names: names of the outputs, such as `model` and the baselines.
    """

    def __init__(self, channels: Channels, names: Sequence[str]) -> None:
        self.channels, self.names = channels, list(names)
        self.groups: list[str] = []
        self.n_left_out = 0
        self.n_nonfinite = dict.fromkeys(self.names, 0)

    @property
    def n(self) -> int:
        """Number of images that were added."""
        return len(self.groups)

    def add(
        self,
        target: ArrayLike,
        outputs: Mapping[str, ArrayLike],
        mask: ArrayLike | None = None,
        group: str = "",
    ) -> bool:
        """Add one image.

        Args:
            target: [C, H, W], physical units. A pixel that is not finite in some band is masked.
            outputs: name -> [C, H, W], the same unit, one for each of `names`. If an output is not
                finite at a valid pixel, this is counted, and the output's numbers are NaN.
            mask: bool [H, W], True for valid pixels; None: all are valid.
            group: the group of the image.

        Returns:
            Whether the image was added: at least half of its pixels are valid.
        """
        true = np.asarray(target)
        valid = np.isfinite(true).all(axis=0)
        if mask is not None:
            valid &= np.asarray(mask, dtype=bool)
        if valid.mean() < MIN_VALID:
            self.n_left_out += 1
            return False
        images = {name: np.asarray(outputs[name]) for name in self.names}
        pictures = {TARGET: self.channels.picture(true, valid)}
        for name, values in images.items():
            if values.shape != true.shape:
                raise ValueError(f"{name} is {values.shape}, and the truth {true.shape}")
            selected = values[list(self.channels.positions)]
            self.n_nonfinite[name] += not np.isfinite(selected).all(axis=0)[valid].all()
            pictures[name] = self.channels.picture(values, valid)
        self._add_pictures({name: torch.from_numpy(p) for name, p in pictures.items()}, str(group))
        self.groups.append(str(group))
        return True

    @abstractmethod
    def _add_pictures(self, pictures: dict[str, Tensor], group: str) -> None:
        """Add the pictures [3, H, W] of one image, the target's first."""

    @abstractmethod
    def result(self) -> dict[str, Any]:
        """Return the record for metrics.json; NaN where a number is not defined."""

    def _about(self) -> dict[str, Any]:
        return {
            **self.channels.about(),
            "n": self.n,
            "n_left_out": self.n_left_out,
            "n_groups": len(set(self.groups)),
        }

    def _notes(self) -> list[str]:
        """Return notes for the reader on how the pictures were made."""
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
    """FID, KID, precision, recall and Inception Score of outputs against the targets.

    It stores the features, float32 [n, D] for the targets and each output, and sums of a fixed
    size. Results do not depend on the order of the images, because rows are sorted (by group, then
    content) before subsets are drawn. Batch size and order change the last digits only.

    Args:
        extractor: see `crossband.metrics.extractors.load`.
        channels: conversion of images to pictures.
        names: names of the outputs.
        batch: batch size of the network.
        seed: seed of the subsets of KID and of the halves of the targets.
        subset: largest number of images in a subset of KID; at most half of the images are used.
        subsets: number of subsets.
    """

    def __init__(
        self,
        extractor: Extractor,
        channels: Channels,
        names: Sequence[str],
        *,
        batch: int = 16,
        seed: int = 0,
        subset: int = formulas.SUBSET,
        subsets: int = formulas.SUBSETS,
    ) -> None:
        super().__init__(channels, names)
        self.extractor, self.batch, self.seed = extractor, batch, seed
        self.subset, self.subsets = subset, subsets
        self._pending: list[tuple[str, Tensor]] = []
        self._keys: list[tuple[str, bytes]] = []
        names = (TARGET, *self.names)
        self._rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
        self._moments: dict[str, FeatureMoments] = {}
        self._classes: dict[str, ClassSums] = {}

    def _add_pictures(self, pictures: dict[str, Tensor], group: str) -> None:
        digest = hashlib.sha256()
        for name, picture in pictures.items():
            digest.update(picture.numpy().tobytes())
            self._pending.append((name, self.extractor.prepare(picture)))
        self._keys.append((group, digest.digest()))
        if len(self._pending) >= self.batch:
            self._flush()

    def _flush(self) -> None:
        """Compute the features of the pending pictures, in batches of pictures of one size."""
        while self._pending:
            shape = self._pending[0][1].shape
            same = [p.shape == shape for _, p in self._pending[: self.batch]]
            count = same.index(False) if False in same else len(same)
            names, pictures = zip(*self._pending[:count], strict=True)
            del self._pending[:count]
            features = self.extractor(torch.stack(pictures))
            values = features.values.numpy()
            if not np.isfinite(values).all():
                raise CrossbandError(f"{self.extractor.name}: its features are not finite numbers")
            for name in dict.fromkeys(names):
                rows = [i for i, n in enumerate(names) if n == name]
                self._rows[name].append(values[rows])
                _add(self._moments, name, FeatureMoments.of(values[rows]))
                if features.probabilities is not None:
                    _add(self._classes, name, ClassSums.of(features.probabilities.numpy()[rows]))

    def result(self) -> dict[str, Any]:
        """Return the numbers of each output, the distance between true halves, and all settings."""
        self._flush()
        features = {name: self._ordered(name) for name in (TARGET, *self.names)} if self.n else {}
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
            "floor": self._floor(features.get(TARGET)),
            "scores": {name: self._score(name, features, size) for name in self.names},
        }

    def _ordered(self, name: str) -> NDArray[np.float32]:
        order = sorted(range(self.n), key=self._keys.__getitem__)
        return np.concatenate(self._rows[name])[order]

    def _score(
        self, name: str, features: Mapping[str, NDArray[np.float32]], size: int
    ) -> dict[str, Any]:
        n_nonfinite = self.n_nonfinite[name]
        out: dict[str, Any] = {"n_nonfinite": n_nonfinite}
        if n_nonfinite or not features:
            return {**dict.fromkeys((*NUMBERS, "inception_score"), NAN), **out}
        target, output = features[TARGET], features[name]
        mean, std = formulas.kid(
            target, output, size=size, subsets=self.subsets, seed=self.seed, paired=True
        )
        precision, recall = formulas.precision_recall(target, output)
        numbers = (
            formulas.fid(self._moments[TARGET], self._moments[name]),
            *(mean, std, formulas.kid_full(target, output, paired=True), precision, recall),
        )
        classes = self._classes.get(name)
        return {
            **dict(zip(NUMBERS, numbers, strict=True)),
            "inception_score": classes.score if classes else NAN,
            **out,
        }

    def _floor(self, target: NDArray[np.float32] | None) -> dict[str, Any]:
        """Compute the distances between two halves of the true images."""
        if target is None:
            return {**dict.fromkeys(NUMBERS, NAN), "n": [0, 0], "split": "images"}
        groups = sorted(self.groups)  # the rows are sorted by group
        named = groups if any(groups) else None
        one, two, split = formulas.halves(self.n, named, seed=self.seed)
        a, b = target[one], target[two]
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


#: Numbers of an output, and of the two halves of the true images.
NUMBERS = ("fid", "kid", "kid_std", "kid_full", "precision", "recall")


class DistanceSet(PictureSet):
    """Mean distance of outputs from their targets, over images.

    Args:
        distance: see `crossband.metrics.extractors.load`.
        channels: conversion of images to pictures.
        names: names of the outputs.
    """

    def __init__(self, distance: Distance, channels: Channels, names: Sequence[str]) -> None:
        super().__init__(channels, names)
        self.distance = distance
        self._sums = dict.fromkeys(self.names, 0.0)

    def _add_pictures(self, pictures: dict[str, Tensor], group: str) -> None:
        target = pictures[TARGET][None]
        if min(target.shape[-2:]) < self.distance.min_side:
            raise CrossbandError(
                f"{self.distance.name}: images of {self.distance.min_side} x "
                f"{self.distance.min_side} pixels at least, not {target.shape[-2]} x "
                f"{target.shape[-1]}"
            )
        for name in self.names:
            self._sums[name] += float(self.distance(target, pictures[name][None])[0])

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
    network: Extractor | Distance, channels: Channels, names: Sequence[str], **options: Any
) -> FeatureSet | DistanceSet:
    """Return a collector for an extractor or a distance.

    Args:
        network: returned by `crossband.metrics.extractors.load`.
        channels: conversion of images to pictures.
        names: names of the outputs.
        **options: options of `FeatureSet`; a distance takes none.
    """
    if isinstance(network, Distance):
        return DistanceSet(network, channels, names, **options)
    return FeatureSet(network, channels, names, **options)


def _add(sums: dict[str, Any], name: str, more: Any) -> None:
    sums[name] = sums[name] + more if name in sums else more
