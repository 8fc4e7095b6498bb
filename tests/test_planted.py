"""Links, FIFOs and folders where a command writes: refused, and nobody's files are lost."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from conftest import random_values
from fitting import RECIPE, options
from keywords import series

import crossband
from crossband.cli.main import main
from crossband.core import hidden_folder, own_files
from crossband.core.atomic import atomic_folder
from crossband.core.hidden_folder import HiddenFolder, folder_of
from crossband.core.own_files import open_own, replace_own
from crossband.data.packed.cache import ShardCache
from crossband.errors import CrossbandError, OutputError
from crossband.jobs.run import translate_many
from crossband.training.callbacks.checkpoints import FlushedCheckpointIO
from crossband.training.fit import fit
from crossband.training.run_folder import check
from crossband.training.sweep_folder import clear


@pytest.fixture
def precious(tmp_path):
    """Return somebody's folder; its files have names that ours have, too."""
    folder = tmp_path / "precious"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("lock", "run.json", "journal", "values.raw", "thesis.tex", "config.yaml",
                 "metrics.json", "summary.jsonl", "checkpoints/step-00000001.ckpt",
                 "checkpoints/.a.ckpt.tmp"):  # fmt: skip
        (folder / name).write_text(f"my {name}")
    return folder


@pytest.fixture
def untouched(precious):
    """Check at the end of a test that all is as it was."""
    before = contents(precious)
    yield
    assert contents(precious) == before


def contents(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def source(make_raster):
    return make_raster(values=random_values(3, 60, 70))


@pytest.fixture
def model(tiny_model):
    return crossband.load(tiny_model)


# The hidden folder of a scene.


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("more", [{}, {"resume": True}, {"overwrite": True}])
def test_a_link_in_the_place_of_the_hidden_folder(precious, source, model, tmp_path, more):
    out = tmp_path / "out.tif"
    folder_of(out).symlink_to(precious)
    with pytest.raises(OutputError, match=r"\.out\.tif\.crossband: a link; nothing is written"):
        model.translate(source, out, **more)
    assert not out.exists()
    status = translate_many(model, [source], tmp_path, name="out", **more)
    assert status.counts["failed"] == 1


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", ["lock", "run.json", "journal", "values.raw", "out.tif"])
@pytest.mark.parametrize("kind", ["link", "hard link", "FIFO", "folder"])
def test_what_is_no_file_of_ours_in_the_hidden_folder(
    precious, source, model, tmp_path, kind, name, resume
):
    out = tmp_path / "out.tif"
    hidden = HiddenFolder.open(out)
    hidden.mark()
    hidden.close()
    planted = folder_of(out) / name
    planted.unlink(missing_ok=True)
    mine = precious / ("thesis.tex" if name == "out.tif" else name)
    if kind == "link":
        planted.symlink_to(mine)
    elif kind == "hard link":
        os.link(mine, planted)
    elif kind == "FIFO":
        os.mkfifo(planted)
    else:
        planted.mkdir()
    with pytest.raises(OutputError, match=r"\.out\.tif\.crossband") as caught:
        model.translate(source, out, resume=resume)
    assert "emove it" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert os.path.lexists(planted)


def test_a_folder_that_no_run_has_made(source, model, tmp_path):
    out = tmp_path / "out.tif"
    folder_of(out).mkdir()
    photo = folder_of(out) / "photo.raw"
    photo.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"no run\.json of Crossband, so no run has made it"):
        model.translate(source, out)
    assert photo.read_bytes() == b"mine"
    photo.rename(folder_of(out) / "notes.txt")  # no name of ours: it stays where it is
    model.translate(source, out)
    assert [p.name for p in folder_of(out).iterdir()] == ["notes.txt"]


#: Files of others under names of ours: no mark, another one, and what lies there before the mark.
FOREIGN = [
    *(("run.json", text) for text in ("my run", "{}", "[]", "null", '{"lr": 0.1}', "[" * 10**5)),
    ("run.json", '{"crossband": "my notes"}'),
    ("run.json.new", '{"lr": 0.1}'),
    ("journal", "my journal"),
]


