"""Models of the inner folds of rgb2nir in minutes: each is trained without one fold.

    python benchmarks/fold_models.py sample              read pixels and surroundings, once
    python benchmarks/fold_models.py train               a model without each fold, as a folder
    python benchmarks/fold_models.py guide               a network that takes a guide, without two

A `LocalPyramid` computes its surroundings without weights. So they are computed once for random
pixels of each image, and the network is trained on these: the same network, losses, weights of
places, steps and blend as `rgb2nir/local-pyramid`, but the same pixels again and again. What these
models are for is to be wrong at their fold as the recipe is at new places. `inner_folds.py` trains
the recipe itself, in hours. `guide` trains such a model without two folds, and on it the recipe
`rgb2nir/guided`, for half of its crops: one training for each fold would take twice as long.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import inner_folds
import numpy as np
import pandas as pd
import torch
import vault
from project import ROOT, crossband
from torch import Tensor, nn

from crossband import load
from crossband.api import Model
from crossband.data import manifest as manifests
from crossband.data.reader import PairReader
from crossband.networks.cells import cells_at
from crossband.networks.generators.familiar_blend import FamiliarBlend
from crossband.networks.generators.local_pyramid import LocalPyramid

RUNS = ROOT / "runs" / "fold-models"
FOLDS = 4
#: Pixels of an image that are kept, images of a batch, pixels of each in it, and steps.
KEPT, IMAGES, PIXELS, STEPS, WARM = 300, 150, 20, 1500, 150
RATE, DECAY, CLIP = 0.003, 0.01, 1.0
#: Scales of the losses of the recipe, weight of the second one, and the guard of its denominator.
NIR, NDVI, WEIGHT, GUARD = 0.05, 0.1, 0.5, 0.02
#: Folds that the network with a guide never sees: most guides of other dates lie in them. Crops of
#: a batch and steps of its training; the recipe has 64 and 6,000.
HELD, CROPS, GUIDED_STEPS = (0, 3), 48, 4000
#: Its folder.
GUIDED = RUNS / "guided"
NAMES = ("pixels", "truth", "corners", "shares", "cells", "low", "span")
Samples = dict[str, Tensor]


def sample(folder: Path) -> None:
    """Write random pixels of all images outside of the vault, with their surroundings."""
    rows = vault.read("rgb2nir", folder=folder)
    rows["fold"] = rows["region"].map(
        dict(zip(rows["region"], vault.inner_folds(rows, FOLDS), strict=True))
    )
    model = load("rgb2nir")
    network = cast(LocalPyramid, cast(FamiliarBlend, model.network).parts[0])
    with tempfile.TemporaryDirectory() as name:
        rows.to_csv(Path(name) / "rows.csv", index=False)
        table = manifests.read(Path(name) / "rows.csv")
    reader, rng = PairReader(table, model.signature, 1), np.random.default_rng(0)
    found: dict[str, list[Tensor]] = {name: [] for name in NAMES}
    kept = []
    for position in range(len(table)):
        info = reader.info(position)
        pixels = reader.read(position, info.grid.box)
        at = np.argwhere(pixels.mask)
        if not len(at):
            continue
        kept.append(position)
        row, column = torch.from_numpy(at[rng.integers(len(at), size=KEPT)].T.copy())
        values = (torch.from_numpy(a)[None] for a in (pixels.source, pixels.target))
        x, y = (
            model.signature.normalise(v, [info.unit], side).float()
            for v, side in zip(values, ("source", "target"), strict=True)
        )
        with torch.inference_mode():
            x = x * torch.from_numpy(pixels.source_mask)
            levels = network.surroundings(x)
            corners, shares = around(levels, row, column)
            cells = cells_at(network.description(levels).float(), row, column, network.stride)[0]
        ranges = [
            model.signature.ranges([info.unit], s, torch.zeros(0)) for s in ("source", "target")
        ]
        low, span = (torch.cat([r[n].reshape(-1) for r in ranges]) for n in (0, 1))
        for key, value in zip(
            NAMES,
            (
                x[0][:, row, column].T,
                y[0][:, row, column].T,
                corners.half(),
                shares,
                cells,
                low,
                span,
            ),
            strict=True,
        ):
            found[key].append(value.clone())
    RUNS.mkdir(parents=True, exist_ok=True)
    torch.save({key: torch.stack(of) for key, of in found.items()}, RUNS / "samples.pt")
    rows.iloc[kept].to_csv(RUNS / "rows.csv", index=False)


def around(levels: Sequence[Tensor], row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features of all levels at the four cells around pixels, and the cells' shares.

    Args:
        levels: surroundings of one image.
        row: of N pixels.
        column: likewise.

    Returns:
        [N, 4, F], of coarser levels interpolated, and [N, 4].
    """
    cell = 4
    height, width = levels[0].shape[1:3]
    sides = []
    for place, length in ((row, height), (column, width)):
        exact = ((place + 0.5) / cell - 0.5).clamp(0, length - 1)
        low = exact.floor().long()
        sides.append([(low, 1 - (exact - low)), ((low + 1).clamp_max(length - 1), exact - low)])
    corners = [(r, c, a * b) for r, a in sides[0] for c, b in sides[1]]
    features = []
    for r, c, _ in corners:
        coarse = [cells_at(f, r, c, 2**n)[0] for n, f in enumerate(levels[1:], start=1)]
        features.append(torch.cat([levels[0][0, r, c], *coarse], dim=1))
    return torch.stack(features, dim=1), torch.stack([s for *_, s in corners], dim=1)


