"""One training step of each system of the seeds: Crossband's against a plain PyTorch loop.

    python benchmarks/train_systems.py [--only RECIPE ...] [--rounds 5] [--seconds 4] [--threads 2]
                                       [--json FILE [--again]]
    python benchmarks/train_systems.py --profile [--only RECIPE ...]

The networks are the recipe's, at their full width, on its crops; `BATCH` makes batches smaller
where two cores need it. The plain loop is in `plain_steps.py`: fp32, eager, as the public code of
the system steps. Crossband is the recipe's method in Lightning's Trainer, set as `crossband fit`
sets it, in the recipe's precision (bf16 where the processor has it), and in fp32. Both ways have
their batches in memory. Each way has a process of its own, and they take turns: a round is as many
steps as take some seconds. Ratios are medians over the rounds.

With --json, what is in the file is not measured again; with --again it is, by new processes, and
their rounds are added. The same step may take a fifth longer in one process than in the next.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import lightning
import torch
from plain_steps import plain_step
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from train import WARM_UP, Parts, now, settle, where

from crossband.core.devices import keep_freed_memory, resolve_device, resolve_precision
from crossband.core.signature import Signature
from crossband.networks import parameter_count
from crossband.training import recipe, recipe_classes

#: The systems of the seeds, and the batch that is timed.
BATCH = {
    "rgb2nir/wgan-gp": 4,
    "rgb2nir/wgan-gp-small": 16,
    "rgb2nir/flow-matching": 2,
    "rgb2nir/discrete-flow-matching": 4,
    "rgb2nir/nir-gan": 2,
    "rgb2nir/nir-gan-satclip": 2,
    "rgb2nir/cnn": 32,
    "rgb2nir/mlp": 256,
    "sar2optical/pix2pix": 4,
    "super-resolution/unet-autoencoder": 32,
    "rgb2thermal/cyclegan": 1,
    "rgb2thermal/discogan": 4,
    "rgb2thermal/dualgan": 2,
    "rgb2thermal/unit": 1,
    "rgb2thermal/unit-vit": 2,
}
WAYS = ("plain", "fp32", "crossband")


class Same(Dataset[dict[str, Any]]):
    """The same batch again and again, in physical units, from memory."""

    def __init__(self, signature: Signature, crop: int, scale: int, batch: int) -> None:
        rng = torch.Generator().manual_seed(0)
        self.unit, limits = next(iter(signature.units.items()))
        self.batch: dict[str, Tensor] = {}
        for side, size in (("source", crop), ("target", crop * scale)):
            low, high = torch.tensor(getattr(limits, side)).T[:, None, :, None, None]
            x = torch.rand(batch, len(getattr(signature, side)), size, size, generator=rng)
            self.batch[side] = low + (high - low) * x
        self.batch["lonlat"] = torch.tensor([[12.0, 41.0]]).repeat(batch, 1)

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"unit": [self.unit] * len(self.batch["source"]), **self.batch}


def build(name: str, a: argparse.Namespace) -> tuple[Any, Same, str]:
    """Return the method of a recipe, its samples, and its precision."""
    config = recipe.load(name, [f"--{word}" for word in a.set])
    torch.manual_seed(0)
    method = recipe_classes.build_method(config)
    data = config["data"]["init_args"]
    batch = a.batch or BATCH[name]
    same = Same(method.signature, data["crop"], data.get("scale", 1), batch)
    return method, same, str(config.get("precision", "auto"))


def train(name: str, precision: str, steps: int, a: argparse.Namespace, watch: Any) -> None:
    """Train Crossband's way."""
    keep_freed_memory()
    method, same, own = build(name, a)
    method.max_steps = steps
    computed = resolve_precision(resolve_device("cpu"), own if precision == "crossband" else "fp32")
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        precision="bf16-mixed" if computed == "bf16" else "32-true",
        max_epochs=-1,
        logger=False,
        callbacks=[watch],
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(method, DataLoader(same, batch_size=None, collate_fn=lambda batch: batch))


