"""A real cluster of several processes: the same pixels as here, and what a lost worker costs."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray
import torch
from calibrated import calibrated_model, calibration, with_guides
from conftest import random_values, rgb2nir_signature
from rio_cogeo.cogeo import cog_validate
from tiers import slow

import crossband
from crossband import Model
from crossband.core.hidden_folder import folder_of
from crossband.errors import (
    ChangedError,
    ClusterError,
    CrossbandError,
    InputError,
    Interrupted,
    ModelError,
    OutputError,
)
from crossband.jobs import summary
from crossband.jobs.run import translate_many
from crossband.jobs.task import FleetObserver
from crossband.model.calibration import GuideClass
from crossband.networks.generators.resnet import ResNet
from crossband.raster import journal as store_module
from crossband.translate.statistics import Statistics

distributed = pytest.importorskip("distributed", reason="needs crossband[dask]")

from crossband.jobs.dask import Cluster  # noqa: E402
from crossband.jobs.dask import client as client_module  # noqa: E402
from crossband.jobs.dask import scenes as scenes_module  # noqa: E402

OPTIONS = {"tile": 64, "precision": "fp32"}


def processes(count):
    """Return a cluster of so many processes on this machine."""
    return distributed.LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",
        silence_logs=60,
    )


@pytest.fixture(scope="module")
def local_cluster():
    with processes(2) as made:
        yield made


@pytest.fixture
def cluster(local_cluster):
    with Cluster(local_cluster.scheduler_address) as connected:
        yield connected


@pytest.fixture
def fragile():
    """Return a cluster of three whose workers may be killed, and a connection to it."""
    with processes(3) as made, Cluster(made.scheduler_address) as connected:
        yield made, connected


@pytest.fixture
def model(tiny_model):
    return crossband.load(tiny_model)


@pytest.fixture
def source(make_raster):
    values = (random_values(3, 330, 360) * 10000).astype(np.uint16)
    values[:, 20:90, 30:190] = 0
    return make_raster(values=values, scale=1e-4, nodata=0)


def hidden(folder):
    return [p for p in folder.iterdir() if p.name.startswith(".")]


class Killer:
    """Kills a worker that is at work, as soon as something came back."""

    def __init__(self, local_cluster):
        self.scheduler, self.killed = local_cluster.scheduler, False

    def __call__(self, done, total):
        if self.killed or not 0 < done < total:
            return
        with distributed.Client(self.scheduler.address, set_as_default=False) as client:
            pids = client.run(os.getpid)
        for state in list(self.scheduler.workers.values()):
            if state.processing:
                os.kill(pids[state.address], signal.SIGKILL)
                self.killed = True
                return

    def parts(self):
        """Return the scheduler's changes of parts: key, state after it, and what caused it."""
        for key, _, after, _, cause, *_ in self.scheduler.transition_log:
            if str(key).startswith("crossband-part-"):
                yield key, after, cause

    def computed(self):
        """Return how often each part was handed to a worker."""
        return Counter(key for key, after, _ in self.parts() if after == "processing")

    def lost(self):
        """Return the parts that were at the worker when the scheduler took it from its list.

        Until then it may be handed more, so this is known only afterwards.
        """
        return {key for key, _, cause in self.parts() if cause.startswith("handle-worker-cleanup")}


def test_a_spread_scene_is_the_same_file(source, model, cluster, tmp_path):
    straight, spread = Statistics(), Statistics()
    options = OPTIONS | {"indices": ["NDVI"]}
    a = model.translate(source, tmp_path / "a.tif", statistics=straight, **options)
    counts = []
    b = model.translate(
        source,
        tmp_path / "b.tif",
        cluster=cluster,
        statistics=spread,
        progress=lambda *count: counts.append(count),
        **options,
    )
    assert a.read_bytes() == b.read_bytes()
    assert (tmp_path / "a_NDVI.tif").read_bytes() == (tmp_path / "b_NDVI.tif").read_bytes()
    assert cog_validate(b, strict=True)[0]
    for name in ("pixels", "tiles", "computed", "empty", "seen", "kept"):
        assert getattr(straight, name) == getattr(spread, name)
    assert counts[0] == (0, 330 * 360)
    assert counts[-1] == (330 * 360, 330 * 360)
    assert len(counts) > 4
    assert not hidden(tmp_path)


