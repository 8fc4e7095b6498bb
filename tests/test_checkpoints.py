"""Checkpoints: whole or absent, the last few, the best by any number, and which one resumes."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

import pytest
import torch

from crossband import load
from crossband.errors import OutputError, RecipeError, TrainingError
from crossband.training.callbacks import checkpoints
from crossband.training.callbacks.checkpoints import (
    Checkpoints,
    FlushedCheckpointIO,
    newest,
    read,
    rename_and_sync,
    step_checkpoints,
)
from crossband.training.fit import fit

RECIPE = Path(__file__).parent / "recipe.yaml"


@pytest.fixture
def arguments(line_pairs):
    """Nine steps, a validation after each third."""
    few = ["--method.max_steps", "9", "--data.steps", "3"]
    return ["--data.manifest", str(line_pairs), *few]


def step_of(path):
    return read(path)["crossband"]["step"]


def names(folder):
    return {p.name for p in folder.iterdir()}


def fake(path, step=1, size=1000):
    """Write a file that reads as a checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"crossband": {"step": step}, "x": torch.arange(size)}, path)
    return path


# What is written.


def test_the_disk_has_what_has_the_name(tmp_path, monkeypatch):
    """File, then name, then folder: the order that survives a loss of power."""
    done = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(number):
        done.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{number}')).name}")
        fsync(number)

    def note_replace(a, b):
        done.append(f"{Path(a).name} -> {Path(b).name}")
        replace(a, b)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc, which says what a descriptor is")
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    FlushedCheckpointIO().save_checkpoint({"x": 1}, tmp_path / ".last.ckpt.tmp")
    rename_and_sync(tmp_path / ".last.ckpt.tmp", tmp_path / "last.ckpt")
    wanted = ["fsync .last.ckpt.tmp", ".last.ckpt.tmp -> last.ckpt", f"fsync {tmp_path.name}"]
    assert done == wanted
    assert torch.load(tmp_path / "last.ckpt", weights_only=True) == {"x": 1}


def test_the_last_few_stay_under_their_steps(arguments, tmp_path):
    more = ["--trainer.keep_last", "3", "--trainer.checkpoint_every", "1"]
    fit(RECIPE, [*arguments, *more], tmp_path / "run")
    folder = tmp_path / "run/checkpoints"
    steps = [f"step-{n:08d}.ckpt" for n in (9, 8, 7)]
    assert names(folder) == {"last.ckpt", "best.ckpt", *steps}
    assert [step_of(folder / name) for name in steps] == [9, 8, 7]
    assert [p.name for p in step_checkpoints(folder)] == steps
    assert os.path.samefile(folder / steps[0], folder / "last.ckpt")  # a link: no second copy


