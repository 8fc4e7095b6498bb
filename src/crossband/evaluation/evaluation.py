"""One model, or one folder of predictions, over the rows of a manifest."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from crossband.data.reader import PairReader
from crossband.evaluation.aggregate import Cell, Tally
from crossband.evaluation.breakdown import Breakdowns
from crossband.evaluation.candidates import Entrant
from crossband.metrics import MODEL, Judge, Score, usable_indices
from crossband.raster.grid import Window

if TYPE_CHECKING:
    from crossband.metrics.extractors.base import Distance, Extractor
    from crossband.metrics.extractors.sets import PictureSet


@dataclass(frozen=True)
class Looks:
    """Which extractor looks at the images, and at which bands.

    Attributes:
        extractor: from `crossband.metrics.extractors.load`.
        bands: three target bands, one, or None where the target has one or three.
    """

    extractor: Extractor | Distance
    bands: Sequence[str] | None = None


class Trial:
    """Scores an entrant and its baselines on every pair.

    Args:
        entrant: who is judged.
        table: rows with a source and a target.
        indices: spyndex names; judged where the bands of a pair allow them.
        by: columns of the table to break the numbers down by.
        looks: for FID, KID and their like; None leaves them out.
        workers: threads that read ahead and score; they change no number.
    """

    def __init__(
        self,
        entrant: Entrant,
        table: pd.DataFrame,
        indices: Sequence[str],
        *,
        by: Sequence[str] = (),
        looks: Looks | None = None,
        workers: int = 1,
    ) -> None:
        self.entrant, self.table, self.indices = entrant, table, indices
        self.looks, self.workers = looks, workers
        self.reader = self._reader()
        self.rows = self.reader.rows
        self.tally = Tally(list(entrant.baselines))
        self.breakdowns = Breakdowns(by, table, list(entrant.baselines))
        self.sets: dict[str, PictureSet] = {}

    def _reader(self) -> PairReader:
        return PairReader(self.table, self.entrant.signature, self.entrant.scale)

    def run(self) -> list[dict[str, Any]]:
        """Score every pair; returns a record for each pair and each of model and baselines."""
        with ThreadPoolExecutor(self.workers, "crossband-score") as pool:
            return self._run(pool)

    def _run(self, pool: ThreadPoolExecutor) -> list[dict[str, Any]]:
        records = []
        for position, (source, target) in enumerate(self._pairs()):
            row = self.rows[position]
            judge = judge_of(source, target, self.indices)
            outputs = {who: self.answer(who, row, source, target) for who in self.entrant.names}
            found = pool.map(judge.score, map(values_of, outputs.values()))
            scores = dict(zip(outputs, found, strict=True))
            self.tally.add(Cell(sensor_of(row), target.unit, str(row["group"])), scores)
            self.breakdowns.add(position, target.unit, str(row["group"]), scores)
            self._look(row, source, target, outputs)
            for who, result in scores.items():
                records.append(
                    {
                        "position": position,
                        "model": self.entrant.label,
                        "by": who,
                        "unit": target.unit,
                        **result.numbers(),
                        **_means(result),
                    }
                )
        return records

    def answer(self, who: str, row: Mapping[str, Any], source: Window, target: Window) -> Window:
        """Return what the entrant or a baseline makes of a pair."""
        return self.entrant.answer(who, row, source, target.grid)

    def pair(self, position: int, reader: PairReader | None = None) -> tuple[Window, Window]:
        """Read a pair; the target's mask says which pixels count."""
        reader = reader or self.reader
        info = reader.info(position)
        grid, unit = info.grid, info.unit
        pixels = reader.read(position, grid.box)
        signature = self.entrant.signature
        fine = grid.zoom(self.entrant.scale)
        return (
            Window(pixels.source, pixels.source_mask, grid, tuple(signature.source), unit),
            Window(
                pixels.target,
                pixels.mask,
                fine,
                tuple(signature.target),
                signature.target_unit(unit),
            ),
        )

    def _pairs(self) -> Iterator[tuple[Window, Window]]:
        """Yield every pair in the order of the rows, read by threads a little ahead."""
        own = threading.local()

        def read(position: int) -> tuple[Window, Window]:
            if not hasattr(own, "reader"):  # an open file must not be read by two threads
                own.reader = self._reader()
            return self.pair(position, own.reader)

        pool = ThreadPoolExecutor(self.workers, "crossband-read")
        waiting: deque[Future[tuple[Window, Window]]] = deque()
        try:
            for position in range(len(self.rows) + self.workers):
                if position < len(self.rows):
                    waiting.append(pool.submit(read, position))
                if position >= self.workers:
                    yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _look(
        self,
        row: Mapping[str, Any],
        source: Window,
        target: Window,
        outputs: Mapping[str, Window],
    ) -> None:
        if self.looks is None:
            return
        from crossband.metrics.extractors import Channels, collect

        unit = target.unit
        if unit not in self.sets:
            channels = Channels.of(target.bands, unit, self.looks.bands)
            self.sets[unit] = collect(self.looks.extractor, channels, self.entrant.names)
        values = {who: values_of(w) for who, w in outputs.items()}
        mask = counting(source, target)
        self.sets[unit].add(target.values, values, mask, str(row["group"]))

    def record(self) -> dict[str, Any]:
        """Return what metrics.json says of this entrant."""
        sensors, totals = self.tally.sensors(), self.tally.totals()
        for sensor in sensors:
            sensor["profiles"] = profiles_of(totals[sensor["sensor"], sensor["unit"]])
        return {
            **self.entrant.describe(),
            "indices": self.tally.indices(),
            "sensors": sensors,
            "groups": self.tally.groups(),
            "ratios": self.tally.ratios(),
            "breakdowns": self.breakdowns.records(),
            "features": [{"unit": unit, **s.result()} for unit, s in self.sets.items()],
        }