def losses(made: Tensor, of: Samples) -> Tensor:
    """Return the recipe's loss of each image: [B, P] normalised near infrared -> [B]."""
    error = (made - of["truth"][..., 0]).abs().mean(dim=1)
    low, span = of["low"][:, None], of["span"][:, None]
    red = (of["pixels"][..., 0] * span[..., 0] + low[..., 0]).clamp_min(0.0)
    values = []
    for normal in (made, of["truth"][..., 0]):
        free = normal * span[..., -1] + low[..., -1]
        nir = free + (free.clamp_min(0.0) - free).detach()  # as `IndexLoss`, it keeps its gradient
        values.append(((nir - red) / (nir + red).clamp_min(GUARD), nir + red > GUARD))
    known = values[1][1]
    ndvi = ((values[0][0] - values[1][0]).abs() * known).sum(dim=1) / known.sum(dim=1).clamp_min(1)
    loss: Tensor = NIR * torch.log1p(error / NIR) + WEIGHT * NDVI * torch.log1p(ndvi / NDVI)
    return loss


def member_output(network: Any, member: Any, of: Samples) -> Tensor:
    """Return the output of one member of the network at samples: [B, P]."""
    parts = torch.split(of["corners"].float(), [level.in_features for level in member.levels], -1)
    total = sum(level(part) for level, part in zip(member.levels, parts, strict=True))
    vectors = (member.context(total) * of["shares"][..., None]).sum(dim=-2)
    pixels = of["pixels"].movedim(-1, 1)[..., None]  # [B, C, P, 1]
    features = network._pixel_features(pixels)
    return cast(Tensor, member.output(features, vectors[:, :, None])[..., 0, 0])


