"""The page of an evaluation: one HTML file that loads no other files.

All its numbers come from metrics.json and profiles.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crossband.core.html import render
from crossband.core.version import __version__
from crossband.evaluation.intervals import MIN_GROUPS
from crossband.evaluation.report import plots, tables
from crossband.evaluation.report.cells import counted, metric_of
from crossband.evaluation.report.comparison_tables import comparison_tables
from crossband.evaluation.report.interval_tables import interval_tables
from crossband.evaluation.report.verdicts import verdicts


@dataclass
class PictureBlock:
    """Pictures of the pairs of one model in one unit.

    Attributes:
        title: heading above them.
        note: text below them.
        pairs: `caption` and `layers` of each pair.
    """

    title: str
    note: str
    pairs: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class FigureBlock:
    """Figures under one heading; each has `caption`, `uri` and `alt`."""

    title: str
    figures: list[dict[str, str]] = field(default_factory=list)


def render_page(
    metrics: Mapping[str, Any],
    profiles: Sequence[Mapping[str, Any]],
    pictures: Sequence[PictureBlock],
    figures: Sequence[FigureBlock],
    seconds: float | None = None,
) -> str:
    """Return the page.

    Args:
        metrics: content of metrics.json.
        profiles: content of profiles.json.
        pictures: pictures of pairs.
        figures: figures that are not drawn from the profiles, such as training curves and maps.
        seconds: duration of the evaluation.
    """
    models = metrics["models"]
    several = len(models) > 1
    sure = [t for m in models for t in interval_tables(m, several)]
    sure_figures = [block for m in models for block in _interval_figures(m)]
    figures = [block for m in profiles for block in _profile_figures(m)] + list(figures)
    labels = ", ".join(m["label"] for m in models)
    breakdowns = [t for m in models for t in tables.breakdown_tables(m, several)]
    breakdowns += [t for m in models for t in tables.group_tables(m, several)]
    guides = [t for m in models for t in tables.guide_tables(m, several)]
    features = [t for m in models for t in tables.feature_tables(m)]
    versus = comparison_tables(metrics["versus"]) if metrics.get("versus") else None
    ratios = tables.ratio_table(models)
    sections = [("numbers", "Numbers")]
    sections += [("baselines", "Baselines")] if ratios.rows else []
    sections += [("guides", "Guides")] if guides else []
    sections += [("intervals", "Intervals")] if sure else []
    sections += [("versus", "Side by side")] if versus else []
    sections += [("pictures", "Pictures")]
    sections += [("plots", "Where it errs")] if figures else []
    sections += [("breakdowns", "By column")] if breakdowns else []
    sections += [("features", "Features")] if features else []
    sections += [("how", "How")]
    return render(
        __package__,
        "evaluation.html",
        title=f"How good is {labels}?",
        about=metrics["manifest"],
        counted=counted,
        version=__version__,
        sections=sections,
        verdicts=verdicts(metrics),
        least=MIN_GROUPS,
        numbers=[t for m in models for t in tables.sensor_tables(m, several)],
        ratios=ratios,
        guides=guides,
        sure=sure,
        sure_plots=sure_figures,
        versus=versus,
        pictures=pictures,
        plots=figures,
        breakdowns=breakdowns,
        features=features,
        how=_how(metrics, seconds),
        glossary=_glossary(models),
    )


def _profile_figures(model: Mapping[str, Any]) -> list[FigureBlock]:
    """Draw the error profiles of each sensor."""
    out = []
    for record in model["sensors"]:
        title = f"{model['label']}: {record['sensor']} ({record['unit']})"
        for band, profile in record["bands"].items():
            name = title if len(record["bands"]) == 1 else f"{title}, {band}"
            figures = plots.profile_figures(profile, band=band, unit=record["unit"])
            out.append(FigureBlock(name, figures))
    return [block for block in out if block.figures]


def _interval_figures(model: Mapping[str, Any]) -> list[FigureBlock]:
    """Return plots of observed coverage and error by familiarity, for each unit and its guides."""
    about, out = model.get("intervals") or {"quantities": []}, []
    for unit, guide in dict.fromkeys((q["unit"], q.get("guide")) for q in about["quantities"]):
        records = {
            q["quantity"]: q["levels"]
            for q in about["quantities"]
            if (q["unit"], q.get("guide"), q["window"]) == (unit, guide, 1) and q["levels"]
        }
        figures = []
        if records:
            words = "how much of a place lies in its interval, mean over places"
            figures.append({"caption": words, **plots.coverage_by_level(records)})
        for record in about["familiarity"]:
            if (record["unit"], record.get("guide")) == (unit, guide):
                words = f"{record['quantity']}: right of the dotted line it is unfamiliar"
                figures.append({"caption": words, **plots.error_by_familiarity(record)})
        of = f"{unit}; {guide}" if guide else unit
        out.append(FigureBlock(f"{model['label']}: intervals ({of})", figures))
    return [block for block in out if block.figures]


def _how(metrics: Mapping[str, Any], seconds: float | None) -> list[tuple[str, str]]:
    about = metrics["manifest"]
    out = [
        ("pairs", f"{about['path']}, fingerprint {about['sha256'][:16]}"),
        ("which pixels", "those where source and target are valid; no other"),
        ("data range", ", ".join(f"{k} {v:g}" for k, v in metrics["data_range"].items())),
        ("indices", f"where the true denominator is above {metrics['index_guard']:g} in magnitude"),
        ("intervals", metrics["bootstrap"]["about"]),
    ]
    for m in metrics["models"]:
        weights = f", weights {m['weights_hash'][:16]}" if m["weights_hash"] else ""
        files = f", {m['predictions']['n_used']} files of {m['predictions']['folder']}" if (
            m.get("predictions")
        ) else ""  # fmt: skip
        bands = f"{', '.join(m['source'])} to {', '.join(m['target'])}"
        out.append((m["label"], f"{bands}; {m['precision']} on {m['device']}{weights}{files}"))
    if about.get("n_unguided"):
        out.append(("left out", f"{counted(about['n_unguided'], 'pair')} without a guide"))
    if about["n_unpaired"]:
        out.append(("left out", f"{counted(about['n_unpaired'], 'row')} without source or target"))
    if seconds is not None:
        out.append(("time", f"{seconds:.1f} s"))
    return out


def _glossary(models: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    names = dict.fromkeys(
        metric
        for m in models
        for s in m["sensors"]
        for metric in tables.metric_columns(s["scores"])
    )
    out = []
    for name in names:
        about = metric_of(name)
        source = f" ({about.source})" if about.source else ""
        out.append((about.heading, f"{about.about}{source}"))
    return out
