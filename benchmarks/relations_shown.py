"""What relations.py compares, and its table: no run is opened but for its numbers at places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SEEDS = (0, 1, 2)
#: Draws of the bootstrap.
DRAWS = 10_000
#: Less is better in all of these; KID is in thousandths.
MEASURES = ("mae", "NDVI_mae", "spectrum_db", "kid")

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Claim:
    """One measure of a relation.

    Attributes:
        measure: one of `MEASURES`; less is better.
        first_is: what the paper says of the first arm against the second: `lower` or `higher`.
    """

    measure: str
    first_is: str = "lower"


@dataclass(frozen=True)
class Relation:
    """Two arms that differ in one thing, and what a paper says of them.

    Attributes:
        text: what the paper says.
        arms: names of two `ARMS`.
        claims: the measures that show it.
    """

    text: str
    arms: tuple[str, str]
    claims: tuple[Claim, ...]


RELATIONS = {
    "gan-and-l1": Relation(
        "A GAN beside L1: larger error, but the detail of a true picture (Isola et al. 2017)",
        ("l1-gan", "l1"),
        (Claim("mae", "higher"), Claim("spectrum_db")),
    ),
    "index-losses": Relation(
        "NIR-GAN's index losses, a third each beside 100 L1: lower NDVI error than L1 alone "
        "(Donike et al. 2025)",
        ("l1-index", "l1"),
        (Claim("NDVI_mae"),),
    ),
    "index-losses-30": Relation(
        "The same with index losses that weigh 30 times as much",
        ("l1-index-30", "l1"),
        (Claim("NDVI_mae"),),
    ),
    "conditional": Relation(
        "A discriminator that sees the source, without L1: lower error than one that does not "
        "(Isola et al. 2017)",
        ("gan-conditional", "gan-unconditional"),
        (Claim("mae"),),
    ),
    "penalty-and-clipping": Relation(
        "WGAN with a gradient penalty: better pictures than with clipped weights "
        "(Gulrajani et al. 2017)",
        ("wgan-penalty", "wgan-clipping"),
        (Claim("kid"), Claim("mae")),
    ),
    "penalty-of-sum": Relation(
        "WGAN-GP beside 100 L1 with a penalty on the gradient of the sum of the critic's scores, "
        "as public code has it: lower error than with that of their mean",
        ("wgan-sum", "wgan-mean"),
        (Claim("mae"), Claim("kid")),
    ),
    "training": Relation(
        "KID falls with training: after all steps against an eighth of them "
        "(Heusel et al. 2017, for FID)",
        ("wgan-penalty", "wgan-penalty-short"),
        (Claim("kid"),),
    ),
    "progressive": Relation(
        "Networks that grow: better pictures than the same ones at full size from the start "
        "(Karras et al. 2018)",
        ("progressive", "full-size"),
        (Claim("kid"), Claim("mae")),
    ),
}


def difference(first: Array, second: Array) -> tuple[float, float, float]:
    """Return the mean difference of two arms, and its interval of 95 %.

    Args:
        first: [seeds, places].
        second: the same.
    """
    apart = first - second
    rng = np.random.default_rng(0)
    seeds, places = apart.shape
    means = np.empty(DRAWS)
    for number in range(DRAWS):
        drawn = rng.integers(seeds, size=seeds)
        means[number] = apart[drawn].mean(axis=0)[rng.integers(places, size=places)].mean()
    low, high = np.percentile(means, [2.5, 97.5])
    return float(apart.mean()), float(low), float(high)


def read_arm(runs: Path, arm: str) -> dict[str, Array] | None:
    """Return measure -> [seeds, places]; None where a seed is missing."""
    paths = [runs / arm / f"seed-{seed}" / "places.csv" for seed in SEEDS]
    if not all(path.is_file() for path in paths):
        return None
    tables = [pd.read_csv(path) for path in paths]
    return {m: np.stack([t[m].to_numpy(float) for t in tables]) for m in MEASURES}


def verdict(claim: Claim, low: float, high: float) -> str:
    """Return whether an interval of a difference shows what the paper says.

    >>> verdict(Claim("mae"), -0.2, -0.1), verdict(Claim("mae", "higher"), -0.2, -0.1)
    ('shown', 'opposite')
    """
    if low <= 0.0 <= high:
        return "not shown"
    return "shown" if (high < 0.0) == (claim.first_is == "lower") else "opposite"


def collect(runs: Path, names: Sequence[str] = tuple(RELATIONS)) -> list[dict[str, Any]]:
    """Return what each claim of each relation has, `finished` False where an arm is missing."""
    found = []
    for name in names:
        relation = RELATIONS[name]
        first, second = (read_arm(runs, arm) for arm in relation.arms)
        for claim in relation.claims:
            row: dict[str, Any] = {
                "relation": name,
                "text": relation.text,
                "arms": list(relation.arms),
                "measure": claim.measure,
                "first_is": claim.first_is,
                "finished": first is not None and second is not None,
            }
            if first is not None and second is not None:
                a, b = first[claim.measure], second[claim.measure]
                known = np.isfinite(a).all(axis=0) & np.isfinite(b).all(axis=0)
                mean, low, high = difference(a[:, known], b[:, known])
                row |= {
                    "values": [float(a[:, known].mean()), float(b[:, known].mean())],
                    "difference": mean,
                    "interval": [low, high],
                    "seeds": [float(v) for v in (a - b)[:, known].mean(axis=1)],
                    "places": int(known.sum()),
                    "verdict": verdict(claim, low, high),
                }
            found.append(row)
    return found


def merged(kept: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the claims that were found; of what is not finished, what was kept stays."""
    before = {(row["relation"], row["measure"]): row for row in kept}
    return [
        row if row["finished"] else before.get((row["relation"], row["measure"]), row)
        for row in found
    ]


HEADINGS = {
    "mae": "MAE",
    "NDVI_mae": "NDVI MAE",
    "spectrum_db": "error of the spectrum, dB",
    "kid": "KID, thousandths",
}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the claims as Markdown."""
    heads = ["what the paper says", "measure", "first", "second", "first minus second (95 %)", ""]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in rows:
        measure = HEADINGS[row["measure"]]
        measure += "" if row["first_is"] == "lower" else " (higher)"
        if not row["finished"]:
            cells = [row["text"], measure, "", "", "", "not finished"]
        else:
            form = ".4f" if row["measure"] in ("mae", "NDVI_mae") else ".2f"
            a, b, mean, low, high = (
                format(v, form) for v in (*row["values"], row["difference"], *row["interval"])
            )
            cells = [row["text"], measure, a, b, f"{mean} ({low} to {high})", row["verdict"]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
