"""Whether radar should be filtered before it becomes colour: perceptrons on pixels and on means.

    python benchmarks/speckle.py

Each region outside of the vault is left out once. A small perceptron is fitted to pixels of the
others, from four descriptions of a pixel: its own decibels, the mean of 9 x 9 pixels (a filter
against speckle), means and deviations of 5 x 5 and 17 x 17 pixels, and both. Printed is the
geometric mean over places of the error against that of the pixel's own decibels.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import vault
from torch import Tensor, nn
from torch.nn import functional

from crossband.core.signature import Signature, UnitRange
from crossband.data import manifest as manifests
from crossband.data.reader import PairReader

RANGES = UnitRange([(-25.0, 5.0), (-32.0, -2.0)], [(0.0, 0.5)] * 3, "reflectance")
SIGNATURE = Signature(["vv", "vh"], ["red", "green", "blue"], {"db": RANGES})
#: What a perceptron sees: whether the pixel itself, sides of windows, whether their deviations too.
SEEN: dict[str, tuple[bool, tuple[int, ...], bool]] = {
    "pixel": (True, (), False),
    "filtered, 9 x 9": (False, (9,), False),
    "windows of 5 and 17": (False, (5, 17), True),
    "pixel and windows of 5 and 17": (True, (5, 17), True),
}
STEPS, PLACES, PIXELS, WIDTH = 250, 32, 20, 48


@dataclass(frozen=True)
class Image:
    """A pair: region, place, normalised radar [2, H, W], colour [3, H, W], valid [H, W]."""

    region: str
    group: str
    radar: Tensor
    colour: Tensor
    valid: Tensor


def read(folder: Path) -> list[Image]:
    """Return the pairs outside of the vault."""
    table, path = vault.read("sar2optical", folder=folder), folder / "sar2optical.csv"
    rows = manifests.read(path).iloc[_positions(path, table)].reset_index(drop=True)
    reader, images = PairReader(rows, SIGNATURE), []
    for number, row in enumerate(reader.rows):
        pixels = reader.read(number, reader.info(number).grid.box)
        low = np.array([-25.0, -32.0], np.float32)[:, None, None]
        radar = np.where(pixels.mask, (pixels.source - low) / 30, 0).astype(np.float32)
        values = (radar, pixels.target / 0.5, pixels.mask)
        images.append(Image(str(row["region"]), str(row["group"]), *map(torch.from_numpy, values)))
    return images


def _positions(path: Path, table: pd.DataFrame) -> list[int]:
    wanted = set(table["source"])
    return [n for n, source in enumerate(pd.read_csv(path)["source"]) if source in wanted]


def describe(image: Image, own: bool, sides: tuple[int, ...], deviations: bool) -> Tensor:
    """Return the features of each valid pixel, [N, F]."""
    features = [image.radar] if own else []
    for side in sides:
        mean = _mean(image.radar, image.valid, side)
        features.append(mean)
        if deviations:
            square = _mean(image.radar**2, image.valid, side)
            features.append(3 * (square - mean**2).clamp_min(0).sqrt())
    return torch.cat(features)[:, image.valid].T.contiguous()


def _mean(x: Tensor, valid: Tensor, side: int) -> Tensor:
    weights = valid.to(x.dtype)[None]
    sums = functional.avg_pool2d(torch.cat([x * weights, weights])[None], side, 1, side // 2)[0]
    return sums[:-1] / sums[-1:].clamp_min(1e-6)


def fit(places: list[list[tuple[Tensor, Tensor]]]) -> nn.Module:
    """Fit a perceptron to features and colours of places; all count alike."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    count = places[0][0][0].shape[1]
    network = nn.Sequential(
        *(nn.Linear(count, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.GELU()),
        nn.Linear(WIDTH, 3),
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.003, weight_decay=0.01)
    for step in range(STEPS):
        drawn = []
        for _ in range(PLACES):
            images = places[int(rng.integers(len(places)))]
            x, y = images[int(rng.integers(len(images)))]
            some = torch.from_numpy(rng.integers(len(x), size=PIXELS))
            drawn.append((x[some], y[some]))
        x, y = (torch.stack(part) for part in zip(*drawn, strict=True))
        loss = (network(x) - y).abs().mean(dim=(1, 2))
        optimizer.zero_grad()
        torch.autograd.backward((0.05 * torch.log1p(loss / 0.05)).mean())
        for group in optimizer.param_groups:
            group["lr"] = 0.003 * (0.5 + 0.5 * np.cos(np.pi * step / STEPS))
        optimizer.step()
    return network


def errors(images: list[Image]) -> pd.DataFrame:
    """Return the mean absolute error in reflectance, a row for each place."""
    colours = [image.colour[:, image.valid].T for image in images]
    rows: dict[str, dict[str, float]] = {}
    for name, seen in SEEN.items():
        features = [describe(image, *seen) for image in images]
        for region in sorted({image.region for image in images}):
            outside: dict[str, list[tuple[Tensor, Tensor]]] = {}
            for image, x, y in zip(images, features, colours, strict=True):
                if image.region != region:
                    outside.setdefault(image.group, []).append((x, y))
            network = fit(list(outside.values()))
            found: dict[str, list[float]] = {}
            for image, x, y in zip(images, features, colours, strict=True):
                if image.region == region:
                    with torch.no_grad():
                        error = (network(x) - y).abs().mean().item() / 2
                    found.setdefault(image.group, []).append(error)
            for group, values in found.items():
                rows.setdefault(group, {})[name] = float(np.mean(values))
    return pd.DataFrame(rows).T


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--manifests", type=Path, default=vault.FOLDER)
    table = errors(read(parser.parse_args().manifests))
    ratio = np.exp(np.log(table.div(table["pixel"], axis=0)).mean())
    print("| what the perceptron sees | error / that of the pixel | better at |\n|---|---|---|")
    for name in SEEN:
        better = int((table[name] < table["pixel"]).sum())
        print(f"| {name} | {ratio[name]:.2f} | {better} of {len(table)} |")


if __name__ == "__main__":
    main()
