"""Time of the metrics: pairs, four scores each (a model and three baselines), by family and all.

    python benchmarks/metrics.py [--pairs 100] [--side 256] [--masked] [--json FILE]

Three loads: a near-infrared band in reflectance with NDVI, NDWI and EVI; a thermal band in kelvin;
a colour picture in `display` at twice the pixels of its source. The images are noise of amplitude
1 / frequency, the outputs are the truth blurred, noisy, shifted and constant. A family alone also
pays for what families share (moments, values less their mean), so that all together cost less than
their sum. Scores are added up as an evaluation does. Nothing is read from disk. Seconds are of one
process: CPU time in the table, and for all families the elapsed time, too.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crossband.metrics import PairScorer, Target, known_families

Array = NDArray[np.float32]
SCORES = 4


def texture(rng: np.random.Generator, bands: int, side: int) -> Array:
    """Return noise with the spectrum of natural scenes, in 0..0.6: [bands, side, side]."""
    f = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    f[0, 0] = np.inf
    phases = rng.normal(size=(bands, *f.shape)) + 1j * rng.normal(size=(bands, *f.shape))
    out = np.fft.irfft2(phases / f, (side, side))
    out = 0.6 * (out - out.min()) / (out.max() - out.min())
    return np.asarray(out, np.float32)


def outputs(rng: np.random.Generator, target: Array) -> list[Array]:
    """Return four wrong images, in the way that models and baselines are wrong."""
    noise = rng.normal(0.0, target.std() / 4, target.shape).astype(np.float32)
    blurred = ndimage.gaussian_filter(target, (0, 1.5, 1.5))
    return [
        blurred,
        target + noise,
        np.roll(target, 1, axis=2),
        np.full_like(target, target.mean()),
    ]


class Load:
    """Some pairs of one kind, made anew over and over.

    Args:
        name: as in `LOADS`.
        side: pixels.
        masked: whether a disc in each image does not count.
        count: different pairs.
    """

    def __init__(self, name: str, side: int, masked: bool, count: int = 4) -> None:
        rng = np.random.default_rng(0)
        self.name, self.pairs = name, []
        row, column = np.mgrid[:side, :side] / side
        mask = np.hypot(row - 0.4, column - 0.6) > 0.2 if masked else None
        for _ in range(count):
            options: dict[str, Any] = {}
            bands: tuple[str, ...]
            if name == "nir":
                rgb = texture(rng, 3, side)
                options["other_bands"] = dict(zip(("red", "green", "blue"), rgb, strict=True))
                options["indices"] = ("NDVI", "NDWI", "EVI")
                target, bands, unit = texture(rng, 1, side), ("nir",), "reflectance"
            elif name == "thermal":
                target = 270 + 50 * texture(rng, 1, side)
                bands, unit = ("thermal",), "kelvin"
            else:
                target, unit = texture(rng, 3, side), "display"
                bands = ("red", "green", "blue")
                coarse = target.reshape(3, side // 2, 2, side // 2, 2).mean(axis=(2, 4))
                options |= {"scale": 2, "source": dict(zip(bands, coarse, strict=True))}
            self.pairs.append(((target, bands, unit, mask), options, outputs(rng, target)))

    def run(self, pairs: int, families: Sequence[str] | None) -> tuple[float, float]:
        """Score; returns CPU seconds and elapsed seconds a pair."""
        totals: list[Any] = [None] * SCORES
        cpu, wall = time.process_time(), time.perf_counter()
        for number in range(pairs):
            given, options, found = self.pairs[number % len(self.pairs)]
            scorer = PairScorer(Target(*given, **options), families)
            for who, output in enumerate(found):
                one = scorer.score(output)
                one.numbers()
                totals[who] = one if totals[who] is None else totals[who] + one
        return (time.process_time() - cpu) / pairs, (time.perf_counter() - wall) / pairs

    def families(self) -> list[str]:
        """Return those that apply to these pairs."""
        given, options, _ = self.pairs[0]
        return list(PairScorer(Target(*given, **options)).families)


LOADS = {"nir": "NIR, 1 band", "thermal": "thermal, 1 band", "rgb x2": "RGB x2, 3 bands"}


def measure(pairs: int, side: int, masked: bool) -> dict[str, Any]:
    """Time every load, family by family."""
    result: dict[str, Any] = {"pairs": pairs, "side": side, "masked": masked, "loads": {}}
    result["machine"] = {"processor": platform.processor(), "python": platform.python_version()}
    for name in LOADS:
        load = Load(name, side, masked)
        load.run(2, None)  # imports, caches
        few = max(pairs // 4, 1)
        families = {family: load.run(few, [family])[0] for family in load.families()}
        cpu, wall = load.run(pairs, None)
        result["loads"][name] = {"families": families, "cpu": cpu, "wall": wall}
    return result


def table(result: dict[str, Any]) -> str:
    """Return the numbers as text: milliseconds a pair."""
    loads = result["loads"]
    lines = [
        "| family | " + " | ".join(f"{LOADS[n]}, ms a pair" for n in loads) + " |",
        "|---" * (len(loads) + 1) + "|",
    ]
    for family in known_families():
        found = [loads[n]["families"].get(family) for n in loads]
        if any(c is not None for c in found):
            cells = ["" if c is None else f"{1000 * c:.1f}" for c in found]
            lines.append(f"| {family} | " + " | ".join(cells) + " |")
    for key, words in {"cpu": "all", "wall": "all, elapsed"}.items():
        lines.append(
            f"| {words} | " + " | ".join(f"{1000 * loads[n][key]:.1f}" for n in loads) + " |"
        )
    seconds = " | ".join(f"{1000 * loads[n]['wall']:.0f} s" for n in loads)
    return "\n".join([*lines, f"| 1,000 pairs, elapsed | {seconds} |"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pairs", type=int, default=100, help="of each load, for all families")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--masked", action="store_true", help="a disc in each image is masked")
    parser.add_argument("--json", type=Path, help="write the numbers to FILE")
    a = parser.parse_args()
    result = measure(a.pairs, a.side, a.masked)
    words = ", a part masked" if a.masked else ""
    print(f"{a.pairs} pairs of {a.side} x {a.side}{words}, {SCORES} scores each")
    print(table(result))
    if a.json:
        a.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
