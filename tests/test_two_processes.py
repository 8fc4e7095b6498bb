"""Two processes with one output: one wins, the other says so; and who is killed leaves no lock."""

from __future__ import annotations

import errno
import multiprocessing
import os

import pandas as pd
import pytest
from affine import Affine
from conftest import random_values
from fitting import RECIPE, options
from keywords import series

import crossband
from crossband.core.atomic import atomic_folder
from crossband.core.hidden_folder import HiddenFolder, folder_of
from crossband.core.locks import locked, release_lock, take_lock
from crossband.data.degrade.scene import degrade_scene
from crossband.data.packed.cache import ShardCache
from crossband.errors import OutputError
from crossband.evaluation.evaluate import evaluate
from crossband.raster.encoding import Encoding
from crossband.raster.grid import Grid
from crossband.raster.scene_writer import SceneWriter
from crossband.training.callbacks.stopping import StopRequest
from crossband.training.fit import fit
from crossband.training.run_folder import LOCK, is_first_process

BUSY = "another process is writing it"


@pytest.fixture
def model(tiny_model):
    return crossband.load(tiny_model)


@pytest.fixture
def fine_and_coarse(make_raster):
    fine = Affine(2.5, 0, 500_000, 0, -2.5, 5_000_000)
    coarse = Affine(10, 0, 500_000, 0, -10, 5_000_000)
    return (
        make_raster("fine.tif", random_values(3, 80, 80), transform=fine),
        make_raster("coarse.tif", random_values(3, 20, 20), transform=coarse),
    )


def held(path):
    """Hold the lock of an output as another process would: its own descriptor of the file."""
    return HiddenFolder.open(path)


# Every command that writes.


def test_a_scene(make_raster, model, tmp_path):
    other = held(tmp_path / "nir.tif")
    with pytest.raises(OutputError, match=BUSY):
        model.translate(make_raster(), tmp_path / "nir.tif")
    other.remove()
    model.translate(make_raster(), tmp_path / "nir.tif")


def test_a_report(pairs, model, tmp_path):
    other = held(tmp_path / "report")
    with pytest.raises(OutputError, match=BUSY):
        evaluate([model], pairs(2), tmp_path / "report", pictures=0)
    other.remove()


def test_a_pack(pairs, tmp_path):
    pytest.importorskip("webdataset", reason="packing needs the extra `pack`")
    pack = pytest.importorskip("crossband.data.pack").pack
    other = held(tmp_path / "packed")
    with pytest.raises(OutputError, match=BUSY):
        pack(pairs(2), tmp_path / "packed")
    other.remove()


def test_a_model(model, tmp_path):
    """As `import` and `blend` save it; the second of two that begin at once replaces nothing."""
    other = held(tmp_path / "m")
    with pytest.raises(OutputError, match=BUSY):
        model.save(tmp_path / "m")
    other.remove()
    model.save(tmp_path / "m", overwrite=False)
    with pytest.raises(OutputError, match="exists already; give --overwrite"):
        model.save(tmp_path / "m", overwrite=False)


def test_a_pair(fine_and_coarse, tmp_path):
    other = held(tmp_path / "fine_source.tif")
    with pytest.raises(OutputError, match=BUSY):
        degrade_scene(*fine_and_coarse, tmp_path)
    other.remove()


def test_a_series(make_raster, model, tmp_path):
    scene = make_raster("20240501.tif", random_values(3, 20, 20))
    (tmp_path / "out").mkdir()
    other = held(tmp_path / "out" / "series")
    with pytest.raises(OutputError, match=BUSY):
        series(model, [scene], tmp_path / "out", date_pattern="%Y%m%d", drawn=False)
    other.remove()


def test_a_run(line_pairs, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    with locked(run / LOCK, run), pytest.raises(OutputError, match=BUSY):
        fit(RECIPE, options(line_pairs), run, fast_run=True)
    assert list(run.iterdir()) == []
    (run / LOCK).touch()  # of a run that was killed
    fit(RECIPE, options(line_pairs), run, fast_run=True)
    assert not (run / LOCK).exists()


def test_a_run_that_another_process_has_made_meanwhile(line_pairs, tmp_path, monkeypatch):
    def first():
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "config.yaml").write_text("method: {}\ndata: {}\n")
        return StopRequest()

    monkeypatch.setattr("crossband.training.fit.StopRequest", first)
    with pytest.raises(OutputError, match="a run is there already"):
        fit(RECIPE, options(line_pairs), tmp_path / "run", fast_run=True)
    assert len(list((tmp_path / "run").iterdir())) == 1


@pytest.mark.parametrize(
    ("told", "first"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "1"}, True),
        ({"RANK": "1", "LOCAL_RANK": "0"}, False),
        ({"LOCAL_RANK": "1"}, False),
        ({"SLURM_PROCID": "1"}, False),
        ({"SLURM_PROCID": "1", "LOCAL_RANK": "0"}, True),
        ({"NODE_RANK": "1", "MASTER_ADDR": "host"}, False),
        ({"NODE_RANK": "1"}, True),
    ],
)
def test_only_the_first_process_of_a_run_locks_its_folder(monkeypatch, told, first):
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() == first