@pytest.mark.parametrize("more", [{}, {"resume": True}, {"overwrite": True}])
@pytest.mark.parametrize(("name", "text"), FOREIGN, ids=lambda value: value[:20])
def test_files_of_others_in_a_folder_of_that_name(source, model, tmp_path, name, text, more):
    out = tmp_path / "out.tif"
    (folder_of(out) / name).parent.mkdir()
    (folder_of(out) / name).write_text(text)
    with pytest.raises(OutputError, match=r"it holds files, and no run\.json of Crossband"):
        model.translate(source, out, **more)
    with (
        pytest.raises(OutputError, match=r"it holds files, and no run\.json of Crossband"),
        atomic_folder(out, overwrite=True, mark="metrics.json"),
    ):
        pytest.fail("it is not begun")
    assert {p.name: p.read_text() for p in folder_of(out).iterdir()} == {name: text}


def test_a_file_that_is_no_lock(source, model, line_pairs, tmp_path):
    out, run = tmp_path / "out.tif", tmp_path / "run"
    for lock in (folder_of(out) / "lock", run / ".lock"):
        lock.parent.mkdir()
        lock.write_text("mine")
    with pytest.raises(OutputError, match="lock: no lock of Crossband: it is not empty"):
        model.translate(source, out)
    with pytest.raises(OutputError, match="lock: no lock of Crossband: it is not empty"):
        fit(RECIPE, options(line_pairs), run, fast_run=True)
    assert (folder_of(out) / "lock").read_text() == (run / ".lock").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.json.new", ""),
        ("run.json.new", '{\n "cross'),
        ("run.json.new", '{\n "crossband": "the'),
        ("run.json.new", "{\n\0\0"),
        ("lock", ""),
        ("run.json", '{"the version of Crossband": "0.1.0"}'),
    ],
)
def test_what_a_run_leaves_that_was_killed_before_its_mark(source, model, tmp_path, name, text):
    """Or a run of version 0.1.0, whose mark had no key of its own."""
    out = tmp_path / "out.tif"
    (folder_of(out) / name).parent.mkdir()
    (folder_of(out) / name).write_text(text)
    model.translate(source, out)
    assert not folder_of(out).exists()


def test_a_folder_of_another_user(tmp_path, monkeypatch):
    out = tmp_path / "out.tif"
    HiddenFolder.open(out).close()
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    HiddenFolder.open(out).close()  # a disk of the network gives all files one owner
    monkeypatch.setattr(own_files, "is_own", lambda path, state: False)
    with pytest.raises(OutputError, match="it belongs to another user"):
        HiddenFolder.open(out)
    monkeypatch.setattr(hidden_folder, "is_own", lambda path, state: False)
    with pytest.raises(OutputError, match="it belongs to another user; remove it"):
        HiddenFolder.open(out)


def test_a_file_that_another_process_deletes_while_it_is_checked(tmp_path, monkeypatch):
    """As a lock, whose file its owner deletes while others wait for it."""
    path = tmp_path / "lock"
    path.touch()
    check = own_files._check_state

    def delete_and_check(checked, state):
        checked.unlink(missing_ok=True)
        check(checked, state)

    monkeypatch.setattr(own_files, "_check_state", delete_and_check)
    os.close(open_own(path, os.O_RDWR | os.O_CREAT))


