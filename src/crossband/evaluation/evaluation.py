"""Evaluation of one candidate and its baselines over the rows of a manifest."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crossband.data.reader import PairReader
from crossband.evaluation.aggregate import Aggregate, GroupKey
from crossband.evaluation.breakdown import Breakdowns
from crossband.evaluation.candidates import Candidate
from crossband.metrics import MODEL, PairScorer, Score, Target, index_values, usable_indices
from crossband.model.training_data import target_hash
from crossband.raster.grid import Window

if TYPE_CHECKING:
    from crossband.metrics.extractors.base import Distance, Extractor
    from crossband.metrics.extractors.sets import PictureSet


@dataclass(frozen=True)
class FeatureOptions:
    """Options of feature distances such as FID and KID.

    Attributes:
        extractor: from `crossband.metrics.extractors.load`.
        bands: one or three target bands; None if the target has one or three.
    """

    extractor: Extractor | Distance
    bands: Sequence[str] | None = None


class IntervalJudge(Protocol):
    """Holds intervals against the truth; see `place_intervals`."""

    def add(self, row: Mapping[str, Any], source: Window, target: Window) -> None:
        """Add a pair."""

    def record(self) -> dict[str, Any]:
        """Return the record for metrics.json."""

    def maps(
        self, row: Mapping[str, Any], source: Window
    ) -> Mapping[str, tuple[NDArray[np.float32], float]]:
        """Return maps [h, w] to draw, by their names, each with the upper end of its colours."""


class Evaluation:
    """Scores a candidate and its baselines on every pair.

    Args:
        candidate: the model or folder to evaluate.
        table: rows with a source and a target.
        indices: spyndex names; they are compared where the bands of a pair allow them.
        by: columns of the table to break the scores down by.
        features: options of FID, KID and similar distances; None: they are not computed.
        intervals: holds the candidate's intervals against the truth; None: they are not judged.
        workers: threads that read ahead and score; they do not change the results.
    """

    def __init__(
        self,
        candidate: Candidate,
        table: pd.DataFrame,
        indices: Sequence[str],
        *,
        by: Sequence[str] = (),
        features: FeatureOptions | None = None,
        intervals: IntervalJudge | None = None,
        workers: int = 1,
    ) -> None:
        self.candidate, self.table, self.indices = candidate, table, indices
        self.features, self.intervals, self.workers = features, intervals, workers
        self.reader = self._make_reader()
        self.rows = self.reader.rows
        self.aggregate = Aggregate(list(candidate.baselines))
        self.breakdowns = Breakdowns(by, table, list(candidate.baselines))
        self.picture_sets: dict[str, PictureSet] = {}
        self.trained_on = 0

    def _make_reader(self) -> PairReader:
        return PairReader(self.table, self.candidate.signature, self.candidate.scale)

    def run(self, scored: Callable[[], None] = lambda: None) -> list[dict[str, Any]]:
        """Score every pair; returns a record for each pair and each of model and baselines.

        Args:
            scored: is called after each pair.
        """
        records = []
        with ThreadPoolExecutor(self.workers, "crossband-score") as pool:
            for position, (source, target) in enumerate(self._pairs()):
                row = self.rows[position]
                known = self.candidate.trained_on
                self.trained_on += bool(known) and target_hash(target.values, target.mask) in known
                outputs = {
                    name: self.output(name, row, source, target) for name in self.candidate.names
                }
                values = {name: values_or_nan(window) for name, window in outputs.items()}
                scorer = pair_scorer(source, target, self.indices)
                scores = dict(zip(values, pool.map(scorer.score, values.values()), strict=True))
                group = str(row["group"])
                self.aggregate.add(GroupKey(sensor_name(row), target.unit, group), scores)
                self.breakdowns.add(position, target.unit, group, scores)
                self._add_features(group, source, target, values)
                if self.intervals is not None:
                    self.intervals.add(row, source, target)
                records += [
                    {
                        "position": position,
                        "model": self.candidate.label,
                        "by": name,
                        "unit": target.unit,
                        **score.numbers(),
                        **_index_means(score),
                    }
                    for name, score in scores.items()
                ]
                scored()
        return records

    def output(self, name: str, row: Mapping[str, Any], source: Window, target: Window) -> Window:
        """Return the output of the candidate (`model`) or of a baseline for a pair."""
        return self.candidate.output(name, row, source, target.grid)

    def triple(self, position: int) -> tuple[Window, Window, Window]:
        """Return source, target and the candidate's output of the row at a position."""
        source, target = self.pair(position)
        return source, target, self.output(MODEL, self.rows[position], source, target)

    def pair(self, position: int, reader: PairReader | None = None) -> tuple[Window, Window]:
        """Read source and target; pixels that are masked in the source are masked in both."""
        reader = reader or self.reader
        info = reader.info(position)
        grid, unit = info.grid, info.unit
        pixels = reader.read(position, grid.box)
        signature = self.candidate.signature
        target_grid = grid.zoom(self.candidate.scale)
        target_unit = signature.target_unit(unit)
        return (
            Window(pixels.source, pixels.source_mask, grid, tuple(signature.source), unit),
            Window(pixels.target, pixels.mask, target_grid, tuple(signature.target), target_unit),
        )

    def _pairs(self) -> Iterator[tuple[Window, Window]]:
        """Yield every pair in the order of the rows; threads read ahead."""
        local = threading.local()

        def read(position: int) -> tuple[Window, Window]:
            if not hasattr(local, "reader"):  # two threads must not share an open file
                local.reader = self._make_reader()
            return self.pair(position, local.reader)

        pool = ThreadPoolExecutor(self.workers, "crossband-read")
        pending: deque[Future[tuple[Window, Window]]] = deque()
        try:
            for position in range(len(self.rows) + self.workers):
                if position < len(self.rows):
                    pending.append(pool.submit(read, position))
                if position >= self.workers:
                    yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _add_features(
        self, group: str, source: Window, target: Window, outputs: Mapping[str, NDArray[Any]]
    ) -> None:
        """Add the images of a pair to the picture set of their unit."""
        if self.features is None:
            return
        from crossband.metrics.extractors import Channels, collect

        unit = target.unit
        if unit not in self.picture_sets:
            channels = Channels.of(target.bands, unit, self.features.bands)
            self.picture_sets[unit] = collect(
                self.features.extractor, channels, self.candidate.names
            )
        self.picture_sets[unit].add(target.values, outputs, valid_mask(source, target), group)

    def record(self) -> dict[str, Any]:
        """Return the record of the candidate for metrics.json."""
        sensors, totals = self.aggregate.sensors(), self.aggregate.totals()
        for sensor in sensors:
            sensor["profiles"] = profile_records(totals[sensor["sensor"], sensor["unit"]])
        return {
            **self.candidate.describe(),
            "trained_on": self.trained_on,
            "indices": self.aggregate.indices(),
            "sensors": sensors,
            "groups": self.aggregate.groups(),
            "ratios": self.aggregate.ratios(),
            "breakdowns": self.breakdowns.records(),
            "features": [
                {"unit": unit, **pictures.result()} for unit, pictures in self.picture_sets.items()
            ],
            **({} if self.intervals is None else {"intervals": self.intervals.record()}),
        }


