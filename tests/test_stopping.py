"""Signals: the step ends, the state is saved, the code says whether to go on."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
import torch
from commands import PATIENCE, wait_until
from tiers import slow

from crossband import load
from crossband.core.signals import SIGNALS
from crossband.errors import Interrupted, Preempted
from crossband.training.callbacks import stopping
from crossband.training.callbacks.checkpoints import read
from crossband.training.callbacks.stopping import StopRequest, no_requeue
from crossband.training.fit import fit
from crossband.training.methods.base import Method

RECIPE = Path(__file__).parent / "recipe.yaml"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture
def command(line_pairs):
    """The real command, on steps slow enough to be met by a signal."""
    script = "import sys, time; from crossband.training.methods.base import Method; "
    script += "from crossband.cli.main import main; step = Method.training_step\n"
    script += "def slow(*a):\n    time.sleep(0.05)\n    return step(*a)\n"
    script += "Method.training_step = slow; sys.exit(main())"
    few = ["--method.max_steps", "60", "--data.steps", "30", "--trainer.checkpoint_every", "5"]
    arguments = ["fit", str(RECIPE), "--data.manifest", str(line_pairs), *few]

    def make(folder, *more):
        # In a file: Lightning starts the other processes by its name.
        path = folder.parent / "train.py"
        path.write_text(script)
        return [str(path), *arguments, "-o", str(folder), *more]

    return make


@pytest.fixture
def start(interpreters):
    """Return a function that starts a command in a process group of its own."""

    def begin(command, env=None):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
        return interpreters.start(*command, env=environment, session=True)

    return begin


def same_weights(one, other):
    a, b = (load(folder).network.state_dict() for folder in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def whole(line_pairs, tmp_path_factory):
    """The model of a run that nothing interrupts."""
    few = ["--method.max_steps", "60", "--data.steps", "30"]
    folder = tmp_path_factory.mktemp("whole") / "run"
    return fit(RECIPE, ["--data.manifest", str(line_pairs), *few], folder)


@pytest.mark.parametrize(
    ("name", "slurm"),
    [
        slow("SIGUSR1", True),
        slow("SIGUSR1", False),
        slow("SIGTERM", True),
        slow("SIGTERM", False),
    ],
)
def test_preempted_and_resumed_equals_uninterrupted(start, command, whole, tmp_path, name, slurm):
    """Under SLURM, Lightning would requeue the job by itself; a fake scontrol tells."""
    folder = tmp_path / "run"
    environment = {}
    if slurm:
        tool = tmp_path / "bin/scontrol"
        tool.parent.mkdir()
        tool.write_text(f"#!/bin/sh\ntouch {tmp_path}/requeued\n")
        tool.chmod(0o755)
        environment = {
            "PATH": f"{tool.parent}:{os.environ['PATH']}",
            "SLURM_NTASKS": "1",
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NAME": "train",
            "SLURM_PROCID": "0",
            "SLURM_LOCALID": "0",
            "SLURM_NODEID": "0",
            "SLURM_NTASKS_PER_NODE": "1",
        }
    process = start(command(folder), env=environment)
    wait_until((folder / "checkpoints/last.ckpt").exists, process)
    process.send_signal(getattr(signal, name))
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 75, said
    step = read(folder / "checkpoints/last.ckpt")["crossband"]["step"]
    assert 5 <= step < 60
    last = said.strip().splitlines()[-1]
    assert last == f"crossband: stopped after step {step} by {name}; go on with --resume"
    assert not (folder / "model").exists()
    assert not (tmp_path / "requeued").exists()
    assert not list(folder.glob("hpc_ckpt*"))
    process = start([*command(folder, "--resume")])
    assert process.wait(timeout=PATIENCE) == 0, process.communicate()[1]
    assert same_weights(folder / "model", whole)


@pytest.mark.slow
def test_loaders_survive_a_signal_to_the_whole_group(start, command, whole, tmp_path):
    """A cluster signals every process of the job; the step still gets its batch."""
    folder = tmp_path / "run"
    process = start(command(folder, "--data.workers", "2"))
    wait_until((folder / "checkpoints/last.ckpt").exists, process)
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 75, said
    process = start(command(folder, "--resume"))
    assert process.wait(timeout=PATIENCE) == 0
    assert same_weights(folder / "model", whole)


#: A step that never ends, and a file for each signal that was handled.
HELD = """
from pathlib import Path
from crossband.training.callbacks import stopping
stopping.REPEAT_SECONDS = 0.0
handle = stopping.StopRequest._handle
def noted(self, number, frame):
    handle(self, number, frame)
    Path(__file__).with_name("handled").touch()
stopping.StopRequest._handle = noted
def slow(*a):
    if a[0].step == 12:
        Path(__file__).with_name("held").touch()
        time.sleep(600)
    return step(*a)