def train(samples: Samples, rows: Any, folds: Sequence[int]) -> Model:
    """Return a model that is trained without some folds."""
    rows = rows.reset_index(drop=True)
    inside = rows[~rows["fold"].isin(folds)]
    weighted = vault.with_weights(inside)
    each = weighted["weight"] / weighted.groupby("group")["weight"].transform("size")
    chances = torch.from_numpy((each / each.sum()).to_numpy())
    numbers = torch.from_numpy(inside.index.to_numpy().copy())
    torch.manual_seed(0)
    model = load("rgb2nir")
    old = model.network
    network = FamiliarBlend(**old.arguments)
    pyramid, linear, mlp = (cast(Any, part) for part in network.parts)

    def drawn(count: int) -> Samples:
        chosen = numbers[torch.multinomial(chances, count, replacement=True)]
        which = torch.randint(KEPT, (count, PIXELS))
        out = {
            k: samples[k][chosen[:, None], which] for k in ("pixels", "truth", "corners", "shares")
        }
        return out | {k: samples[k][chosen] for k in ("low", "span")}

    def fitted(parameters: Any, loss: Any, rate: float, decay: float, steps: int) -> None:
        optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
        plan = [
            min((n + 1) / WARM, 1) * 0.5 * (1 + np.cos(np.pi * n / steps)) for n in range(steps)
        ]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda n: plan[min(n, steps - 1)])
        for _ in range(steps):
            optimiser.zero_grad()
            torch.autograd.backward(loss())
            nn.utils.clip_grad_norm_(parameters, CLIP)
            optimiser.step()
            schedule.step()

    def of_members() -> Tensor:
        found = []
        for member in pyramid.members:
            of = drawn(IMAGES // len(pyramid.members))
            found.append(losses(member_output(pyramid, member, of), of))
        return torch.cat(found).mean()

    def of_pixels() -> Tensor:
        of = drawn(IMAGES)
        made = mlp(of["pixels"].movedim(-1, 1)[..., None])[:, 0, :, 0]
        error: Tensor = (made - of["truth"][..., 0]).abs().mean()
        return error

    fitted(list(pyramid.parameters()), of_members, RATE, DECAY, STEPS)
    fitted(list(mlp.parameters()), of_pixels, RATE, 0.0, STEPS)
    of = drawn(5000)
    flat = torch.cat(
        [of["pixels"].flatten(0, 1), torch.ones(of["pixels"].flatten(0, 1).shape[0], 1)], 1
    )
    linear.set_solution(torch.linalg.lstsq(flat, of["truth"].flatten(0, 1)).solution)
    chosen = numbers[torch.multinomial(chances, 5000, replacement=True)]
    network.fit_centres(samples["cells"][chosen, torch.randint(KEPT, (5000,))])
    model.network = network.eval().requires_grad_(False)
    model.calibration = None
    return model


def guide(samples: Samples, rows: Any, folder: Path) -> None:
    """Train a network that takes a guide without two folds, on a model without them."""
    train(samples, rows, HELD).save(GUIDED / "unguided")
    table = inner_folds.read("rgb2nir", "rgb2nir-guided", folder, FOLDS)
    inside = vault.with_weights(table[~table["fold"].isin(HELD)])
    inside.assign(split="train").to_csv(GUIDED / "rows.csv", index=False)
    crossband("data", "pack", GUIDED / "rows.csv", "-o", GUIDED / "packed", "--overwrite")
    crossband("fit", "rgb2nir/guided", "--data.manifest", GUIDED / "packed",
              "-o", GUIDED / "run", "--overwrite", "--no-baselines",
              "--unguided", GUIDED / "unguided", "--method.max_steps", GUIDED_STEPS,
              "--data.batch", CROPS)  # fmt: skip


def main() -> None:
    """Run a subcommand."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["sample", "train", "guide"])
    parser.add_argument("--manifests", type=Path, default=vault.FOLDER)
    parser.add_argument("--fold", type=int, choices=range(FOLDS), help="only without this one")
    a = parser.parse_args()
    if a.what == "sample":
        sample(a.manifests)
        return
    samples = torch.load(RUNS / "samples.pt", weights_only=True)
    rows = pd.read_csv(RUNS / "rows.csv", dtype={"date": str}, low_memory=False)
    if a.what == "guide":
        guide(samples, rows, a.manifests)
        return
    for fold in range(FOLDS) if a.fold is None else [a.fold]:
        model = train(samples, rows, [fold])
        held = torch.from_numpy((rows["fold"] == fold).to_numpy())
        model.name = f"rgb2nir without fold {fold}"
        model.save(RUNS / f"fold-{fold}")
        of = {k: v[held] for k, v in samples.items()}
        pyramid = cast(Any, model.network).parts[0]
        made = torch.stack([member_output(pyramid, m, of) for m in pyramid.members]).mean(dim=0)
        print(f"fold {fold}: loss {float(losses(made, of).mean()):.4f} at its places")


if __name__ == "__main__":
    main()