def test_a_file_system_without_links_gets_copies(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    fake(tmp_path / "last.ckpt", 5)
    checkpoints._link_or_copy(tmp_path / "last.ckpt", tmp_path / "step-00000005.ckpt")
    assert step_of(tmp_path / "step-00000005.ckpt") == 5
    assert not os.path.samefile(tmp_path / "step-00000005.ckpt", tmp_path / "last.ckpt")
    assert names(tmp_path) == {"last.ckpt", "step-00000005.ckpt"}


def test_an_old_one_goes_when_the_new_one_is_there(arguments, tmp_path, monkeypatch):
    unlink = Path.unlink
    seen = []

    def note(path, **options):
        if path.name.startswith("step-"):
            seen.append({p.name for p in step_checkpoints(path.parent)})
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", note)
    more = ["--trainer.keep_last", "1", "--trainer.checkpoint_every", "3"]
    fit(RECIPE, [*arguments, *more], tmp_path / "run")
    assert seen == [{f"step-{n:08d}.ckpt" for n in pair} for pair in ((3, 6), (6, 9))]


def test_wrong_numbers_are_refused(arguments, tmp_path):
    for more in (["--trainer.keep_last", "-1"], ["--trainer.checkpoint_every", "0"]):
        with pytest.raises(RecipeError, match=r"checkpoint_every must be at least 1, keep_last"):
            fit(RECIPE, [*arguments, *more], tmp_path / "run")
    assert not (tmp_path / "run").exists()


# What is best.


def scores(folder, name):
    lines = (folder / "logs/metrics.csv").read_text().splitlines()
    keys = lines[0].split(",")
    rows = [dict(zip(keys, line.split(","), strict=True)) for line in lines[1:]]
    return {int(r["step"]): float(r[name]) for r in rows if r[name]}


@pytest.mark.parametrize("mode", ["min", "max"])
def test_best_follows_the_monitored_number(arguments, tmp_path, mode):
    more = ["--trainer.monitor", "val/mae_reflectance", "--trainer.mode", mode]
    more += ["--trainer.logger", "csv", "--weights", "best", "--method.ema_decay", "0"]
    more += ["--method.max_steps", "15", "--method.optimizer.lr", "0.1"]
    model = fit(RECIPE, [*arguments, *more], tmp_path / "run")
    seen = scores(tmp_path / "run", "val/mae_reflectance")
    assert list(seen) == [3, 6, 9, 12, 15]
    best = read(tmp_path / "run/checkpoints/best.ckpt")
    assert best["crossband"]["step"] == {"min": min, "max": max}[mode](seen, key=seen.get)
    for name, value in load(model).network.state_dict().items():
        assert torch.equal(value, best["state_dict"][f"generator.{name}"])


def test_an_unknown_number_is_one_line_at_the_first_validation(arguments, tmp_path):
    more = ["--trainer.monitor", "val/mae_reflectence"]
    with pytest.raises(RecipeError, match="did you mean 'val/mae_reflectance'") as error:
        fit(RECIPE, [*arguments, *more], tmp_path / "run")
    assert "--trainer.monitor: validation has no 'val/mae_reflectence'" in str(error.value)


def test_the_best_of_another_number_is_forgotten():
    one, other = Checkpoints(None), Checkpoints(None, monitor="val/x")
    one.best = 0.5
    other.load_state_dict(one.state_dict())
    assert other.best is None
    again = Checkpoints(None)
    again.load_state_dict(one.state_dict())
    assert again.best == 0.5
    assert not again._is_better(float("nan"))
    again.best = None
    assert not again._is_better(float("nan"))


# Which one resumes.


@pytest.mark.parametrize("damage", ["cut", "empty", "altered", "text", "other"])
def test_a_last_that_cannot_be_read_falls_back(tmp_path, capsys, damage):
    last = fake(tmp_path / "last.ckpt", 30)
    fake(tmp_path / "step-00000010.ckpt", 10)
    fake(tmp_path / "step-00000020.ckpt", 20)
    fake(tmp_path / "best.ckpt", 15)
    good = last.read_bytes()
    middle = len(good) // 2
    if damage == "other":
        torch.save({"mine": 1}, last)
    else:
        last.write_bytes(
            {
                "cut": good[:-100],
                "empty": b"",
                "text": b"half a file",
                "altered": good[:middle] + bytes(b ^ 255 for b in good[middle:][:40])
                + good[middle + 40 :],
            }[damage]
        )  # fmt: skip
    path, state = newest(tmp_path)
    assert (path.name, state["crossband"]["step"]) == ("step-00000020.ckpt", 20)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "last.ckpt: cannot be read" in said
    assert "going on from step-00000020.ckpt, step 20" in said
    (tmp_path / "step-00000020.ckpt").write_bytes(b"")
    assert newest(tmp_path)[0].name == "best.ckpt"  # 15 is newer than 10
    (tmp_path / "best.ckpt").unlink()
    assert newest(tmp_path, quiet=True)[0].name == "step-00000010.ckpt"
    capsys.readouterr()
    (tmp_path / "step-00000010.ckpt").unlink()
    (tmp_path / "step-00000020.ckpt").unlink()
    with pytest.raises(TrainingError, match=r"last\.ckpt: cannot be read") as error:
        newest(tmp_path)
    assert "\n" not in str(error.value)


def test_a_checkpoint_runs_no_code(tmp_path):
    class Bad:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"crossband": {"step": 1}, "x": Bad()}, tmp_path / "last.ckpt")
    with pytest.raises(TrainingError, match="cannot be read"):
        read(tmp_path / "last.ckpt")
    assert not (tmp_path / "ran").exists()


def test_a_run_goes_on_from_a_kept_one_to_the_same_weights(arguments, tmp_path, capsys):
    more = ["--trainer.keep_last", "5", "--trainer.checkpoint_every", "2", "--weights", "last"]
    whole = fit(RECIPE, [*arguments, *more], tmp_path / "run")
    before = load(whole).network.state_dict()
    folder = tmp_path / "run/checkpoints"
    for name in ("last.ckpt", "best.ckpt", "step-00000009.ckpt"):
        path = folder / name
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data[:-50])
    (folder / ".last.ckpt.tmp").write_bytes(b"stale")
    capsys.readouterr()
    fit(RECIPE, [*arguments, *more], tmp_path / "run", resume=True)
    assert "going on from step-00000008.ckpt, step 8" in capsys.readouterr().err
    after = load(whole).network.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert not list(folder.glob(".*"))


def test_a_run_that_was_killed_before_its_first_checkpoint_starts(arguments, tmp_path, capsys):
    whole = fit(RECIPE, arguments, tmp_path / "whole")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text((tmp_path / "whole/config.yaml").read_text())
    model = fit(RECIPE, arguments, tmp_path / "run", resume=True)
    assert "no checkpoint yet; starting at step 0" in capsys.readouterr().err
    a, b = (load(m).network.state_dict() for m in (whole, model))
    assert all(torch.equal(a[k], b[k]) for k in a)


# A disk that is full, a process that is killed.