def valid_mask(source: Window, target: Window) -> NDArray[np.bool_]:
    """Return where source and target are valid: bool, on the grid of the target."""
    scale = scale_of(source, target)
    return target.mask & source.mask.repeat(scale, axis=0).repeat(scale, axis=1)


def scale_of(source: Window, target: Window) -> int:
    """Return the number of target pixels per source pixel along one side."""
    return target.grid.height // source.grid.height


def values_or_nan(output: Window) -> NDArray[Any]:
    """Return the values of an output, and NaN where it is masked.

    A pixel that the output masks although the target is valid counts as not finite.
    """
    return np.where(output.mask, output.values, np.float32("nan"))


def other_bands(source: Window, target: Window) -> dict[str, NDArray[Any]] | None:
    """Return the true bands that indices take from the source; None if grid or unit differ."""
    if scale_of(source, target) > 1 or source.unit != target.unit:
        return None
    return dict(zip(source.bands, source.values, strict=True))


def allowed_indices(indices: Sequence[str], source: Window, target: Window) -> list[str]:
    """Return the indices that the bands of a pair allow."""
    same = other_bands(source, target) is not None
    return usable_indices(indices, source.bands, target.bands, unit=target.unit, same_pixels=same)


def index_maps(
    index: str, source: Window, target: Window, output: Window
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return the true index, the synthetic index, and where the true index is defined."""
    others = other_bands(source, target) or {}
    (true, defined), (synthetic, _) = (
        index_values(index, others | dict(zip(w.bands, w.values, strict=True)), target.unit)
        for w in (target, output)
    )
    return true, synthetic, defined


def pair_scorer(source: Window, target: Window, indices: Sequence[str]) -> PairScorer:
    """Return the scorer of the outputs of a pair.

    Args:
        source: input of the model; indices take true bands from it.
        target: the true image.
        indices: spyndex names; those that the bands do not allow are left out.
    """
    scale = scale_of(source, target)
    has_coarse_source = scale > 1 and source.unit == target.unit
    return PairScorer(
        Target(
            target.values,
            target.bands,
            target.unit,
            valid_mask(source, target),
            other_bands=other_bands(source, target),
            indices=allowed_indices(indices, source, target),
            scale=scale,
            source=dict(zip(source.bands, source.values, strict=True))
            if has_coarse_source
            else None,
            source_mask=source.mask if has_coarse_source else None,
        )
    )


def score_windows(output: Window, source: Window, target: Window, indices: Sequence[str]) -> Score:
    """Score one output over the pixels at which source and target are valid.

    Args:
        output: synthetic image, on the grid of the target.
        source: see `pair_scorer`.
        target: see `pair_scorer`.
        indices: see `pair_scorer`.
    """
    return pair_scorer(source, target, indices).score(values_or_nan(output))


def sensor_name(row: Mapping[str, Any]) -> str:
    """Return the sensor of a pair; both sensors if source and target differ."""
    source = "unnamed sensor" if pd.isna(row["sensor"]) else str(row["sensor"])
    target = source if pd.isna(row["target_sensor"]) else str(row["target_sensor"])
    return source if source == target else f"{source} to {target}"


def _index_means(score: Score) -> dict[str, float]:
    """Return the means of true and synthetic indices of an image, for plots over time."""
    out = {}
    for name, moments in score.indices.items():
        if moments.defined:
            out[f"{name}_true"], out[f"{name}_synthetic"] = moments.mean_t, moments.mean_p
    return out


def profile_records(scores: Mapping[str, Score]) -> dict[str, Any]:
    """Return target band -> error profile of a sensor, for profiles.json.

    Args:
        scores: model and baselines -> score over all images of the sensor.
    """
    out: dict[str, Any] = {}
    for name, score in scores.items():
        for band, p in score.profiles().items():
            record = out.setdefault(band, {})
            if name == MODEL:
                record["values"], record["scatter"] = p.values.tolist(), p.scatter.tolist()
                record["errors"] = p.errors.tolist()
            record.setdefault("error", {})[name] = p.error.tolist()
            for key, classes in (("brightness", p.brightness), ("ndvi", p.ndvi)):
                if classes is not None:
                    by_class = record.setdefault(key, {"low": classes.low.tolist(), "by": {}})
                    by_class["by"][name] = {
                        "n": classes.n.tolist(),
                        "mae": classes.mae.tolist(),
                        "bias": classes.bias.tolist(),
                    }
        for band, s in score.spectrum().items():
            # The model has no spectrum if its output is not finite; a baseline has one then.
            record = out.setdefault(band, {}).setdefault(
                "spectrum",
                {"frequency": s.frequency.tolist(), "power": {"true": s.target.tolist()}},
            )
            record["power"][name] = s.output.tolist()
    return out
