"""Loggers: numbers and pictures arrive in each, over the generator's steps, also after --resume."""

from __future__ import annotations

import csv
import importlib.util
import sqlite3
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from crossband.errors import Preempted, RecipeError
from crossband.training import loggers
from crossband.training.fit import fit
from crossband.training.methods.base import Method

RECIPE = Path(__file__).parent / "recipe.yaml"


@pytest.fixture
def arguments(line_pairs):
    """Six steps, two validations; one is watched by two optimisers, whose steps count double."""
    few = ["--method.max_steps", "6", "--data.steps", "3", "--method.log_every", "3"]
    few += ["--method.adversarial_weight", "0.1", "--method.discriminator"]
    few += ["{class_path: PatchGAN, init_args: {width: 4, layers: 2}}", "--data.crop", "24"]
    return ["--data.manifest", str(line_pairs), *few]


def needs(name):
    """Skip where an extra's packages are not installed."""
    missing = [m for m in loggers.NEEDS[name] if importlib.util.find_spec(m) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def stopped_and_resumed(arguments, folder, monkeypatch):
    """Train four steps, stop as a cluster would, and go on."""
    import signal

    original = Method.training_step

    def stop(self, batch, index):
        original(self, batch, index)
        if self.step == 4:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Method, "training_step", stop)
        with pytest.raises(Preempted):
            fit(RECIPE, arguments, folder)
    return fit(RECIPE, arguments, folder, resume=True)


