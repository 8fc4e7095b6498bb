"""A full memory: one line, with a setting that was tried, and nothing saved of the trial."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiers import slow
from torch import nn

from crossband.core.memory import is_out_of_memory
from crossband.errors import TrainingError
from crossband.networks import Generator
from crossband.training.callbacks.checkpoints import read
from crossband.training.callbacks.memory import OutOfMemoryAdvice, cut_batch
from crossband.training.fit import fit

RECIPE = Path(__file__).parent / "recipe.yaml"


class Hungry(Generator):
    """Refuses tensors of more than so many pixels, as an allocator does; backward as well."""

    largest_number = 2**20

    def __init__(self, in_channels: int, out_channels: int, pixels: int, first: int = 0) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.pixels = in_channels, out_channels, pixels
        self.first, self.sizes = first, []
        self.body = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x):
        self.sizes.append(tuple(x.shape))
        if self.training and len(self.sizes) > self.first and x[:, 0].numel() > self.pixels:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
                "memory: you tried to allocate 3145728 bytes. Error code 12"
            )
        return self.body(x)


Generator.known.pop("Hungry")  # other tests go over the package's own classes


def options(pairs, pixels, first=0):
    hungry = f"{{class_path: {__name__}.Hungry, init_args: {{in_channels: 3, out_channels: 1, "
    hungry += f"pixels: {pixels}, first: {first}}}}}"
    more = ["--method.generator", hungry, "--data.batch", "12", "--data.crop", "64"]
    return ["--data.manifest", str(pairs), "--method.max_steps", "9", *more]


@pytest.mark.parametrize(
    ("pixels", "accumulate", "advice"),
    [
        slow(12 * 64**2 - 1, 1, "--data.batch 6 --method.accumulate 2 was tried, fits, and gives"),
        slow(4 * 64**2, 1, "--data.batch 3 --method.accumulate 4 was tried, fits, and gives"),
        (64**2, 2, "--data.batch 1 --method.accumulate 24 was tried, fits, and gives"),
        slow(
            32**2, 1, "not even one crop fits; --data.crop 32 --data.batch 1 --method.accumulate 12"
        ),
        slow(9, 1, "no smaller batch or crop fits either: take a smaller network"),
    ],
)
def test_the_largest_setting_that_fits_is_named(line_pairs, tmp_path, pixels, accumulate, advice):
    more = ["--method.accumulate", str(accumulate)]
    with pytest.raises(TrainingError) as error:
        fit(RECIPE, [*options(line_pairs, pixels), *more], tmp_path / "run")
    assert error.value.exit_code == 2
    said = str(error.value)
    assert said.startswith(
        "step 1: out of memory: a batch of 12 crops of 64 x 64 pixels, a generator of 4 "
        "parameters, 3.0 MiB asked for; "
    )
    assert advice in said
    assert not (tmp_path / "run/model").exists()
    assert not list((tmp_path / "run").glob("checkpoints/*"))


@pytest.mark.slow
def test_what_is_suggested_trains(line_pairs, tmp_path):
    """And gives the weights that the whole batch would have given."""
    arguments = [*options(line_pairs, 4 * 64**2), "--method.max_steps", "3"]
    with pytest.raises(TrainingError, match=r"--data\.batch 3 --method\.accumulate 4 was tried"):
        fit(RECIPE, arguments, tmp_path / "run")
    smaller = [*arguments, "--data.batch", "3", "--method.accumulate", "4"]
    fit(RECIPE, smaller, tmp_path / "parts")
    fit(RECIPE, [*arguments, "--method.generator.pixels", "99999"], tmp_path / "whole")
    a, b = (
        read(tmp_path / n / "checkpoints/last.ckpt")["state_dict"]["generator.body.weight"]
        for n in ("parts", "whole")
    )
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_the_trials_weights_are_not_saved(line_pairs, tmp_path):
    """What is there afterwards is the last good checkpoint, and resumes."""
    more = ["--trainer.checkpoint_every", "2"]
    whole = [*options(line_pairs, 99999), *more]
    fit(RECIPE, [*whole, "--method.max_steps", "4"], tmp_path / "good")
    good = read(tmp_path / "good/checkpoints/last.ckpt")
    # The same schedule needs the same number of steps: the fifth one finds the memory full.
    short = [*options(line_pairs, 64**2, first=5), *more, "--method.schedule", "Constant"]
    with pytest.raises(TrainingError, match="step 6: out of memory"):
        fit(RECIPE, short, tmp_path / "run")
    last = read(tmp_path / "run/checkpoints/last.ckpt")
    assert last["crossband"]["step"] == 4
    steps = {int(s["step"]) for s in last["optimizer_states"][0]["state"].values()}
    assert steps == {4}
    constant = [*whole, "--method.max_steps", "4", "--method.schedule", "Constant"]
    fit(RECIPE, constant, tmp_path / "same")
    same = read(tmp_path / "same/checkpoints/last.ckpt")["state_dict"]
    assert good["crossband"]["step"] == 4
    for name, value in last["state_dict"].items():
        assert torch.equal(value, same[name])


@pytest.mark.slow
def test_the_failed_steps_activations_are_gone_before_the_trial(line_pairs, tmp_path, monkeypatch):
    """A weak reference to what the failing forward pass had made."""
    import weakref

    made, alive = [], []
    forward = Hungry.forward

    def watched(self, x):
        held = x * 2.0  # in a frame of the failed step
        if not made:
            made.append(weakref.ref(held))
        else:
            alive.append(made[0]() is not None)
        return forward(self, x) + 0 * held[:, :1]

    monkeypatch.setattr(Hungry, "forward", watched)
    with pytest.raises(TrainingError, match="was tried"):
        fit(RECIPE, options(line_pairs, 64**2), tmp_path / "run")
    assert alive
    assert not any(alive)


def test_a_part_keeps_what_belongs_together():
    batch = {
        "source": torch.rand(4, 3, 8, 8),
        "target": torch.rand(4, 1, 16, 16),
        "mask": torch.ones(4, 1, 16, 16, dtype=torch.bool),
        "unit": ["a", "b", "c", "d"],
        "gsd": torch.arange(4.0),
    }
    small = cut_batch(batch, 2, 4)
    assert small["source"].shape == (2, 3, 4, 4)
    assert small["target"].shape == (2, 1, 8, 8)
    assert small["mask"].shape == (2, 1, 8, 8)
    assert small["unit"] == ["a", "b"]
    assert small["gsd"].tolist() == [0.0, 1.0]
    assert torch.equal(small["target"], batch["target"][:2, :, :8, :8])


def test_what_is_a_full_memory_and_what_is_not():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"))
    assert is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shapes"), OutOfMemoryAdvice().explained():
        raise RuntimeError("shapes do not match")
    with pytest.raises(TrainingError, match="out of memory"), OutOfMemoryAdvice().explained():
        raise MemoryError("Unable to allocate 3 GiB")


def test_out_of_memory_in_the_validation(line_pairs, tmp_path, monkeypatch):
    from crossband.training.methods.base import Method

    def full(*_):
        raise MemoryError

    monkeypatch.setattr(Method, "validation_step", full)
    arguments = ["--data.manifest", str(line_pairs), "--method.max_steps", "2"]
    with pytest.raises(TrainingError, match=r"after step 2: out of memory outside .*val_tile"):
        fit(RECIPE, [*arguments, "--data.steps", "2"], tmp_path / "run")


@pytest.mark.slow
def test_what_is_replayed_does_not_stand_in_the_way_of_a_smaller_crop(line_pairs, tmp_path):
    """The sixth step fails; five have filled the replay with outputs of the whole size."""
    recipe = RECIPE.with_name("cyclegan.yaml")
    arguments = options(line_pairs, 32**2, first=10)
    with pytest.raises(TrainingError, match=r"not even one crop fits; --data\.crop 32 --data"):
        fit(recipe, [*arguments, "--data.batch", "2"], tmp_path / "run")


@pytest.mark.slow
def test_the_other_process_says_so_in_one_line(line_pairs, tmp_path):
    """Only the first one's memory is full; the other one would wait for its gradients."""
    code = Path(__file__).read_text().partition("def options(")[0]
    code = code.replace("from __future__ import annotations", "")
    code += """
import os
from crossband.cli.main import main
forward = Hungry.forward
def one_of_two(self, x):
    self.pixels = 10**9 if os.environ.get("LOCAL_RANK") == "1" else 64**2
    return forward(self, x)
Hungry.forward = one_of_two
Generator.known["Hungry"] = Hungry
sys.exit(main())
"""
    script = tmp_path / "train.py"
    script.write_text(code)
    hungry = "{class_path: Hungry, init_args: {in_channels: 3, out_channels: 1, pixels: 1}}"
    command = ["fit", RECIPE, "--data.manifest", line_pairs, "--method.generator", hungry]
    command += ["--data.batch", "12", "--data.crop", "64", "--trainer.devices", "2"]
    done = subprocess.run(
        [sys.executable, script, *map(str, command), "--device", "cpu", "-o", tmp_path / "run"],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(
                [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
            ),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "--data.batch 1 --method.accumulate 12 was tried" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is kept by Linux")
def test_a_real_allocation_that_is_refused(line_pairs, tmp_path):
    """RLIMIT_AS, set before the first step to what is in use and a little more."""
    script = """
import resource, sys
from crossband.cli.main import main
from crossband.training.methods.base import Method
step = Method.training_step
def limited(self, batch, index):
    if self.step == 0:
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        limit = used + 600 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return step(self, batch, index)
Method.training_step = limited
sys.exit(main())
"""
    arguments = ["fit", str(RECIPE), "--data.manifest", str(line_pairs), "--data.crop", "256"]
    arguments += ["--data.batch", "2", "--method.max_steps", "3", "-o", str(tmp_path / "run")]
    arguments += ["--trainer.logger", "none", "--method.generator.width", "32"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments, "--data.batch", "32"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "out of memory: a batch of 32 crops of 256 x 256 pixels" in done.stderr
    assert "was tried" in done.stderr
    assert not (tmp_path / "run/model").exists()