@pytest.mark.usefixtures("untouched")
def test_the_folder_in_which_an_index_is_made(precious, source, model, tmp_path):
    out = tmp_path / "out.tif"
    made = tmp_path / ".out_NDVI.tif.crossband-made"
    made.symlink_to(precious)
    with pytest.raises(OutputError, match="a link; nothing is written through it"):
        model.translate(source, out, indices=["NDVI"])
    assert made.is_symlink()
    made.unlink()
    model.translate(source, out, indices=["NDVI"])
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_folder_where_a_side_file_goes_is_told_before_the_work(source, model, tmp_path):
    (tmp_path / "out.tif.aux.xml").mkdir()
    with pytest.raises(OutputError, match=r"out\.tif\.aux\.xml: this folder is where a file"):
        model.translate(source, tmp_path / "out.tif")
    (tmp_path / "nir.tif").symlink_to("nowhere")
    with pytest.raises(OutputError, match=r"nir\.tif: exists already; give --overwrite"):
        model.translate(source, tmp_path / "nir.tif")


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("kind", ["dangling link", "link", "FIFO", "folder", "deep facts"])
def test_what_has_the_name_of_a_result_that_is_resumed(precious, source, model, tmp_path, kind):
    """It stays, as without --resume; so it does for many scenes."""
    out = tmp_path / "scene_nir.tif"
    if kind == "FIFO":
        os.mkfifo(out)
    elif kind == "folder":
        out.mkdir()
    elif kind == "deep facts":
        model.translate(source, out)
        with rasterio.open(out, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
            file.update_tags(CROSSBAND_FACTS="[" * 10**5)
    else:
        out.symlink_to(precious / ("nothing.tif" if kind == "dangling link" else "thesis.tex"))
    before = out.lstat().st_mode
    words = r"scene_nir\.tif: exists already, and it does not say|a folder of that name exists"
    with pytest.raises(OutputError, match=words):
        model.translate(source, out, resume=True)
    assert translate_many(model, [source], tmp_path).counts["failed"] == 1
    assert out.lstat().st_mode == before
    assert not folder_of(out).exists()


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("kind", ["link", "FIFO"])
def test_the_summary_of_a_fleet(precious, source, model, tmp_path, kind):
    summary = tmp_path / "out" / "summary.jsonl"
    summary.parent.mkdir()
    if kind == "link":
        summary.symlink_to(precious / "summary.jsonl")
    else:
        os.mkfifo(summary)
    with pytest.raises(OutputError, match=r"summary\.jsonl: .*emove it"):
        translate_many(model, [source], summary.parent)


# A series.


@pytest.mark.usefixtures("untouched")
def test_the_hidden_folder_of_a_series(precious, make_raster, model, tmp_path):
    scene = make_raster("20240501.tif", random_values(3, 20, 20))
    (tmp_path / "out").mkdir()
    planted = tmp_path / "out" / ".series.csv.crossband"
    planted.symlink_to(precious)
    with pytest.raises(OutputError, match="a link; nothing is written through it"):
        series(model, [scene], tmp_path / "out", date_pattern="%Y%m%d", drawn=False)


def test_a_file_that_the_series_has_not_made_stays(make_raster, model, tmp_path):
    scenes = [make_raster(f"2024050{n}.tif", random_values(3, 20, 20)) for n in (1, 2)]
    mine = tmp_path / "out" / "scenes" / "20240502_20240502_nir.tif"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    how = {"date_pattern": "%Y%m%d", "drawn": False, "keep_scenes": False}
    done = series(model, scenes, tmp_path / "out", **how)
    assert len(done.failed) == 1
    assert [p.name for p in mine.parent.iterdir()] == [mine.name]
    assert mine.read_text() == "mine"


# Folders that appear as a whole: reports, packs, models.


@pytest.mark.usefixtures("untouched")
def test_a_link_in_the_place_of_a_report(precious, tmp_path):
    out = tmp_path / "report"
    folder_of(out).symlink_to(precious)
    with (
        pytest.raises(OutputError, match="a link; nothing is written through it"),
        atomic_folder(out, overwrite=True, mark="metrics.json"),
    ):
        pytest.fail("it is not begun")
    folder_of(out).unlink()
    out.symlink_to(precious)
    with (
        pytest.raises(OutputError, match="a link; give the folder that it leads to"),
        atomic_folder(out, overwrite=True, mark="metrics.json"),
    ):
        pytest.fail("it is not begun")
    with (
        pytest.raises(OutputError, match=r"its metrics\.json is not of Crossband, so it is not"),
        atomic_folder(precious, overwrite=True, mark="metrics.json"),
    ):
        pytest.fail("it is not begun")


def test_what_a_kill_has_left_of_a_folder_goes_and_what_it_replaced_comes_back(tmp_path):
    out = tmp_path / "report"
    hidden = HiddenFolder.open(out)
    hidden.mark()
    for name in ("new", "old"):
        (hidden.path / name).mkdir()
        (hidden.path / name / "metrics.json").write_text('{"schema": "crossband.metrics/1"}')
    hidden.close()  # killed between two renames
    with (
        pytest.raises(OutputError, match="exists already"),
        atomic_folder(out, overwrite=False, mark="metrics.json"),
    ):
        pytest.fail("it is not begun")
    assert [p.name for p in tmp_path.iterdir()] == ["report"]
    with atomic_folder(out, overwrite=True, mark="metrics.json") as new:
        (new / "metrics.json").write_text("{}")
    assert (out / "metrics.json").read_text() == "{}"
    for name in (".", ".."):
        with (
            pytest.raises(OutputError, match="give the folder a name of its own"),
            atomic_folder(Path(name), overwrite=True, mark="metrics.json"),
        ):
            pytest.fail("it is not begun")


# Runs.


@pytest.mark.usefixtures("untouched")
def test_a_link_in_the_place_of_a_run(precious, line_pairs, tmp_path):
    (tmp_path / "run").symlink_to(precious)
    with pytest.raises(OutputError, match="run: a link; nothing is written through it"):
        fit(RECIPE, options(line_pairs), tmp_path / "run", overwrite=True, fast_run=True)
    for more in ({"overwrite": True}, {"resume": True}):
        with pytest.raises(OutputError, match="exists and is no training run"):
            fit(RECIPE, options(line_pairs), precious, **more)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("checkpoints", "checkpoints"),
        ("logs", "."),
        ("model", "."),
        (".before", "."),
        ("config.yaml", "config.yaml"),
        ("pairs.csv", "thesis.tex"),
        (".lock", "lock"),
        ("checkpoints/last.ckpt", "thesis.tex"),
        ("logs/metrics.csv", "thesis.tex"),
    ],
)
def test_a_link_in_a_run(precious, tmp_path, name, to):
    run = tmp_path / "run"
    (run / name).parent.mkdir(parents=True)
    recipe = "method: {}\ndata: {}\n"
    (run / "config.yaml").write_text(recipe)
    if name == "config.yaml":
        (run / name).unlink()
        (precious / name).write_text(recipe)
    (run / name).symlink_to(precious / to)
    for more in ((False, True), (True, False)):
        with pytest.raises(OutputError, match="a link; nothing is written through it"):
            check(run, *more)
    if name == "config.yaml":
        (precious / name).write_text(f"my {name}")