Method.training_step = slow
main()
"""


def test_a_stop_names_the_phase():
    """A step of a baseline is not one of the training."""
    stop_request = StopRequest()
    with stop_request.during_training("while fitting baseline mlp (1 of 3)"):
        error = stop_request.error(3)
    assert (
        str(error)
        == "stopped while fitting baseline mlp (1 of 3) after step 3; go on with --resume"
    )


def test_a_second_sigterm_ends_at_once(start, command, tmp_path):
    line = command(tmp_path / "run")
    script = Path(line[0])
    begin = script.read_text().index("def slow")
    script.write_text(script.read_text()[:begin] + HELD)
    process = start(line)
    wait_until((tmp_path / "held").exists, process)
    process.send_signal(signal.SIGTERM)
    wait_until((tmp_path / "handled").exists, process)  # and it waits for the end of the step
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=PATIENCE) == 143
    assert read(tmp_path / "run/checkpoints/last.ckpt")["crossband"]["step"] == 10


def test_a_sigterm_that_a_launcher_repeats_is_one(monkeypatch):
    now, ended = [0.0], []
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(StopRequest, "_end", lambda self: ended.append(now[0]))
    request = StopRequest()
    with request.handle_signals(), request.during_training():
        for seconds in (5.0, 5.4, 5.6):
            now[0] = seconds
            signal.raise_signal(signal.SIGTERM)
    assert ended == [5.6]


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["first", "second", "all"])
def test_all_processes_stop_at_the_same_step(start, command, tmp_path, victim):
    folder = tmp_path / "run"
    more = ["--trainer.devices", "2", "--data.batch", "1", "--device", "cpu"]
    process = start(command(folder, *more))
    wait_until((folder / "checkpoints/last.ckpt").exists, process)
    if victim == "all":
        os.killpg(process.pid, signal.SIGTERM)
    elif victim == "first":
        process.send_signal(signal.SIGTERM)
    else:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        if not children.is_file():
            pytest.skip("no /proc, which says which the other process is")
        os.kill(int(children.read_text().split()[0]), signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 75, said
    step = read(folder / "checkpoints/last.ckpt")["crossband"]["step"]
    lines = [line for line in said.splitlines() if "stopped" in line]
    assert lines == [f"crossband: stopped after step {step} by SIGTERM; go on with --resume"]
    assert step % 10 == 0  # where they ask each other
    process = start(command(folder, *more, "--resume"))
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said


# In one process.


def stop_at(monkeypatch, step, number):
    original = Method.training_step

    def stopped(self, batch, index):
        original(self, batch, index)
        if self.step == step:
            signal.raise_signal(number)

    monkeypatch.setattr(Method, "training_step", stopped)


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (signal.SIGINT, Interrupted, 130),
        (signal.SIGTERM, Preempted, 75),
        (signal.SIGUSR1, Preempted, 75),
    ],
)
def test_which_signal_says_what(line_pairs, tmp_path, monkeypatch, number, kind, code):
    before = [signal.getsignal(n) for n in SIGNALS]
    arguments = ["--data.manifest", str(line_pairs), "--method.max_steps", "9"]
    stop_at(monkeypatch, 4, number)
    with pytest.raises(kind, match="stopped after step 4") as error:
        fit(RECIPE, arguments, tmp_path / "run")
    assert error.value.exit_code == code
    assert [signal.getsignal(n) for n in SIGNALS] == before
    assert read(tmp_path / "run/checkpoints/last.ckpt")["crossband"]["step"] == 4


def test_a_signal_while_a_baseline_is_fitted(line_pairs, linear, tmp_path, monkeypatch):
    """The model is trained and saved; --resume fits what is missing."""
    arguments = ["--data.manifest", str(line_pairs), "--method.max_steps", "3"]
    arguments += ["--baselines", f"[{linear}]"]
    with monkeypatch.context() as patch:
        stop_at(patch, 5, signal.SIGTERM)  # only the baseline has as many steps
        with pytest.raises(Preempted, match="by SIGTERM; go on with --resume"):
            fit(RECIPE, arguments, tmp_path / "run")
    model = fit(RECIPE, arguments, tmp_path / "run", resume=True)
    assert set(load(model).baselines) == {"linear"}


def test_outside_a_training_a_signal_stops_at_once():
    stop_request = StopRequest()
    with stop_request.handle_signals():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert str(stop_request.error()) == "stopped by SIGTERM; go on with --resume"
        with stop_request.during_training():
            signal.raise_signal(signal.SIGUSR1)  # nothing happens before the step ends
            assert stop_request.agreed(3) == signal.SIGTERM


def test_sigterm_after_sigusr1_still_waits():
    """SLURM sends the one a minute before the other; the save may take that long."""
    stop_request = StopRequest()
    with stop_request.handle_signals(), stop_request.during_training():
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)
        assert stop_request.agreed(1) == signal.SIGTERM
        assert isinstance(stop_request.error(1), Preempted)


def test_ctrl_c_twice_stops_at_once(capsys):
    stop_request = StopRequest()
    with stop_request.handle_signals(), stop_request.during_training():
        signal.raise_signal(signal.SIGINT)
        assert "Ctrl-C again stops at once" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_thread_that_may_not_have_signals_trains_all_the_same():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def listen():
        with StopRequest().handle_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [before]


def test_lightning_does_not_requeue(monkeypatch):
    assert no_requeue() == []
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    assert [plugin.auto_requeue for plugin in no_requeue()] == [False]
