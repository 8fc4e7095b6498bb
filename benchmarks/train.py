"""Training speed: the plain way against Crossband's, interleaved in one run.

    python benchmarks/train.py [--rounds 5] [--steps 2] [--threads N] [--device auto] [--json FILE]
    python benchmarks/train.py --profile

Each way has a process of its own, and they take turns. Both train pix2pix's U-Net (54,541,827
parameters) against a 70 x 70 PatchGAN (2,768,705), 256 x 256 pixels, batch 4, BCE + 100 L1, Adam
2e-4 (Isola et al. 2017), on noise: speed does not depend on what is seen.

Plain: a loop by hand as such repositories have it: fp32, eager, memory as PyTorch lays it out,
unfused Adam; the discriminator steps, then the generator; batches lie in memory. Crossband: the
method `PairedGAN` in Lightning's Trainer, set as `crossband fit` sets it (bf16 where the processor
has it, channels-last, fused Adam, memory kept between steps), with the loader reading a manifest,
the log, and the average of the weights, which the plain way does not have.

`--profile` prints the share of each part of Crossband's step instead: time under PyTorch's labels
(`record_function`), without what is under a label inside. On an accelerator each label waits for
the device, so that the shares are right and the sum is larger.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import resource
import statistics
import tempfile
import time
import warnings
from collections import defaultdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import rasterio
import torch
from affine import Affine
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.nn import functional
from torch.profiler import record_function
from torch.utils.flop_counter import FlopCounterMode

from crossband.core.devices import keep_freed_memory, resolve_device, resolve_precision
from crossband.core.signature import Signature, UnitRange
from crossband.data.module import Pairs
from crossband.networks import parameter_count
from crossband.networks.discriminators.patchgan import PatchGAN
from crossband.networks.generators.unet import UNet
from crossband.training.callbacks.checkpoints import Checkpoints
from crossband.training.callbacks.progress import TrainingProgress
from crossband.training.losses.pixel import L1
from crossband.training.methods.paired_gan import PairedGAN

SOURCE, TARGET = ["red", "green", "blue"], ["nir", "swir16", "swir22"]
SIGNATURE = Signature(
    SOURCE, TARGET, {"reflectance": UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)] * 3)}
)
LEARNING_RATE, BETAS, L1_WEIGHT = 2e-4, (0.5, 0.999), 100.0
#: Steps before anything is timed: memory is allocated, kernels are chosen.
WARM_UP = 2


def networks(a: argparse.Namespace) -> tuple[UNet, PatchGAN]:
    """Return the generator and the discriminator, the same in both ways."""
    torch.manual_seed(0)
    generator = UNet(len(SOURCE), len(TARGET), width=a.width, levels=a.levels)
    return generator, PatchGAN(len(SOURCE), len(TARGET), width=a.width, norm="batch")


class Plain:
    """Two steps for each batch, as pix2pix's repositories write them."""

    def __init__(self, a: argparse.Namespace, device: torch.device) -> None:
        generator, discriminator = networks(a)
        self.generator, self.discriminator = generator.to(device), discriminator.to(device)
        self.optimizers = [
            torch.optim.Adam(n.parameters(), LEARNING_RATE, BETAS, foreach=False, fused=False)
            for n in (self.generator, self.discriminator)
        ]
        shape = (a.batch, len(SOURCE), a.size, a.size)
        self.source, self.target = torch.rand(2, *shape, device=device)

    def step(self) -> None:
        """Step the discriminator, then the generator, and look at the losses."""
        of_generator, of_discriminator = self.optimizers
        output = self.generator(self.source)
        of_discriminator.zero_grad()
        true = self.discriminator(self.source, self.target)
        made = self.discriminator(self.source, output.detach())
        critic = 0.5 * (_bce(true, 1.0) + _bce(made, 0.0))
        critic.backward()  # type: ignore[no-untyped-call]
        of_discriminator.step()
        of_generator.zero_grad()
        fooled = _bce(self.discriminator(self.source, output), 1.0)
        pixels = functional.l1_loss(output, self.target)
        total = fooled + L1_WEIGHT * pixels
        total.backward()  # type: ignore[no-untyped-call]
        of_generator.step()
        _ = critic.item(), total.item(), fooled.item(), pixels.item()


def _bce(scores: Tensor, wanted: float) -> Tensor:
    return functional.binary_cross_entropy_with_logits(scores, torch.full_like(scores, wanted))


def scenes(folder: Path, size: int) -> Path:
    """Write a few scenes of noise with six bands, and the manifest of them."""
    rng = np.random.default_rng(0)
    side = size + size // 2
    bands = [*SOURCE, *TARGET]
    rows = []
    for number in range(4):
        path = folder / f"{number}.tif"
        with rasterio.open(
            path, "w", driver="GTiff", count=len(bands), height=side, width=side, dtype="float32",
            crs="EPSG:32633", transform=Affine(10, 0, 5e5, 0, -10, 5e6),
        ) as file:  # fmt: skip
            file.write(rng.uniform(0.0, 1.0, (len(bands), side, side)).astype(np.float32))
            file.descriptions, file.units = bands, ["reflectance"] * len(bands)
        rows.append({"source": path, "target": path})
    pd.DataFrame(rows).to_csv(folder / "pairs.csv", index=False)
    return folder / "pairs.csv"