@pytest.mark.usefixtures("untouched")
def test_a_link_in_the_place_of_a_trial_stays(precious, tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "trial-000").symlink_to(precious)
    (precious / "config.yaml").write_text("method: {}\ndata: {}\n")
    clear(tmp_path / "sweep")
    assert (tmp_path / "sweep" / "trial-000").is_symlink()
    (precious / "config.yaml").write_text("my config.yaml")


def test_a_trial_that_failed_at_its_beginning_goes(tmp_path):
    """So that the same command begins the sweep anew; what others put there stays."""
    for name in ("trial-000", "trial-001/.config.yaml.crossband", "trial-002"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "trial-002" / "notes.txt").write_text("mine")
    clear(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["notes.txt", "trial-002"]


def test_a_full_disk_leaves_no_hidden_folder(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hidden_folder, "take_lock", full)
    with pytest.raises(OutputError, match="No space left on device"):
        HiddenFolder.open(tmp_path / "out.tif")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("untouched")
def test_temporary_files_are_never_opened_through_a_link(precious, tmp_path):
    path = tmp_path / ".last.ckpt.tmp"
    path.symlink_to(precious / "thesis.tex")
    FlushedCheckpointIO().save_checkpoint({"x": 1}, path)
    assert not path.is_symlink()
    (tmp_path / "journal.new").symlink_to(precious / "thesis.tex")
    replace_own(tmp_path / "journal", "ours")
    assert (tmp_path / "journal").read_text() == "ours"
    (tmp_path / "a.raw").symlink_to(precious / "new.tex")
    with pytest.raises(OutputError, match="a link"):
        open_own(tmp_path / "a.raw", os.O_RDWR | os.O_CREAT)
    assert not (precious / "new.tex").exists()


@pytest.mark.usefixtures("untouched")
def test_the_lock_of_a_cache(precious, tmp_path):
    (tmp_path / "id").mkdir()
    (tmp_path / "id" / ".a.tar.lock").symlink_to(precious / "thesis.tex")
    with pytest.raises(OutputError, match="a link; nothing is written through it"):
        ShardCache(tmp_path, 1.0).get("id/a.tar", 3, lambda to: Path(to).write_bytes(b"abc"))


# What a journal of our own may hold.


@pytest.mark.parametrize("placing", ["[[1]]", "[", "[" * 10**5, "{}"])
def test_a_journal_that_says_nothing_begins_anew(source, model, tmp_path, placing):
    out = tmp_path / "out.tif"
    hidden = HiddenFolder.open(out)
    hidden.mark()
    (hidden.path / "journal").write_text("9" * 5000 + " 1\n")
    (hidden.path / "placing").write_text(placing)
    hidden.close()
    with pytest.raises(OutputError, match="cannot go on from what was begun"):
        model.translate(source, out, resume=True)
    model.translate(source, out)
    assert not folder_of(out).exists()


def test_the_command_says_it_in_one_line(source, tiny_model, tmp_path, capsys):
    out = tmp_path / "out.tif"
    folder_of(out).symlink_to(tmp_path)
    assert main(["translate", str(source), "-o", str(out), "--model", str(tiny_model)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("crossband: ")
    assert said.count("\n") == 1
    assert np.all([p.exists() for p in (source, folder_of(out))])
    assert issubclass(OutputError, CrossbandError)