class Rounds(lightning.Callback):
    """Times rounds of generator steps; waits for its turn between them."""

    def __init__(self, line: Connection) -> None:
        self.line, self.left, self.done = line, 0, 0
        self.start = 0.0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Count generator steps; report the end of a round."""
        if pl_module.step == self.done:
            return  # a critic's step
        self.done = pl_module.step
        if self.done < WARM_UP:
            return
        if self.done == WARM_UP:
            self.line.send(None)
        elif self.left > 1:
            self.left -= 1
            return
        else:
            self.line.send(now(torch.device("cpu")) - self.start)
        self.left = self.line.recv()
        if not self.left:
            trainer.should_stop = True
        self.start = now(torch.device("cpu"))


def take_turns(name: str, way: str, a: argparse.Namespace, line: Connection) -> None:
    """Warm up, then do as many steps as the line says; the body of a process."""
    settle(a)
    if way != "plain":
        train(name, way, 10**9, a, Rounds(line))
        return
    method, same, _ = build(name, a)
    step = plain_step(method, same.batch, [same.unit] * len(same.batch["source"]))
    for _n in range(WARM_UP):
        step()
    line.send(None)
    while count := line.recv():
        start = now(torch.device("cpu"))
        for _n in range(count):
            step()
        line.send(now(torch.device("cpu")) - start)


def measure(name: str, a: argparse.Namespace) -> dict[str, Any]:
    """Time all ways of one recipe in turn."""
    context = multiprocessing.get_context("spawn")
    lines: dict[str, Connection] = {}
    processes = []
    for way in WAYS:
        lines[way], other = context.Pipe()
        processes.append(context.Process(target=take_turns, args=(name, way, a, other)))
        processes[-1].start()
        other.close()  # so that its end is the end of the line
        lines[way].recv()
    counts = {}
    for way, line in lines.items():  # a round of every way takes about as long
        line.send(1)
        counts[way] = max(round(a.seconds / line.recv()), 1)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(a.rounds):
        for way, line in lines.items():
            line.send(counts[way])
            seconds[way].append(line.recv() / counts[way])
    for line in lines.values():
        line.send(0)
    for process in processes:
        process.join()
    method, same, own = build(name, a)
    return {
        "weights": parameter_count(method.generator),
        "batch": len(same.batch["source"]),
        "crop": same.batch["source"].shape[-1],
        "precision": resolve_precision(resolve_device("cpu"), own),
        "critic_steps": method.critic_steps,
        "where": where(torch.device("cpu")),
        **compared(seconds),
    }


def compared(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Return the seconds of a step in each round, the ratios of each, and their medians."""
    ratios = {
        way: [p / c for p, c in zip(seconds["plain"], seconds[way], strict=True)]
        for way in WAYS[1:]
    }
    medians = {way: statistics.median(values) for way, values in ratios.items()}
    return {"seconds": seconds, "ratios": ratios, "ratio": medians}


def table(found: dict[str, Any]) -> str:
    """Return the ratios as Markdown, with their median over the systems."""
    heads = [
        "recipe",
        "crop",
        "batch",
        "plain, s a step",
        "faster in fp32",
        "faster as shipped",
        "",
    ]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, own in found.items():
        ratios = own["ratios"]["crossband"]
        cells = [f"`{name}`", str(own["crop"]), str(own["batch"])]
        cells += [f"{statistics.median(own['seconds']['plain']):.3g}"]
        cells += [f"{own['ratio']['fp32']:.2f}"]
        cells += [f"{own['ratio']['crossband']:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"]
        lines.append("| " + " | ".join([*cells, own["precision"]]) + " |")
    of_all = [own["ratio"]["crossband"] for own in found.values()]
    first = next(iter(found.values()))
    lines.append(f"\n{first['where']}; median of the systems {statistics.median(of_all):.2f}, "
                 f"lowest {min(of_all):.2f}.")  # fmt: skip
    return "\n".join(lines)


def profile(name: str, a: argparse.Namespace) -> None:
    """Print the share of each part of Crossband's step."""
    parts = Parts(torch.device("cpu"))
    train(name, "crossband", WARM_UP + a.rounds, a, parts)
    rows = sorted(parts.seconds.items(), key=lambda item: -item[1])
    rows.append(("under no label", parts.total - sum(parts.seconds.values())))
    print(f"{name}: {parts.total / a.rounds * 1e3:.0f} ms a step: "
          + ", ".join(f"{part} {s / parts.total:.0%}" for part, s in rows))  # fmt: skip


def main() -> None:
    """Read the command line."""
    p = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    p.add_argument("--only", nargs="+", choices=list(BATCH), metavar="RECIPE")
    p.add_argument("--profile", action="store_true", help="the parts of Crossband's step")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=4.0, help="of a round, about")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--batch", type=int, help="for all, for a trial")
    p.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="options of recipes")
    p.add_argument("--json", type=Path, help="read and write the numbers")
    p.add_argument("--again", action="store_true", help="add rounds of new processes to the file")
    a = p.parse_args()
    if a.again and not a.json:
        p.error("--again needs --json, to whose numbers it adds")
    settle(a)
    names = a.only or list(BATCH)
    if a.profile:
        for name in names:
            profile(name, a)
        return
    found = json.loads(a.json.read_text()) if a.json and a.json.is_file() else {}
    for name in names:
        if name in found and not a.again:
            continue
        before = found[name]["seconds"] if name in found else {w: [] for w in WAYS}
        found[name] = measure(name, a)
        found[name] |= compared({w: before[w] + s for w, s in found[name]["seconds"].items()})
        print(f"{name}: {found[name]['ratio']}", flush=True)
        if a.json:
            part = a.json.with_suffix(".part")
            part.write_text(json.dumps(found, indent=1) + "\n")
            part.replace(a.json)
    print(table({n: found[n] for n in names}))


if __name__ == "__main__":
    main()