@pytest.mark.slow
def test_a_file_that_may_not_grow(interpreters, tmp_path):
    """RLIMIT_FSIZE: the operating system refuses in the middle of the file."""
    last = fake(tmp_path / "last.ckpt", 7, size=10)
    before = last.read_bytes()
    code = """
import resource, sys, torch, pathlib
from crossband.training.callbacks.checkpoints import Checkpoints
from crossband.training.callbacks.checkpoints import FlushedCheckpointIO, rename_and_sync
from crossband.errors import OutputError
folder = pathlib.Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
def write():
    FlushedCheckpointIO().save_checkpoint({"x": torch.zeros(10**6)}, folder / ".last.ckpt.tmp")
    rename_and_sync(folder / ".last.ckpt.tmp", folder / "last.ckpt")
try:
    Checkpoints(folder)._write(folder / "last.ckpt", write)
except OutputError as error:
    sys.exit(str(error))
"""
    done = interpreters.run("-c", code, tmp_path)
    assert done.stderr.strip() == f"{last}: cannot be written: File too large"
    assert done.returncode == 1
    assert last.read_bytes() == before
    assert names(tmp_path) == {"last.ckpt"}


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_FSIZE of another process is Linux's")
@pytest.mark.slow
def test_a_run_whose_disk_fills_ends_in_one_line_and_goes_on_later(
    arguments, tmp_path, crossband_command
):
    command = ["fit", RECIPE, *arguments]
    command += ["-o", tmp_path / "run", "--trainer.checkpoint_every", "1"]
    none = ["--trainer.logger", "none"]
    done = crossband_command(*command, *none, "--method.max_steps", "3")
    assert done.returncode == 0, done.stderr
    last = tmp_path / "run/checkpoints/last.ckpt"
    half = last.stat().st_size // 2
    limits = {resource.RLIMIT_FSIZE: (half, half)}
    full = crossband_command(*command, *none, "--resume", limits=limits)
    assert full.returncode == 2, full.stderr
    assert full.stderr.strip() == f"crossband: {last}: cannot be written: File too large"
    assert step_of(last) == 3
    assert not list(last.parent.glob(".*"))
    done = crossband_command(*command, "--resume")
    assert done.returncode == 0, done.stderr
    assert step_of(last) == 9


@pytest.mark.slow
def test_killed_while_writing_a_checkpoint(arguments, tmp_path, interpreters):
    """SIGKILL when half of the fourth file is written: the third one goes on."""
    code = """
import os, signal, sys, pathlib
from crossband.training.fit import fit
from crossband.training.callbacks import checkpoints
write, count = checkpoints._ReportingFile.write, [0]
def half(self, data):
    if count[0] == 3:
        write(self, memoryview(data)[: len(data) // 2])
        os.fsync(self.fileno())
        os.kill(os.getpid(), signal.SIGKILL)
    return write(self, data)
fsync = os.fsync
def counted(number):
    count[0] += os.readlink(f"/proc/self/fd/{number}").endswith(".last.ckpt.tmp")
    fsync(number)
checkpoints._ReportingFile.write, os.fsync = half, counted
fit(sys.argv[1], sys.argv[3:], pathlib.Path(sys.argv[2]))
"""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc, which says what a descriptor is")
    each = [*arguments, "--trainer.checkpoint_every", "1"]
    done = interpreters.run("-c", code, RECIPE, tmp_path / "run", *each)
    assert done.returncode == -signal.SIGKILL, done.stderr
    folder = tmp_path / "run/checkpoints"
    assert (folder / ".last.ckpt.tmp").is_file()  # cut off in the middle, and never loaded
    assert step_of(folder / "last.ckpt") == 3
    model = fit(RECIPE, each, tmp_path / "run", resume=True)
    assert not (folder / ".last.ckpt.tmp").exists()
    whole = fit(RECIPE, each, tmp_path / "whole")
    a, b = (load(m).network.state_dict() for m in (whole, model))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_refused_write_keeps_the_last_good_one(tmp_path):
    last = fake(tmp_path / "last.ckpt", 7)

    def full():
        (tmp_path / ".last.ckpt.tmp").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"last\.ckpt: cannot be written: No space left"):
        Checkpoints(tmp_path)._write(last, full)
    assert step_of(last) == 7
    assert names(tmp_path) == {"last.ckpt"}


def test_the_best_has_its_name_before_the_last(arguments, tmp_path, monkeypatch):
    """The last one says which was the best: after a kill in between, `best.ckpt` is that one."""
    done = []
    original = checkpoints.rename_and_sync

    def note(temporary, final):
        done.append(final.name)
        original(temporary, final)

    monkeypatch.setattr(checkpoints, "rename_and_sync", note)
    fit(RECIPE, [*arguments, "--method.max_steps", "3", "--trainer.keep_last", "1"], tmp_path / "r")
    assert done == ["best.ckpt", "step-00000003.ckpt", "last.ckpt"]