def counting(source: Window, target: Window) -> Any:
    """Return where both sides are valid, bool on the target's grid."""
    finer = target.grid.height // source.grid.height
    return target.mask & source.mask.repeat(finer, axis=0).repeat(finer, axis=1)


def values_of(output: Window) -> Any:
    """Return the values of an output, NaN where it has none.

    A pixel that it masks though the truth is valid counts as not finite.
    """
    return np.where(output.mask, output.values, np.float32("nan"))


def judge_of(source: Window, target: Window, indices: Sequence[str]) -> Judge:
    """Prepare a truth for its outputs.

    Args:
        source: what the model was given; indices take true bands from it.
        target: the truth.
        indices: spyndex names; those that the bands do not allow are left out.
    """
    finer = target.grid.height // source.grid.height
    alike = source.unit == target.unit
    beside = dict(zip(source.bands, source.values, strict=True))
    return Judge(
        target.values,
        target.bands,
        target.unit,
        counting(source, target),
        beside=beside if finer == 1 and alike else None,
        indices=usable_indices(
            indices,
            source.bands,
            target.bands,
            unit=target.unit,
            same_pixels=finer == 1 and alike,
        ),
        scale=finer,
        source=beside if finer > 1 and alike else None,
        source_mask=source.mask if finer > 1 and alike else None,
    )


def compare_windows(
    output: Window, source: Window, target: Window, indices: Sequence[str]
) -> Score:
    """Score one output against the truth, on pixels where source and target are valid.

    Args:
        output: synthetic, on the grid of the target.
        source: see `judge_of`, as the rest.
        target: the truth.
        indices: spyndex names.
    """
    return judge_of(source, target, indices).score(values_of(output))


def sensor_of(row: Mapping[str, Any]) -> str:
    """Name the sensor of a pair; both where source and target come from different ones."""
    one = "unnamed sensor" if pd.isna(row["sensor"]) else str(row["sensor"])
    two = one if pd.isna(row["target_sensor"]) else str(row["target_sensor"])
    return one if one == two else f"{one} to {two}"


def _means(score: Score) -> dict[str, float]:
    """Return the mean true and synthetic index of an image: what a season is drawn from."""
    out = {}
    for name, moments in score.indices.items():
        if moments.defined:
            out[f"{name}_true"], out[f"{name}_synthetic"] = moments.mean_t, moments.mean_p
    return out


def profiles_of(whole: Mapping[str, Score]) -> dict[str, Any]:
    """Return where the errors of a sensor lie, by target band: model and baselines."""
    out: dict[str, Any] = {}
    for who, score in whole.items():
        for band, p in score.profiles().items():
            record = out.setdefault(band, {})
            if who == MODEL:
                record["values"], record["scatter"] = p.values.tolist(), p.scatter.tolist()
                record["errors"] = p.errors.tolist()
            record.setdefault("error", {})[who] = p.error.tolist()
            for key, found in (("brightness", p.brightness), ("ndvi", p.ndvi)):
                if found is not None:
                    table = record.setdefault(key, {"low": found.low.tolist(), "by": {}})
                    table["by"][who] = {
                        "n": found.n.tolist(),
                        "mae": found.mae.tolist(),
                        "bias": found.bias.tolist(),
                    }
        for band, s in score.spectrum().items():
            record = out.setdefault(band, {}).setdefault("spectrum", {})
            if who == MODEL:
                record["frequency"] = s.frequency.tolist()
                record["power"] = {"true": s.target.tolist()}
            record["power"][who] = s.output.tolist()
    return out