@pytest.mark.slow
def test_a_lost_worker_costs_its_windows_only(source, model, fragile, tmp_path, monkeypatch):
    local_cluster, cluster = fragile
    monkeypatch.setattr(client_module, "PART_WINDOWS", 4)
    killer = Killer(local_cluster)
    straight = model.translate(source, tmp_path / "a.tif", **OPTIONS)
    local_cluster.scheduler.transition_log.clear()
    found = Statistics()
    made = model.translate(
        source, tmp_path / "b.tif", cluster=cluster, progress=killer, statistics=found, **OPTIONS
    )
    assert killer.killed, "no worker was at work"
    assert straight.read_bytes() == made.read_bytes()
    counts = killer.computed()
    again = {key for key, count in counts.items() if count > 1}
    assert again
    assert again <= killer.lost()
    assert len(again) < len(counts) / 2
    assert found.computed + found.empty == found.tiles


def test_a_network_that_sees_the_whole_image(make_raster, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(client_module, "PART_WINDOWS", 3)
    torch.manual_seed(1)
    network = ResNet(3, 1, width=4, blocks=1, activation="none")
    network.head.layers[-1].bias.data.fill_(0.5)
    folder = Model(network, rgb2nir_signature(), name="seeing", task="rgb2nir").save(tmp_path / "m")
    model = crossband.load(folder)
    source = make_raster(values=random_values(3, 200, 220))
    a = model.translate(source, tmp_path / "a.tif", **OPTIONS)
    b = model.translate(source, tmp_path / "b.tif", cluster=cluster, **OPTIONS)
    assert a.read_bytes() == b.read_bytes()


@pytest.mark.parametrize("first", ["cluster", slow("here")])
def test_an_interrupted_scene_goes_on_wherever(
    source, model, cluster, tmp_path, monkeypatch, first
):
    monkeypatch.setattr(store_module, "FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(client_module, "PART_WINDOWS", 4)

    def stop(done, total):
        if done > total // 2:
            raise KeyboardInterrupt

    begin, end = (cluster, None) if first == "cluster" else (None, cluster)
    out = tmp_path / "b.tif"
    with pytest.raises(Interrupted, match="--resume goes on"):
        model.translate(source, out, cluster=begin, progress=stop, **OPTIONS)
    assert folder_of(out).is_dir()
    found = Statistics()
    model.translate(source, out, cluster=end, resume=True, statistics=found, **OPTIONS)
    assert 0.4 * found.tiles < found.resumed < found.tiles
    assert found.computed + found.empty == found.tiles - found.resumed
    straight = model.translate(source, tmp_path / "a.tif", **OPTIONS)
    assert straight.read_bytes() == out.read_bytes()
    assert not hidden(tmp_path)


@pytest.mark.slow
def test_windows_that_take_their_workers_with_them(source, model, fragile, tmp_path, monkeypatch):
    local_cluster, cluster = fragile
    monkeypatch.setattr(local_cluster.scheduler, "allowed_failures", 0)
    monkeypatch.setattr(client_module, "PART_WINDOWS", 4)
    monkeypatch.setattr(store_module, "FLUSH_SECONDS", 0.0)
    out = tmp_path / "b.tif"
    killer = Killer(local_cluster)
    with pytest.raises(ClusterError, match="several workers ended"):
        model.translate(source, out, cluster=cluster, progress=killer, **OPTIONS)
    found = Statistics()
    model.translate(source, out, resume=True, statistics=found, **OPTIONS)
    assert found.resumed > 0


def test_parts_of_pictures_and_their_reading(make_raster, model, cluster, tmp_path):
    from crossband.raster.grid import Box

    values = (random_values(4, 200, 210) * 1000).astype(np.uint16)
    values[:, :30] = 7
    source = make_raster(values=values, names=(None,) * 4, unit=None)
    options = OPTIONS | {
        "bands": {"red": 4, "green": 2, "blue": 1},
        "sensor": "reflectance",
        "scale": 1e-3,
        "offset": 0.01,
        "source_nodata": 7,
        "window": Box(11, 20, 150, 170),
        "dtype": "float32",
    }
    a = model.translate(source, tmp_path / "a.tif", **options)
    b = model.translate(source, tmp_path / "b.tif", cluster=cluster, **options)
    assert a.read_bytes() == b.read_bytes()


@pytest.mark.slow
def test_a_spread_scene_is_guided_here(source, make_raster, model, cluster, tmp_path):
    reference = make_raster("r.tif", random_values(1, 330, 360, seed=5) * 0.3, names=("nir",))
    options = OPTIONS | {"guide": reference}
    a = model.translate(source, tmp_path / "a.tif", **options)
    b = model.translate(source, tmp_path / "b.tif", cluster=cluster, **options)
    assert a.read_bytes() == b.read_bytes()
    plain = model.translate(source, tmp_path / "p.tif", **OPTIONS)
    assert plain.read_bytes() != a.read_bytes()


def test_scenes_in_one_piece_are_not_spread(
    scenes, make_raster, model, cluster, tmp_path, monkeypatch
):
    """With paths that hold in this folder only."""
    make_raster("r.tif", random_values(1, 400, 400, seed=5) * 0.3, names=("nir",))
    monkeypatch.chdir(tmp_path)
    options = {"precision": "fp32", "whole": True, "guide": "r.tif"}
    told = Told()
    status = translate_many(
        model, ["in/large.tif"], "out", cluster=cluster, observer=told, **options
    )
    assert status.counts["done"] == 1, told.lines
    assert told.spread == []
    alone = model.translate("in/large.tif", "alone.tif", **options)
    assert alone.read_bytes() == (tmp_path / "out" / "large_nir.tif").read_bytes()


def names_of(folder):
    return sorted(path.name for path in folder.glob("*.tif"))


@pytest.mark.parametrize(
    ("options", "files"),
    [
        ({"interval": 0.9, "familiarity": True, "indices": ["NDVI"]}, 5),
        slow({"interval": 0.8, "indices": ["NDVI"], "guide": "r.tif", "guide_days": 0}, 4),
        slow({"familiarity": True}, 2),
        slow({"interval": 0.9}, 2),
    ],
)
def test_intervals_of_a_spread_scene_are_the_same_files(
    source, make_raster, cluster, tmp_path, monkeypatch, options, files
):
    """One worker makes several kinds of files with one loaded model, too."""
    monkeypatch.setattr(client_module, "PART_WINDOWS", 4)
    monkeypatch.chdir(tmp_path)
    model = calibrated_model(tmp_path / "calibrated")
    guides = {GuideClass.of(1, False): 40}
    with_guides(calibration(model.weights_hash), guides).save(tmp_path / "calibrated")
    model = crossband.load(tmp_path / "calibrated")
    make_raster("r.tif", random_values(1, 330, 360, seed=5) * 0.3, names=("nir",))
    here, there, found = tmp_path / "here", tmp_path / "there", Statistics()
    for folder, at in ((here, None), (there, cluster)):
        folder.mkdir()
        model.translate(
            source, folder / "nir.tif", cluster=at, statistics=found, **OPTIONS | options
        )
    assert found.computed > 4
    assert names_of(here) == names_of(there)
    assert len(names_of(here)) == files
    for path in here.glob("*.tif"):
        assert path.read_bytes() == (there / path.name).read_bytes(), path.name


@pytest.mark.slow
def test_intervals_of_a_fleet_on_the_workers(scenes, cluster, tmp_path, monkeypatch):
    """Of scenes that one worker translates as a whole, and of one that is spread."""
    monkeypatch.setattr(scenes_module, "HUGE_WINDOWS", 16)
    model = calibrated_model(tmp_path / "calibrated")
    inputs = [scenes / "?.tif", scenes / "large.tif"]
    options = OPTIONS | {"interval": 0.9, "familiarity": True}
    for folder, at in ((tmp_path / "here", None), (tmp_path / "there", cluster)):
        told = Told()
        status = translate_many(model, inputs, folder, cluster=at, observer=told, **options)
        assert status.counts["done"] == 9, told.lines
    assert told.spread == ["large_nir.tif"]
    assert len(names_of(tmp_path / "here")) == 27
    for path in (tmp_path / "here").glob("*.tif"):
        assert path.read_bytes() == (tmp_path / "there" / path.name).read_bytes(), path.name


def test_another_calibration_at_the_workers(source, cluster, tmp_path):
    """The widths would be others; one that no worker finds is said, too."""
    model = calibrated_model(tmp_path / "calibrated")
    assert model.calibration is not None
    assert model.calibration.head is not None
    head = model.calibration.head
    model.calibration = replace(model.calibration, head=replace(head, bias=head.bias + 1))
    with pytest.raises(ModelError, match="find another model there"):
        model.translate(source, tmp_path / "o.tif", cluster=cluster, interval=0.9, **OPTIONS)
    (tmp_path / "calibrated" / "calibration.json").unlink()
    with pytest.raises(ModelError, match="has no calibration"):
        model.translate(source, tmp_path / "o.tif", cluster=cluster, interval=0.9, **OPTIONS)


@pytest.mark.slow
def test_a_fleet_on_the_workers_is_guided_as_here(
    scenes, make_raster, model, cluster, tmp_path, monkeypatch
):
    """By a list and by a folder, with paths that hold in this folder only."""
    (tmp_path / "guides").mkdir()
    for i in (1, 2):
        values = random_values(1, 100, 100, seed=i) * 0.3
        path = make_raster(f"guides/{i}.tif", values, names=("nir",))
        with rasterio.open(path, "r+") as file:
            file.update_tags(ACQUISITION_DATE=f"2024-0{i}-01")
    rows = ["source,guide,datetime"]
    rows += [f"in/{i}.tif,guides/{1 + i % 2}.tif,2024-01-01" for i in range(3)]
    rows += ["in/3.tif,,2024-02-02", "in/4.tif,,2024-01-02"]
    (tmp_path / "list.csv").write_text("\n".join(rows))
    monkeypatch.chdir(tmp_path)
    options = OPTIONS | {"guide": "guides"}
    for folder, at in (("here", None), ("there", cluster)):
        status = translate_many(model, ["list.csv"], folder, cluster=at, **options)
        assert status.counts["done"] == 5
    here, there = summary.read("here"), summary.read("there")
    for name, line in here.items():
        assert Path("here", name).read_bytes() == Path("there", name).read_bytes()
        assert there[name].guide == os.path.abspath(line.guide)
    assert [Path(here[f"{i}_nir.tif"].guide).name for i in (3, 4)] == ["2.tif", "1.tif"]


@pytest.fixture
def scenes(make_raster, tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(8):
        make_raster(f"in/{i}.tif", random_values(3, 60, 70, seed=i))
    make_raster("in/large.tif", random_values(3, 300, 310, seed=9))
    make_raster("in/few.tif", random_values(2, 9, 9), names=("red", "green"))
    return tmp_path / "in"


@pytest.mark.slow
def test_a_fleet_from_the_command_line(
    scenes, tiny_model, local_cluster, tmp_path, crossband_command
):
    """Small scenes as a whole, a large one spread; one that fails is reported."""
    out = tmp_path / "out"
    command = ["translate", str(scenes / "*.tif"), "--model", tiny_model, "--tile", 64]
    command += ["--precision", "fp32"]
    engine = ["--engine", "dask", "--scheduler", local_cluster.scheduler_address]
    done = crossband_command(*command, "-o", out, *engine)
    assert done.returncode == 1, done.stderr
    assert "9 done, 0 skipped, 1 failed" in done.stdout
    said = [line for line in done.stderr.splitlines() if line.startswith("crossband: ")]
    assert len(said) == 2, done.stderr
    assert "few.tif: it has 2 bands" in said[0]
    found = summary.read(out)
    assert found["few_nir.tif"].input == str(scenes / "few.tif")
    assert found["large_nir.tif"].pixels == 300 * 310
    assert not hidden(out)
    translate_many(crossband.load(tiny_model), [scenes / "*.tif"], tmp_path / "here", **OPTIONS)
    for path in (tmp_path / "here").glob("*.tif"):
        assert path.read_bytes() == (out / path.name).read_bytes()
    assert len(list(out.glob("*.tif"))) == 9
    done = crossband_command(*command, "-o", out, *engine)
    assert "0 done, 9 skipped, 1 failed" in done.stdout


class Told(FleetObserver):
    """Remembers which scenes were spread, and does something when the first scene ends."""

    def __init__(self, then=lambda: None):
        self.spread, self.lines, self.then = [], [], then

    def on_scene_start(self, task):
        self.spread.append(task.name)

    def on_scene_end(self, line, status):
        self.lines.append(line)
        if len(self.lines) == 1:
            self.then()


@pytest.mark.slow
def test_which_scenes_are_spread(scenes, model, cluster, tmp_path, monkeypatch):
    for huge, expected in ((1024, []), (16, ["large_nir.tif"])):
        monkeypatch.setattr(scenes_module, "HUGE_WINDOWS", huge)
        monkeypatch.setattr(Cluster, "threads", lambda self: 1)
        told = Told()
        out = tmp_path / str(huge)
        status = translate_many(
            model, [scenes / "?.tif", scenes / "large.tif"], out, cluster=cluster, observer=told,
            **OPTIONS,
        )  # fmt: skip
        assert status.counts["done"] == 9
        assert told.spread == expected


@pytest.mark.slow
def test_a_worker_lost_by_a_fleet(scenes, model, fragile, tmp_path):
    """Its scene is done by another worker."""
    local_cluster, cluster = fragile
    killer = Killer(local_cluster)
    told = Told(lambda: killer(1, 2))
    status = translate_many(
        model, [scenes / "?.tif"], tmp_path / "out", cluster=cluster, observer=told, **OPTIONS
    )
    assert killer.killed
    # Skipped: it was lost after a file had its name, and before it could say so.
    assert status.counts["done"] + status.counts["skipped"] == 8
    assert len(told.lines) == 8
    assert not hidden(tmp_path / "out")
    for i in range(8):
        alone = model.translate(scenes / f"{i}.tif", tmp_path / f"{i}.tif", **OPTIONS)
        assert alone.read_bytes() == (tmp_path / "out" / f"{i}_nir.tif").read_bytes()


@pytest.mark.slow
def test_a_fleet_that_is_interrupted(scenes, make_raster, model, cluster, tmp_path, monkeypatch):
    """Workers stop where they are, and what they have done of a scene is kept."""
    monkeypatch.setattr(scenes_module, "HUGE_WINDOWS", 10**9)
    make_raster("in/00.tif", random_values(3, 1500, 1500))  # minutes, in windows of 64
    inputs, out = [scenes / "00.tif", scenes / "?.tif"], tmp_path / "out"

    def stop():
        begun = folder_of(out / "00_nir.tif") / "journal"
        for _ in range(600):
            if begun.exists() and begun.stat().st_size:
                raise KeyboardInterrupt
            time.sleep(0.1)

    with pytest.raises(Interrupted, match="the same command does the rest"):
        translate_many(model, inputs, out, cluster=cluster, observer=Told(stop), **OPTIONS)
    assert len(summary.read(out)) == 1
    for _ in range(300):
        try:  # until the worker has let go of it
            store_module.Store.open(out / "00_nir.tif", {"x": "y"}, resume=True)
        except ChangedError:
            break
        except OutputError:
            time.sleep(0.1)
    else:
        pytest.fail("the worker goes on with its scene")
    assert not (out / "00_nir.tif").exists()
    assert (folder_of(out / "00_nir.tif") / "journal").stat().st_size


@pytest.mark.slow
def test_lazy_arrays_on_a_cluster(source, model, cluster):
    array = rioxarray.open_rasterio(source, chunks={"y": 100, "x": 120})
    lazy = model.translate(array, tile=64, precision="fp32")
    straight = model.translate(source, precision="fp32")
    made = cluster.client.compute(lazy).result()
    np.testing.assert_array_equal(np.isnan(made.values), np.isnan(straight.values))
    assert np.nanmax(np.abs(made.values - straight.values)) <= 1e-5


def test_what_the_workers_do_not_find(source, model, cluster, tmp_path, monkeypatch):
    out = tmp_path / "o.tif"
    unsaved = Model(model.network, model.signature, name="unsaved", task="x")
    with pytest.raises(ModelError, match="save it first"):
        unsaved.translate(source, out, cluster=cluster)
    facts = crossband.translate.scene.scene_facts
    with monkeypatch.context() as patched:
        patched.setattr(
            "crossband.translate.scene.scene_facts",
            lambda *a: facts(*a) | {"the source": "9 bytes"},
        )
        with pytest.raises(InputError, match="a worker sees another file: the source changed"):
            model.translate(source, out, cluster=cluster)
    next(model.network.parameters()).data[0] += 1.0
    with pytest.raises(ModelError, match="find another model there"):
        model.translate(source, out, cluster=cluster)
    model.save(tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone")
    with pytest.raises(ModelError, match="gone"):
        model.translate(source, out, cluster=cluster)
    assert [p.name for p in tmp_path.iterdir()] == ["scene.tif"]


class Failing:
    """Stands where a future does."""

    def __init__(self, error):
        self.error = error

    def result(self):
        raise self.error


def test_whatever_a_worker_says_is_one_line():
    for error, words in (
        (ModuleNotFoundError("No module named 'crossband'"), "cannot run Crossband: No module"),
        (RuntimeError("out of\nmemory"), "a worker failed: RuntimeError: out of memory"),
        (InputError("a.tif: gone"), "a.tif: gone"),
    ):
        with pytest.raises(CrossbandError, match=words):
            client_module.task_result(Failing(error))


def test_no_worker_joins(source, model, tmp_path, monkeypatch):
    monkeypatch.setattr(client_module, "JOIN_SECONDS", 0.5)
    with (
        distributed.LocalCluster(
            n_workers=0, processes=False, dashboard_address=":0", silence_logs=60
        ) as empty,
        Cluster(empty.scheduler_address) as connected,
        pytest.raises(ClusterError, match="no worker took up any work"),
    ):
        model.translate(source, tmp_path / "o.tif", cluster=connected)


def test_the_scheduler_goes_away(source, model, tmp_path, monkeypatch):
    monkeypatch.setattr(client_module, "PART_WINDOWS", 4)
    monkeypatch.setattr(store_module, "FLUSH_SECONDS", 0.0)
    made = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", silence_logs=60
    )

    def close(done, total):
        if done:
            made.close()

    out = tmp_path / "o.tif"
    with (
        Cluster(made.scheduler_address) as connected,
        pytest.raises(ClusterError, match="the scheduler went away"),
    ):
        model.translate(source, out, progress=close, cluster=connected, **OPTIONS)
    found = Statistics()
    model.translate(source, out, resume=True, statistics=found, **OPTIONS)
    assert found.resumed > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--engine", "dask"], "go together"),
        (["--scheduler", "tcp://localhost:1"], "go together"),
        (["--engine", "dusk", "--scheduler", "tcp://localhost:1"], "did you mean 'dask'"),
        (["--engine", "dask", "--scheduler", "tcp://127.0.0.1:1"], "no scheduler answers there"),
        (["--engine", "dask", "--scheduler", "nosuch://x:1"], "no scheduler answers there"),
        (["--engine", "dask", "--scheduler", "gone.json"], "no such file"),
    ],
)
def test_wrong_addresses_are_one_line(
    source, tiny_model, tmp_path, capsys, monkeypatch, arguments, words
):
    from crossband.cli.main import main

    monkeypatch.setattr(client_module, "CONNECT_SECONDS", 1.0)
    command = ["translate", str(source), "-o", str(tmp_path / "o.tif"), "--model", str(tiny_model)]
    assert main([*command, *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert words in said


def test_dask_is_no_part_of_the_core(source, tiny_model, tmp_path, capsys, monkeypatch):
    from crossband.cli.main import main

    monkeypatch.setitem(sys.modules, "distributed", None)
    command = ["translate", str(source), "-o", str(tmp_path / "o.tif"), "--model", str(tiny_model)]
    assert main([*command, "--engine", "dask", "--scheduler", "tcp://127.0.0.1:1"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install crossband[dask]" in said