def train(a: argparse.Namespace, steps: int, watch: lightning.Callback) -> PairedGAN:
    """Train Crossband's way for a number of steps."""
    device = resolve_device(a.device)
    if device.type == "cpu":
        keep_freed_memory()
    generator, discriminator = networks(a)
    method = PairedGAN(
        SIGNATURE,
        generator,
        losses=[L1(L1_WEIGHT)],
        optimizer=lambda p: torch.optim.Adam(p, LEARNING_RATE, BETAS),
        discriminator=discriminator,
        adversarial="bce",
        adversarial_weight=1.0,
        max_steps=steps,
    )
    precision = resolve_precision(device, a.precision)
    with tempfile.TemporaryDirectory() as folder:
        manifest = scenes(Path(folder), a.size)
        data = Pairs(manifest, crop=a.size, batch=a.batch, steps=steps, val_fraction=0.0)
        trainer = lightning.Trainer(
            accelerator=device.type,
            devices=1,
            precision="bf16-mixed" if precision == "bf16" else "32-true",
            max_epochs=-1,
            logger=TensorBoardLogger(folder, name="", version="logs"),
            callbacks=[Checkpoints(Path(folder)), TrainingProgress("train"), watch],
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(method, data)
    return method


class Turns(lightning.Callback):
    """Times rounds of Crossband's steps, from the end of one step to the end of another."""

    def __init__(self, device: torch.device, steps: int, line: Connection) -> None:
        self.device, self.steps, self.line = device, steps, line
        self.done = 0
        self.flops: Any = FlopCounterMode(display=False)
        self._start = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        """Count the operations of the first step."""
        if self.done == 0:
            self.flops.__enter__()

    def on_train_batch_end(self, *_: Any) -> None:
        """Report a round, and wait for the next turn."""
        if self.done == 0:
            self.flops.__exit__(None, None, None)
        self.done += 1
        rest = self.done - WARM_UP
        if rest < 0 or rest % self.steps:
            return
        if rest:
            self.line.send((now(self.device) - self._start, peak_memory(self.device)))
        else:
            self.line.send(self.flops.get_total_flops())
        self.line.recv()
        self._start = now(self.device)


def take_turns(way: str, a: argparse.Namespace, line: Connection) -> None:
    """Warm up, then do a round at each word of the line; the body of a process."""
    settle(a)
    device = resolve_device(a.device)
    if way == "crossband":
        train(a, WARM_UP + a.rounds * a.steps, Turns(device, a.steps, line))
        return
    plain = Plain(a, device)
    for _ in range(WARM_UP):
        plain.step()
    line.send([parameter_count(n) for n in (plain.generator, plain.discriminator)])
    for _ in range(a.rounds):
        line.recv()
        start = now(device)
        for _step in range(a.steps):
            plain.step()
        line.send((now(device) - start, peak_memory(device)))
    line.recv()


class Parts(lightning.Callback):
    """Sums up the time under each label, from the end of the warm-up on."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.total = 0.0
        self._open: list[str] = []
        self._since = 0.0
        self._start: float | None = None
        self._done = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Listen to all labels."""
        enter: Any = record_function.__enter__
        leave: Any = record_function.__exit__
        self._restore = enter, leave

        def entered(label: record_function) -> Any:
            self._move(label.name, opens=True)
            return enter(label)

        def left(label: record_function, *error: Any) -> None:
            leave(label, *error)
            self._move(label.name, opens=False)

        record_function.__enter__ = entered  # type: ignore[method-assign]
        record_function.__exit__ = left  # type: ignore[method-assign]

    def on_train_end(self, *_: Any) -> None:
        """Listen no more."""
        record_function.__enter__, record_function.__exit__ = self._restore  # type: ignore[method-assign]

    def on_train_batch_end(self, *_: Any) -> None:
        """Start when the warm-up is over."""
        self._done += 1
        time_now = now(self.device)
        if self._done == WARM_UP:
            self.seconds.clear()
            self._start = self._since = time_now
        elif self._start is not None:
            self.total = time_now - self._start

    def _move(self, label: str, opens: bool) -> None:
        part = part_of(label)
        if part is None:
            return
        time_now = now(self.device)
        if self._open:
            self.seconds[self._open[-1]] += time_now - self._since
        self._since = time_now
        if opens:
            self._open.append(part)
        else:
            self._open.pop()


def part_of(label: str) -> str | None:
    """Return the part of a step that a label stands for: the package's labels, PyTorch's own.

    >>> part_of("crossband/generator"), part_of("Optimizer.step#Adam.step"), part_of("aten::add")
    ('generator', 'optimiser', None)
    """
    if label.startswith("crossband/"):
        return label.removeprefix("crossband/")
    if label.startswith("Optimizer."):
        return "optimiser"
    return "loader" if "DataLoader" in label else None


def now(device: torch.device) -> float:
    """Return the time when the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_memory(device: torch.device) -> float:
    """Return the most memory in use so far, in GiB: the device's, or this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def matmul_peak(device: torch.device, side: int = 8192, times: int = 30) -> float:
    """Return TFLOP/s of a large bf16 matrix product: what this device can do at most."""
    x = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    best = float("inf")
    for _ in range(4):
        start = now(device)
        for _time in range(times):
            x @ x
        best = min(best, (now(device) - start) / times)
    return 2 * side**3 / best / 1e12


def compare(a: argparse.Namespace) -> dict[str, Any]:
    """Time both ways and print the table."""
    context = multiprocessing.get_context("spawn")
    lines: dict[str, Connection] = {}
    first: dict[str, Any] = {}
    for way in ("plain", "crossband"):
        lines[way], other = context.Pipe()
        context.Process(target=take_turns, args=(way, a, other), daemon=True).start()
        other.close()  # so that its end is the end of the line
        first[way] = lines[way].recv()
    seconds: dict[str, list[float]] = {way: [] for way in lines}
    memory: dict[str, float] = {}
    for _ in range(a.rounds):
        for way, line in lines.items():
            line.send("go")
            took, memory[way] = line.recv()
            seconds[way].append(took)
    for line in lines.values():
        line.send("go")
    device = resolve_device(a.device)
    counts, flops = first["plain"], first["crossband"] / a.batch
    speed = {n: a.batch * a.steps / statistics.median(s) for n, s in seconds.items()}
    ratios = [p / c for p, c in zip(*seconds.values(), strict=True)]
    ratio = statistics.median(ratios)
    precision = resolve_precision(device, a.precision)
    print(f"UNet {counts[0]:,} and PatchGAN {counts[1]:,} parameters, {a.size} x {a.size}, "
          f"batch {a.batch}, {where(device)}, {a.rounds} rounds of {a.steps} steps")  # fmt: skip
    print("| way | images/s | TFLOP/s | GiB at most |\n|---|---|---|---|")
    names = {"plain": "plain (fp32, eager)", "crossband": f"Crossband ({precision}, channels-last)"}
    for way, name in names.items():
        rate = speed[way] * flops / 1e12
        print(f"| {name} | {speed[way]:.2f} | {rate:.3g} | {memory[way]:.1f} |")
    print(f"\nCrossband / plain: {ratio:.2f} (median of the rounds' ratios, "
          f"{min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip
    print(f"{flops / 1e9:.3g} GFLOP an image in Crossband's step; TFLOP/s count only these")
    result: dict[str, Any] = {
        "parameters": {"generator": counts[0], "discriminator": counts[1]},
        "size": a.size,
        "batch": a.batch,
        "steps": a.steps,
        "where": where(device),
        "precision": precision,
        "images_per_second": speed,
        "gib_at_most": memory,
        "ratio": ratio,
        "ratios": ratios,
        "flop_per_image": flops,
    }
    if device.type == "cuda":
        peak = matmul_peak(device)
        share = speed["crossband"] * flops / 1e12 / peak
        print(f"bf16 matrix product: {peak:.0f} TFLOP/s; Crossband reaches {share:.1%} of it")
        result |= {"matmul_tflops": peak, "share_of_matmul": share}
    return result


def profile(a: argparse.Namespace) -> dict[str, Any]:
    """Time the parts of Crossband's step and print the table."""
    device = resolve_device(a.device)
    parts, steps = Parts(device), a.rounds * a.steps
    train(a, WARM_UP + steps, parts)
    named = sum(parts.seconds.values())
    rows = sorted(parts.seconds.items(), key=lambda item: -item[1])
    rows.append(("under no label", parts.total - named))
    print(f"Crossband's step, {where(device)}, mean of {steps} steps")
    print("| part | ms | share |\n|---|---|---|")
    for name, seconds in rows:
        print(f"| {name} | {seconds / steps * 1e3:.1f} | {seconds / parts.total:.1%} |")
    print(f"| all | {parts.total / steps * 1e3:.1f} | |")
    return {
        "where": where(device),
        "steps": steps,
        "seconds_per_step": {name: seconds / steps for name, seconds in rows},
    }


def where(device: torch.device) -> str:
    """Name the device."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{device.type}, {torch.get_num_threads()} threads"


def settle(a: argparse.Namespace) -> None:
    """Set up a process: threads, and no advice from Lightning; nothing is trained here."""
    if a.threads:
        torch.set_num_threads(a.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--profile", action="store_true", help="the parts of Crossband's step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2, help="steps of a round")
    parser.add_argument("--threads", type=int, help="PyTorch's threads; its own choice by default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", help="Crossband's: auto, fp32, bf16")
    parser.add_argument("--width", type=int, default=64, help="channels of the first layers")
    parser.add_argument("--levels", type=int, default=8, help="of the U-Net")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--json", type=Path, help="write the numbers to FILE")
    a = parser.parse_args()
    settle(a)
    result = profile(a) if a.profile else compare(a)
    if a.json:
        a.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
