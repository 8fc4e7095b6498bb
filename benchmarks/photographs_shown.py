"""PSNR and SSIM of the recipe for photographs: table and curves, from the numbers in docs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

TESTED = ("Set5", "Set14", "BSD100")
#: VDSR (Kim et al. 2016, table 3), trained on the same pictures: PSNR in dB and SSIM.
VDSR = {"Set5": (31.35, 0.8838), "Set14": (28.01, 0.7674), "BSD100": (27.29, 0.7251)}
_COLOURS = dict(zip(TESTED, ("#1f5f8b", "#b5541c", "#3b7d4f"), strict=True))


def table(numbers: Mapping[str, Any]) -> str:
    """Return PSNR and SSIM of bicubic, of each judged checkpoint, and of VDSR.

    Args:
        numbers: `bicubic`, and `steps`: number of steps -> set -> PSNR in dB and SSIM; `hours` of
            the training, None where it is not finished.
    """
    rows = {"bicubic": numbers["bicubic"]}
    rows |= {f"{int(step):,} steps": own for step, own in numbers["steps"].items()}
    rows["VDSR (published)"] = VDSR
    lines = ["| PSNR in dB / SSIM | " + " | ".join(TESTED) + " |", "|" + "---|" * (len(TESTED) + 1)]
    for name, own in rows.items():
        cells = [f"{own[of][0]:.2f} / {own[of][1]:.4f}" for of in TESTED]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if numbers["hours"] is not None:
        lines.append(f"\nTrained in {numbers['hours']:.1f} hours on two cores.")
    return "\n".join(lines)


def draw(numbers: Mapping[str, Any], path: Path) -> None:
    """Draw the gain in PSNR over bicubic by steps; dashed lines are VDSR's."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = [int(step) for step in numbers["steps"]]
    for name, colour in _COLOURS.items():
        base = numbers["bicubic"][name][0]
        gains = [own[name][0] - base for own in numbers["steps"].values()]
        axes.plot(steps, gains, color=colour, marker=".", label=name)
        axes.axhline(VDSR[name][0] - base, color=colour, linestyle="--", linewidth=0.8)
    axes.set_xlabel("steps")
    axes.set_ylabel("PSNR gain over bicubic, dB")
    figure.legend(title="dashed: VDSR", frameon=False, loc="outside right upper")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