@pytest.mark.parametrize("resume", [False, True])
def test_a_scene_that_another_process_has_just_written(
    make_raster, model, tmp_path, monkeypatch, resume
):
    out = tmp_path / "nir.tif"
    monkeypatch.setattr(
        "crossband.translate.scene.check_disk_space", lambda *_: out.write_text("theirs")
    )
    with pytest.raises(OutputError, match=r"nir\.tif: another process has just written it"):
        model.translate(make_raster(), out, resume=resume)
    assert out.read_text() == "theirs"
    assert not folder_of(out).exists()


def test_a_file_that_another_process_has_just_written(tmp_path, monkeypatch):
    out = tmp_path / "a.tif"
    monkeypatch.setattr(
        "crossband.raster.scene_writer.check_disk_space", lambda *_: out.write_text("theirs")
    )
    with pytest.raises(OutputError, match="exists already"):
        SceneWriter(out, Grid(5, 6), ("red",), "reflectance", Encoding("uint8", 0.01), {})
    assert [p.read_text() for p in tmp_path.iterdir()] == ["theirs"]


def test_two_pairs_of_one_manifest_are_two_rows(fine_and_coarse, tmp_path, monkeypatch):
    """A row that is added while another pair is being made is not lost."""
    fine, coarse = fine_and_coarse
    pair = degrade_scene(fine, coarse, tmp_path)
    row = pd.read_csv(pair.manifest)
    pair.manifest.unlink()
    real = crossband.data.degrade.scene.finish_files

    def meanwhile(*arguments):
        row.assign(source="other_source.tif").to_csv(pair.manifest, index=False)
        real(*arguments)

    monkeypatch.setattr("crossband.data.degrade.scene.finish_files", meanwhile)
    degrade_scene(fine, coarse, tmp_path, overwrite=True)
    assert list(pd.read_csv(pair.manifest)["source"]) == ["other_source.tif", "fine_source.tif"]


# The lock itself.


def test_a_lock_is_taken_once_and_goes_with_its_file(tmp_path):
    path, output = tmp_path / "lock", tmp_path / "nir.tif"
    with locked(path, output):
        with pytest.raises(OutputError, match=rf"nir\.tif: {BUSY}"):
            take_lock(path, output)
        with pytest.raises(OutputError, match=BUSY), locked(path, output):
            pytest.fail("there are two of them")
        assert path.exists()
    assert not path.exists()
    release_lock(take_lock(path, output))
    release_lock(take_lock(path, output))


def test_who_waits_for_a_lock_gets_it_though_its_file_was_deleted(tmp_path):
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    path = tmp_path / "lock"
    handle = take_lock(path, path)

    def wait():
        mine.close()
        theirs.send("waits")
        with locked(path, path, wait=True):
            theirs.send(path.exists())

    process = context.Process(target=wait)
    process.start()
    theirs.close()  # so that the end of the other process ends our waiting
    assert mine.recv() == "waits"
    path.unlink()
    release_lock(handle)
    assert mine.recv()
    process.join()
    assert not path.exists()


def test_a_forked_process_does_not_keep_the_lock(tmp_path):
    """As the workers of a loader, which may outlive a killed run for a moment."""
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    path = tmp_path / "lock"
    handle = take_lock(path, path)
    process = context.Process(target=lambda: (theirs.send("alive"), theirs.recv()))
    process.start()
    assert mine.recv() == "alive"
    release_lock(handle)
    release_lock(take_lock(path, path))
    mine.send("end")
    process.join()


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(number):
        def flock(handle, operation):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("crossband.core.locks.fcntl.flock", flock)

    for number in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
        refuse(number)
        release_lock(take_lock(tmp_path / "lock", tmp_path))
    refuse(errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        take_lock(tmp_path / "lock", tmp_path)
    with pytest.raises(OutputError, match="cannot be written"), locked(tmp_path / "lock", tmp_path):
        pytest.fail("there is no lock")


def test_a_shard_is_fetched_once(tmp_path):
    cache = ShardCache(tmp_path, 1.0)
    path = tmp_path / "id" / "a.tar"

    def fetch(to):
        with pytest.raises(OutputError, match=BUSY):
            take_lock(path.with_name(".a.tar.lock"), path)
        with open(to, "wb") as file:
            file.write(b"abc")

    assert cache.get("id/a.tar", 3, fetch) == path
    assert [p.name for p in path.parent.iterdir()] == ["a.tar"]


def test_a_folder_under_a_name_that_is_taken_meanwhile(tmp_path):
    """By something else than a command of ours, which has no lock: it is not replaced."""
    with (
        pytest.raises(OutputError, match="exists already"),
        atomic_folder(tmp_path / "report", overwrite=False, mark="metrics.json"),
    ):
        (tmp_path / "report").mkdir()
    assert [p.name for p in tmp_path.iterdir()] == ["report"]
