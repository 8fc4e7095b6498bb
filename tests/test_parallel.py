"""Many processes: they repeat one; a kill at any moment is repaired by --resume."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
import subprocess
from pathlib import Path

import pytest
import soak
import torch

from crossband import load

HERE = Path(__file__).parent
PAIRED, CYCLE = HERE / "recipe.yaml", HERE / "cyclegan.yaml"

PORTS = itertools.count(os.getpid())

#: Runs the real command, and keeps the gradients that the first steps of all optimisers used.
PROBE = """
import sys, torch
from crossband.cli.main import main

grads = {}

def looking(parameters, world):
    parameters = list(parameters)
    average(parameters, world)
    if len(grads) < 3:
        grads[len(grads)] = torch.cat([p.grad.flatten() for p in parameters])

import crossband.training.methods.base as base
average = base.average_gradients
base.average_gradients = looking
code = main(sys.argv[2:])
torch.save(grads, sys.argv[1] + "." + str(__import__("os").environ.get("LOCAL_RANK", "0")))
sys.exit(code)
"""


@pytest.fixture
def start(interpreters):
    """Return a function that starts `python` with some arguments."""

    def begin(*arguments, env=None):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
        return interpreters.start(*arguments, env=environment)

    return begin


def finish(process, timeout=240):
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == 0, err
    return out


def free_port():
    """Return a port below those that a system gives away, of a range of this test worker's own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16
    while True:
        port = 20_000 + 500 * worker + next(PORTS) % 500
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return str(port)


def difference(one, other):
    a, b = (load(folder).network.state_dict() for folder in (one, other))
    return max((a[k] - b[k]).abs().max().item() for k in a)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, make_pairs):
    return make_pairs(tmp_path_factory.mktemp("pairs"))


def adversarial(pairs, *more):
    """A discriminator with inner steps and a penalty, clipping, the average."""
    return [
        *("--data.manifest", pairs, "--data.crop", "24", "--data.steps", "40"),
        *("--method.max_steps", "20", "--method.generator.drop_path", "0", "--device", "cpu"),
        *("--method.adversarial", "wasserstein", "--method.penalty", "1"),
        *("--method.adversarial_weight", "0.1", "--method.critic_steps", "2"),
        *("--method.discriminator", "{class_path: PatchGAN, init_args: {norm: none, width: 4}}"),
        *("--method.clip", "0.5", "--method.ema_decay", "0.9", *more),
    ]


def unpaired(pairs, *more):
    """The replay is each process's own, so it is off here."""
    return [
        *("--data.manifest", pairs, "--data.steps", "40", "--method.max_steps", "20"),
        *("--method.replay", "0", "--method.clip", "0.5", "--device", "cpu", *more),
        *("--method.discriminator.norm", "none", "--method.back_discriminator.norm", "none"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "options"), [(PAIRED, adversarial), (CYCLE, unpaired)])
def test_two_processes_and_accumulation_repeat_one_process(start, pairs, tmp_path, recipe, options):
    script = tmp_path / "probe.py"
    script.write_text(PROBE)

    def train(name, *more):
        out = tmp_path / name
        arguments = [script, f"{out}.grads", "fit", recipe, "-o", out, *options(pairs, *more)]
        finish(start(*arguments))
        grads = torch.load(f"{out}.grads.0", weights_only=True)
        return out / "model", grads

    one, grads = train("one", "--data.batch", "4")
    ways = {
        "two": ("--data.batch", "2", "--trainer.devices", "2"),
        "parts": ("--data.batch", "2", "--method.accumulate", "2"),
    }
    for name, more in ways.items():
        other, theirs = train(name, *more)
        for number, gradient in grads.items():
            # The first is the first step's; what follows has moved by rounding.
            limit = 1e-5 if number == 0 else 1e-4
            assert (gradient - theirs[number]).abs().max() < limit, (name, number)
        # Outputs, after 20 steps.
        source = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 0.3
        assert (load(one)(source) - load(other)(source)).abs().max() < 1e-4, name
        assert difference(one, other) < 1e-3, name


def two_nodes(begin, options):
    """Run two nodes; `begin(rank, port, options)` starts one. Another port where one was taken."""
    for attempt in range(3):
        port = free_port()
        nodes = [begin(rank, port, options) for rank in (0, 1)]
        try:
            for node in nodes:
                finish(node, timeout=100)
            return
        except subprocess.TimeoutExpired:  # another test took the port in between
            for node in nodes:
                node.kill()
                node.communicate()
            assert attempt < 2
            options = [*options, *["--overwrite"] * (attempt == 0)]


@pytest.mark.slow
def test_two_nodes_by_torchrun(start, pairs, tmp_path):
    """Two "nodes" of one process each, as `docs/training.md` starts them."""
    options = ["--data.manifest", pairs, "--method.max_steps", "4", "--device", "cpu"]
    options += ["--trainer.num_nodes", "2", "-o", tmp_path / "run"]

    def begin(rank, port, options):
        torchrun = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
        torchrun += ["--master-addr", "127.0.0.1", "--master-port", port]
        return start(*torchrun, "--node-rank", rank, "-m", "crossband", "fit", PAIRED, *options)

    two_nodes(begin, options)
    training = load(tmp_path / "run/model").about["training"]
    assert (training["steps"], training["samples"]) == (4, 16)


@pytest.mark.slow
def test_two_nodes_by_slurm(start, pairs, tmp_path):
    """What `srun` sets in each task's environment, with two nodes of one task."""
    options = ["--data.manifest", pairs, "--method.max_steps", "4", "--device", "cpu"]
    options += ["--trainer.num_nodes", "2", "-o", tmp_path / "run"]
    common = {
        "SLURM_JOB_ID": "1",
        "SLURM_JOB_NAME": "crossband",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_NNODES": "2",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_NODELIST": "localhost",
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_LOCALID": "0",
    }

    def begin(rank, port, options):
        own = {"MASTER_PORT": port, "SLURM_PROCID": str(rank), "SLURM_NODEID": str(rank)}
        return start("-m", "crossband", "fit", PAIRED, *options, env={**common, **own})

    two_nodes(begin, options)
    assert load(tmp_path / "run/model").about["training"]["samples"] == 16


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [PAIRED, CYCLE], ids=["PairedGAN", "CycleGAN"])
def test_killed_at_a_random_moment_it_resumes_to_the_same_weights(
    start, pairs, tmp_path, recipe, monkeypatch
):
    monkeypatch.setattr(soak, "start", lambda *a: start("-m", "crossband", *a))
    seed = random.SystemRandom().randrange(10**6)
    options = ["--data.manifest", pairs, "--method.max_steps", "300", "--device", "cpu"]
    options += ["--trainer.checkpoint_every", "7"]
    finish(start("-m", "crossband", "fit", recipe, "-o", tmp_path / "whole", *options))
    left = soak.kill_at_random(recipe, options, tmp_path / "killed", 1, seed)
    assert len(left) == 1, "it ended before it was killed"
    assert 0 < left[0] < 300
    assert soak.same_run(tmp_path / "whole", tmp_path / "killed"), (seed, left)
    assert difference(tmp_path / "whole/model", tmp_path / "killed/model") == 0.0