def test_several_at_once_and_none(arguments, tmp_path):
    fit(RECIPE, [*arguments, "--trainer.logger", "[tensorboard, csv]"], tmp_path / "two")
    logs = {p.name.split(".")[0] for p in (tmp_path / "two/logs").iterdir()}
    assert logs >= {"events", "metrics"}
    fit(RECIPE, [*arguments, "--trainer.logger", "none"], tmp_path / "none")
    assert not (tmp_path / "none/logs").exists()
    with pytest.raises(RecipeError, match=r"--trainer.logger: .*'tensorboard'"):
        fit(RECIPE, [*arguments, "--trainer.logger", "tensorbord"], tmp_path / "wrong")
    with pytest.raises(RecipeError, match=r"--trainer.logger: "):
        fit(RECIPE, [*arguments, "--trainer.logger", "[csv, tensorbord]"], tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


def test_a_resumed_run_goes_on_in_the_same_table(arguments, tmp_path, monkeypatch):
    stopped_and_resumed([*arguments, "--trainer.logger", "csv"], tmp_path / "run", monkeypatch)
    with (tmp_path / "run/logs/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    steps = [int(r["step"]) for r in rows if r["val/score"]]
    assert steps == [3, 6]
    assert [int(r["step"]) for r in rows if r["loss/total"]][-3:] == [4, 5, 6]
    assert all(float(r["loss/total"]) > 0 for r in rows if r["loss/total"])


def test_a_table_is_on_the_disk_at_each_line(tmp_path):
    """Lightning's own waits for a step that ends in 99."""
    (logger,) = loggers.make("csv", tmp_path, "run")
    logger.log_metrics({"a": 1.5}, step=50)
    assert (tmp_path / "logs/metrics.csv").read_text().split() == ["a,step", "1.5,50"]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_an_absent_package_is_one_line_before_anything_is_written(
    arguments, tmp_path, monkeypatch, name
):
    find = importlib.util.find_spec
    absent = loggers.NEEDS[name][-1]
    monkeypatch.setattr(importlib.util, "find_spec", lambda m: None if m == absent else find(m))
    with pytest.raises(RecipeError) as error:
        fit(RECIPE, [*arguments, "--trainer.logger", name], tmp_path / "run")
    assert str(error.value) == (
        f"--trainer.logger {name} needs a package that is not installed: "
        f"pip install 'crossband[{name}]'"
    )
    assert not (tmp_path / "run").exists()


@needs("mlflow")
def test_mlflow_in_the_runs_folder(arguments, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    stopped_and_resumed([*arguments, "--trainer.logger", "mlflow"], run, monkeypatch)
    identity = (run / "logs/mlflow.id").read_text()
    with sqlite3.connect(run / "logs/mlflow.db") as base:
        rows = base.execute("select run_uuid, key, step, value from metrics").fetchall()
    assert {r[0] for r in rows} == {identity}
    scores = {step: value for _, key, step, value in rows if key == "val/score"}
    assert list(scores) == [3, 6]
    assert all(0 < v < 10 for v in scores.values())
    assert {step for _, key, step, _ in rows if key == "loss/total"} == set(range(1, 7))
    pictures = sorted((run / "logs/mlflow").rglob("*.png"))
    assert {int(p.name.split("+")[2]) for p in pictures} == {3, 6}
    assert {p.name for p in tmp_path.iterdir()} == {"run"}  # nothing beside it


@needs("mlflow")
def test_two_runs_of_one_process_have_two_databases(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("one", "two"):
        made = loggers.make("mlflow", tmp_path / name, name)
        for step in range(100):
            made[0].log_metrics({"a": 1.0, "b": 2.0}, step=step)
        loggers.close(made)
    for name in ("one", "two"):
        with sqlite3.connect(tmp_path / name / "logs/mlflow.db") as base:
            assert base.execute("select count(*) from metrics").fetchone() == (200,)


@needs("mlflow")
def test_mlflow_goes_where_its_variable_says(arguments, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mine.db")
    monkeypatch.chdir(tmp_path)
    fit(RECIPE, [*arguments, "--trainer.logger", "mlflow"], tmp_path / "run")
    with sqlite3.connect(tmp_path / "mine.db") as base:
        assert base.execute("select count(*) from metrics").fetchone()[0] > 10
    assert not (tmp_path / "run/logs/mlflow.db").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://x")
    with pytest.raises(RecipeError, match=r"--trainer\.logger mlflow: ") as error:
        fit(RECIPE, [*arguments, "--trainer.logger", "mlflow"], tmp_path / "other")
    assert "\n" not in str(error.value)


def pieces(path):
    """Return the records of a .wandb file: a header of 7 bytes, then LevelDB's log format."""
    data, at, record = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # the rest of a block is empty
            at += 32768 - at % 32768
            continue
        size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        record += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def wandb_records(folder):
    """Return the lines of an offline run, its names, and its pictures."""
    from wandb.proto import wandb_internal_pb2

    lines, names = [], set()
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for piece in pieces(path):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(piece)
            if record.HasField("run"):
                names.add(record.run.run_id)
            if record.HasField("history"):
                items = record.history.item
                lines.append({i.key or "/".join(i.nested_key): i.value_json for i in items})
    return lines, names, sorted(folder.glob("wandb/offline-run-*/files/media/**/*.png"))


@needs("wandb")
def test_wandb_offline_in_the_runs_folder(arguments, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    stopped_and_resumed([*arguments, "--trainer.logger", "wandb"], run, monkeypatch)
    rows, identities, pictures = wandb_records(run / "logs")
    assert identities == {(run / "logs/wandb.id").read_text()}
    steps = [int(r["trainer/global_step"]) for r in rows if "val/score" in r]
    assert steps == [3, 6]
    totals = {int(r["trainer/global_step"]) for r in rows if "loss/total" in r}
    assert totals == set(range(1, 7))
    shown = [r for r in rows if any(k.startswith("validation/") for k in r)]
    assert {int(r["trainer/global_step"]) for r in shown} == {3, 6}
    assert len(pictures) == len(shown)
    assert "wandb:" not in capfd.readouterr().err
    import wandb

    assert wandb.run is None  # the next run of this process gets its own


@needs("wandb")
def test_wandb_without_an_account_is_one_line(arguments, tmp_path, crossband_command, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    nobody = {"NETRC": str(tmp_path / "netrc"), "HOME": str(tmp_path)}
    nobody |= {"WANDB_BASE_URL": "http://127.0.0.1:9"}
    command = ["fit", RECIPE, *arguments, "--trainer.logger", "wandb", "-o", tmp_path / "run"]
    done = crossband_command(*command, env=nobody)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("crossband: --trainer.logger wandb: ")
    assert done.stderr.rstrip().endswith("(WANDB_MODE=offline needs no account)")
    assert done.stderr.count("\n") == 1


def test_a_logger_without_pictures_gets_none(tmp_path):
    logger = CSVLogger(tmp_path)
    loggers.log_images(logger, {"a": torch.rand(3, 4, 4)}, 3)
    assert logger.experiment.metrics == []


def test_pixels_are_bytes():
    picture = torch.tensor([[[0.0, 1.0]], [[0.5, 0.2]], [[0.25, 0.75]]])
    pixels = loggers._pixels(picture)
    assert pixels.dtype == np.uint8
    assert pixels.tolist() == [[[0, 128, 64], [255, 51, 191]]]


def test_the_table_survives_a_kill_while_it_is_taken_up(tmp_path, monkeypatch):
    """Lightning deletes it, and a new one with its lines is written: the lines are never gone."""
    table = tmp_path / "logs" / "metrics.csv"
    table.parent.mkdir()
    table.write_text("a,step\n1.5,50\n")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loggers, "write_text_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            loggers._csv(tmp_path, "t")
    logger = loggers._csv(tmp_path, "t")
    logger.log_metrics({"a": 2.5}, 51)
    assert table.read_text().split() == ["a,step", "1.5,50", "2.5,51"]
    assert [p.name for p in table.parent.iterdir()] == ["metrics.csv"]
