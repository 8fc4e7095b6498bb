"""`benchmarks/uncertainty.py`: one look at the vault, and the tables of what it found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import uncertainty
import vault
from judged_intervals import Rival, constant_widths, judged, spread_widths, table

from crossband.evaluation.place_errors import PlaceErrors
from crossband.model.calibration import Calibration, Factors


def places(count: int) -> list[PlaceErrors]:
    """Return places with 30 pixels each, whose members disagree where they err."""
    rng, found = np.random.default_rng(0), []
    for number in range(count):
        place = PlaceErrors(f"{number}", f"r{number}", "reflectance", "chips", {"chips"})
        sample = place.samples[1]
        for error in rng.normal(0, 0.02 * (1 + number), (30, 3)).astype(np.float32):
            sample.errors.append(error)
            sample.spread.append(np.full(2, 0.02 * (1 + number), np.float32))
        found.append(place)
    return found


def test_widths_that_know_the_error_have_the_better_score() -> None:
    found = places(20)
    rows = {}
    for name, widths in (("constant", constant_widths), ("members", spread_widths)):
        scores = [
            np.abs(np.stack(p.samples[1].errors)[:, 0]) / widths(p.samples[1])[:, 0] for p in found
        ]
        factors = Factors.of("nir", "reflectance", 1, "", ("chips",), scores)
        calibration = Calibration("", ("nir",), (factors,), "x", ())
        rows[name] = judged(calibration, found, widths)
        assert np.mean([row["coverage"] for row in rows[name]]) >= 0.9
    text = table(rows["members"], [Rival("constant", rows["constant"])]).splitlines()
    assert "constant: score (ratio)" in text[0]
    assert text[2].startswith("| nir | pixels | 20 |")
    assert float(text[2].split("(")[-1].split(")")[0]) < 0.8


def test_a_second_look_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uncertainty, "RUNS", tmp_path)
    monkeypatch.setattr(vault, "looks", lambda *_: ["numbers"])
    with pytest.raises(SystemExit, match="opened for rgb2nir-intervals already"):
        uncertainty.judge(uncertainty.Subject(), tmp_path, "again", again=False)


def test_each_way_of_making_the_sources_has_its_tables() -> None:
    subject = uncertainty.Subject("super-resolution-x2")
    assert [name for name, _ in subject.ways] == ["bicubic", "sensor"]
    found = places(12)
    for number, (_, way) in enumerate(subject.ways):
        for place in found[number::2]:
            place.way = way
    scores = [np.abs(np.stack(p.samples[1].errors)[:, 0]) for p in found]
    factors = Factors.of("red", "reflectance", 1, "", ("chips",), scores)
    rows = judged(Calibration("", ("red",), (factors,), "x", ()), found, constant_widths)
    texts = uncertainty.tables(subject, rows, [Rival("constant", rows)])
    names = ["table, bicubic", "families, bicubic", "table, sensor", "families, sensor"]
    assert list(texts) == names
    for name in ("table, bicubic", "table, sensor"):
        (row,) = texts[name].splitlines()[2:]
        assert row.startswith("| red | pixels | 6 |")
        assert row.endswith("(1.00) |")
