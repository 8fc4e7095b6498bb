"""A file that breaks while training: no weight is lost, or it is skipped and counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from crossband import load
from crossband.data.module import Pairs
from crossband.errors import UnreadableError
from crossband.training.callbacks.checkpoints import read
from crossband.training.fit import fit

RECIPE = Path(__file__).parent / "recipe.yaml"


class Breaks(Callback):
    """Takes files away after a step."""

    def __init__(self, step, files):
        self.step, self.files = step, files

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if pl_module.step == self.step:
            for path in self.files:
                path.rename(path.with_suffix(".gone"))


def arguments(pairs, *more):
    # Three epochs of three steps; nothing is kept in memory, so that files are read again.
    small = ["--seed", "1", "--data.steps", "3", "--method.max_steps", "9", "--data.cache_mb", "0"]
    return ["--data.manifest", str(pairs), *small, "--baselines", "[]", *more]


@pytest.fixture
def trained(make_pairs, tmp_path):
    """Return a manifest, its files of training and of validation, and weights without a fault."""
    path = make_pairs(tmp_path)
    data = Pairs(path)
    train, val = data.split(1)  # seed 1 holds out one of four
    whole = fit(RECIPE, arguments(path), tmp_path / "whole")
    files = [[Path(name) for name in side["source"]] for side in (train, val)]
    return path, *files, load(whole).network.state_dict()


@pytest.mark.parametrize("workers", [0, 1])
def test_the_state_is_saved_and_training_goes_on_exactly(trained, tmp_path, workers):
    pairs, train, _, weights = trained
    more = ["--data.workers", str(workers)]
    with pytest.raises(UnreadableError, match=r"manifest row \d: .*tif: no such file") as error:
        fit(RECIPE, arguments(pairs, *more), tmp_path / "run", callbacks=[Breaks(4, train)])
    assert "Traceback" not in str(error.value)
    step = read(tmp_path / "run" / "checkpoints" / "last.ckpt")["crossband"]["step"]
    assert 4 <= step < 9
    assert step == 4 or workers  # what was loaded ahead is still trained on
    for path in train:
        path.with_suffix(".gone").rename(path)
    again = fit(RECIPE, arguments(pairs, *more), tmp_path / "run", resume=True)
    found = load(again).network.state_dict()
    assert all(torch.equal(found[k], weights[k]) for k in weights)


def test_a_fault_in_validation_loses_no_weight_either(trained, tmp_path):
    pairs, _, val, weights = trained
    with pytest.raises(UnreadableError, match="no such file"):
        fit(RECIPE, arguments(pairs), tmp_path / "run", callbacks=[Breaks(5, val)])
    assert read(tmp_path / "run" / "checkpoints" / "last.ckpt")["crossband"]["step"] == 6
    for path in val:
        path.with_suffix(".gone").rename(path)
    again = fit(RECIPE, arguments(pairs), tmp_path / "run", resume=True)
    found = load(again).network.state_dict()
    assert all(torch.equal(found[k], weights[k]) for k in weights)


def test_skipped_files_are_named_once_and_counted(trained, tmp_path, capfd):
    pairs, train, _, _ = trained
    more = ["--data.on_error", "skip"]
    gone = [Breaks(2, train[:1])]
    folder = fit(RECIPE, arguments(pairs, *more), tmp_path / "run", callbacks=gone)
    said = capfd.readouterr().err
    name = train[0].name
    assert said.count(f"{name}: no such file") == 1
    skipped = json.loads((folder / "model.json").read_text())["about"]["training"]["data"][
        "skipped"
    ]
    ((line, count),) = skipped.items()
    assert name in line
    assert f"{count} draws of 1 files were replaced" in said
