"""Commands that write: killed before every change of their files, and with a disk that is full.

After a kill no file under a final name is half, and the same command (or with --resume) gives what
it gives uninterrupted. A full disk is one line, and what was there before stays. The quick tier has
a few moments of each command, the slow one all of them, on a copy of what each kill would leave.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import moments
import pandas as pd
import plain
import pytest
import rasterio
import torch
import trees
from affine import Affine
from conftest import random_values
from fitting import RECIPE
from ranges import RangeServer
from tiers import slow

from crossband.cli.main import main
from crossband.core.hidden_folder import HiddenFolder
from crossband.training.methods.base import Method

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="/proc, and a safe fork"),
    pytest.mark.usefixtures("no_figures"),
]

FEW = "--method.max_steps 3 --data.steps 2 --trainer.checkpoint_every 1"


@dataclass(frozen=True)
class Writer:
    """A command that writes.

    Attributes:
        words: its arguments; `{out}` is the folder of its results, the others are inputs.
        resume: what is added after a kill.
        varies: names of files that differ from run to run, by a time.
        begun: a file that must be there for `resume`.
        passing: results that are removed or replaced at the end: the beginning of their names.
        every: which moments the slow tier takes; the last ones are always taken.
    """

    words: str
    resume: str = ""
    varies: tuple[str, ...] = ()
    begun: str = ""
    passing: str = "."
    every: int = 1


WRITERS = {
    "translate": Writer(
        "translate {scene} -o {out}/nir.tif --model {model} --index NDVI", "--resume"
    ),
    "fleet": Writer(
        "translate {scene} {other} -o {out} --model {model}", varies=("summary.jsonl",), every=3
    ),
    "series": Writer(
        "series {scene} {other} -o {out} --model {model} --date-pattern %Y%m%d --no-scenes",
        varies=("summary.jsonl",),
        passing="scenes/",
        every=15,
    ),
    "pack": Writer("data pack {pairs} -o {out}/packed --block 16 --quiet"),
    "degrade": Writer("data degrade {fine} --reference {coarse} -o {out}", every=2),
    "manifest": Writer("data manifest folders {tree} --target nir -o {out}/pairs.csv"),
    "split": Writer("data split {pairs} -o {out}/split.parquet"),
    "check": Writer(
        "data check {pairs} -o {out}/page.html --json {out}/found.json --fix {out}/good.csv "
        "--quiet --workers 1",
        varies=("page.html", "found.json"),
    ),
    "import": Writer(
        "import {net} -o {out}/m --task t --source-bands red,green,blue "
        "--target-bands red,green,blue --unit display"
    ),
    "blend": Writer("blend {model} {model} -o {out}/m"),
    "evaluate": Writer(
        "evaluate --model {model} --manifest {pairs} -o {out}/report --pictures 0",
        varies=("index.html", "metrics.json"),
    ),
    # The tags of what it translates say when its scene was written.
    "demo": Writer("demo --out {out} --model {model}", varies=("nir.tif", "ndvi.tif"), every=25),
    "fit": Writer(
        "fit {recipe} --data.manifest {pairs} -o {out}/run " + FEW,
        "--resume",
        varies=("model.json", "README.md", "config.yaml", "last.ckpt", "best.ckpt"),
        begun="run/config.yaml",
        every=4,
    ),
    # Its tables grow with each trial, and its best recipe may be another one.
    "sweep": Writer(
        "fit {recipe} --sweep {space} --data.manifest {pairs} -o {out}/sweep " + FEW,
        "--resume",
        varies=(
            *("model.json", "README.md", "config.yaml", "last.ckpt", "best.ckpt"),
            *("trials.csv", "trials.db"),
        ),
        begun="sweep/sweep.yaml",
        passing="sweep/best.yaml",
        every=15,
    ),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, make_pairs, tiny_model):
    """Return small inputs of all commands, by name."""
    folder = tmp_path_factory.mktemp("inputs")

    def raster(name, values, step):
        profile = {"count": len(values), "height": values.shape[1], "width": values.shape[2]}
        profile |= {"dtype": "float32", "crs": "EPSG:32633"}
        profile["transform"] = Affine(step, 0, 5e5, 0, -step, 5e6)
        with rasterio.open(folder / name, "w", **profile) as out:
            out.write(values)
            out.descriptions = ("red", "green", "blue")
            out.units = ["reflectance"] * 3
        return folder / name

    torch.save(plain.resnet(gives=3).state_dict(), folder / "net.pth")
    trees.pix2pix(folder / "tree")
    space = folder / "space.yaml"
    space.write_text(
        "{trials: 2, prune: false, parameters: {method.generator.depth: {low: 0, high: 2}}}"
    )
    return {
        "model": tiny_model,
        "recipe": RECIPE,
        "pairs": make_pairs(folder),
        "scene": raster("20240501.tif", random_values(3, 20, 24), 10),
        "other": raster("20240511.tif", random_values(3, 20, 24, seed=1), 10),
        "fine": raster("fine.tif", random_values(3, 40, 40), 2.5),
        "coarse": raster("coarse.tif", random_values(3, 10, 10), 10),
        "net": folder / "net.pth",
        "tree": folder / "tree",
        "space": space,
    }


def visible(folder, varies=()):
    """Return the files under final names, as name -> bytes; None for those that vary."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        inner = any(p.startswith(".") for p in name.parts) or "logs" in name.parts
        if path.is_file() and not inner:
            found[str(name)] = None if path.name in varies else path.read_bytes()
    return found


def arguments(writer, inputs, out, *more):
    return [*writer.words.format(out=out, **inputs).split(), *more]


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    """Return a function: a command -> what it gives uninterrupted, and its moments."""
    known = {}

    def run(name):
        if name not in known:
            out, writer = tmp_path_factory.mktemp(name), WRITERS[name]
            with moments.watched(out) as seen:
                assert main(arguments(writer, inputs, out)) == 0
            known[name] = visible(out, writer.varies), seen
        return known[name]

    return run


def nothing_half(writer, out, expected):
    """Check that each file under a final name is the one that it will be."""
    for name, content in visible(out, writer.varies).items():
        if not name.startswith(writer.passing):
            assert expected.get(name, b"") == content, name


def ends_the_same(writer, inputs, out, expected):
    """Check that the command ends after a kill as if there had been none."""
    more = writer.resume.split() if (out / writer.begun).exists() else []
    assert main(arguments(writer, inputs, out, *more)) == 0
    assert visible(out, writer.varies) == expected
    assert [p for p in out.rglob(".*") if "logs" not in p.parts] == []


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("translate", "remove .nir.tif.crossband/run.json"),
        ("pack", "rename packed"),
        ("pack", "rmdir .packed.crossband"),
        ("degrade", "rmdir .fine_source.tif.crossband"),
        ("manifest", "rename pairs.csv"),
        ("manifest", "rmdir .pairs.csv.crossband"),
        ("split", "rmdir .split.parquet.crossband"),
        ("check", "rename page.html"),
        ("import", "rmdir .m.crossband"),
        ("blend", "rmdir .m.crossband"),
    ],
)
def test_killed(name, moment, inputs, whole, interpreters, tmp_path):
    """By the system, in the real command."""
    writer, (expected, _) = WRITERS[name], whole(name)
    words = arguments(writer, inputs, tmp_path)
    here = Path(__file__).parent
    done = interpreters.run("-c", moments.KILLED, here, tmp_path, moment, *words)
    assert done.returncode == -signal.SIGKILL, done.stderr
    nothing_half(writer, tmp_path, expected)
    ends_the_same(writer, inputs, tmp_path, expected)


def chosen(writer, seen):
    """Return which moments the slow tier takes: all, or some and all of the last ones."""
    return [n for n in range(1, len(seen) + 1) if n % writer.every == 0 or n > len(seen) - 9]


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_killed_at_every_moment(name, inputs, whole, tmp_path):
    """The command is run once, and its folder copied at each moment: what a kill would leave."""
    writer, (expected, seen) = WRITERS[name], whole(name)
    out, wanted = tmp_path / "out", chosen(writer, seen)
    out.mkdir()

    def copy(number, moment):
        if number in wanted:
            shutil.copytree(out, tmp_path / str(number))

    with moments.watched(out, copy):
        assert main(arguments(writer, inputs, out)) == 0
    for number in wanted:
        shutil.rmtree(out)
        (tmp_path / str(number)).rename(out)
        nothing_half(writer, out, expected)
        ends_the_same(writer, inputs, out, expected)


# A full disk.


def refused(writer, inputs, out, at, capsys, *more):
    """Run a command without room on the disk from a moment on; check for one line."""
    with moments.watched(out, moments.full_from(at)):
        code = main(arguments(writer, inputs, out, *more))
    said = capsys.readouterr().err
    many = writer is WRITERS["fleet"]  # 1: some scenes failed, and the others are finished
    assert code in ((1, 2) if many else (2,)), said
    assert said.splitlines()[-1].startswith("crossband: "), said
    assert "No space left on device" in said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_is_full_from_any_moment_on(name, inputs, whole, tmp_path, capsys):
    writer, (expected, seen) = WRITERS[name], whole(name)
    names = [m.removeprefix("rename ") for m in seen]
    first = next(
        n
        for n, (m, name) in enumerate(zip(seen, names, strict=True), start=1)
        if m != name and not name.startswith(".") and "/." not in name
    )
    last = len(seen) if writer.begun or name == "fleet" else first
    for number in chosen(writer, seen):
        if number <= last and seen[number - 1].split()[0] in ("open", "mkdir", "fsync"):
            out = tmp_path / str(number)
            out.mkdir()
            refused(writer, inputs, out, number, capsys)
            nothing_half(writer, out, expected)
            ends_the_same(writer, inputs, out, expected)


#: What makes another result under the same names.
OTHER = {
    "translate": "--dtype float32",
    "pack": "--block 32",
    "degrade": "--match linear",
    "manifest": "--target red",
    "split": "--seed 5",
    "import": "--licence MIT",
    "blend": "--weight 0.1",
}


@pytest.mark.parametrize("at", [1, 6])
@pytest.mark.parametrize("name", OTHER)
def test_a_full_disk_keeps_what_was_there(name, at, inputs, tmp_path, capsys):
    """With --overwrite: the earlier result stays."""
    writer = WRITERS[name]
    assert main(arguments(writer, inputs, tmp_path, *OTHER[name].split())) == 0
    before = visible(tmp_path)
    refused(writer, inputs, tmp_path, at, capsys, "--overwrite")
    assert visible(tmp_path) == before
    assert list(tmp_path.rglob(".*")) == []


@pytest.mark.parametrize(
    ("name", "most"), [("pack", 3000), ("import", 10_000), ("degrade", 3000), ("split", 2500)]
)
def test_a_file_that_the_system_lets_grow_no_further(name, most, inputs, tmp_path, interpreters):
    """It refuses libraries, too, which write by themselves: GDAL, parquet, safetensors."""
    limits = {resource.RLIMIT_FSIZE: (most, most)}
    words = ["-m", "crossband", *arguments(WRITERS[name], inputs, tmp_path)]
    done = interpreters.run(*words, limits=limits)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("crossband: ")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


# Two processes with one output.


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("translate", "nir.tif"),
        ("series", "series"),
        ("pack", "packed"),
        ("degrade", "fine_source.tif"),
        ("manifest", "pairs.csv"),
        ("split", "split.parquet"),
        ("check", "page.html"),
        ("import", "m"),
        ("blend", "m"),
        ("evaluate", "report"),
        ("demo", "scene.tif"),
    ],
)
def test_another_process_is_writing_it(name, output, inputs, tmp_path, capsys):
    other = HiddenFolder.open(tmp_path / output)
    other.mark()
    (other.path / "journal").touch()
    assert main(arguments(WRITERS[name], inputs, tmp_path)) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"crossband: {tmp_path / output}: another process is writing it"
    assert (other.path / "journal").exists()
    other.remove()


# A server that goes away.


@pytest.fixture(scope="module")
def server(inputs):
    with RangeServer(inputs["scene"].parent) as server:
        yield server


@pytest.fixture
def far(server, inputs, monkeypatch, tmp_path):
    """Return the inputs, with addresses on a server in the place of files."""
    monkeypatch.setenv("GDAL_HTTP_RETRY_DELAY", "0.01")
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "1")
    table = pd.read_csv(inputs["pairs"])
    for side in ("source", "target"):
        table[side] = [f"{server.url}/{name}" for name in table[side]]
    table.to_csv(tmp_path / "far.csv", index=False)
    there = {key: f"{server.url}/{inputs[key].name}" for key in ("scene", "other", "fine")}
    yield {**inputs, **there, "pairs": tmp_path / "far.csv"}
    server.heal()


@pytest.mark.parametrize("name", ["translate", "degrade", slow("series"), "pack", slow("evaluate")])
@pytest.mark.parametrize("after", [1, 4])
def test_a_server_that_goes_away(name, after, far, server, tmp_path, capsys):
    """It breaks off in the middle of every answer; when it is back, the same command ends."""
    writer, out = WRITERS[name], tmp_path / "out"
    out.mkdir()
    server.fail("drop", first=after)
    assert main(arguments(writer, far, out)) in (1, 2)
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("crossband: "), said
    assert "Traceback" not in said
    assert [name for name in visible(out) if not name.startswith(writer.passing)] == []
    server.heal()
    assert main(arguments(writer, far, out)) == 0, capsys.readouterr().err
    assert list(out.rglob(".*")) == []


# A worker that is lost; those of a cluster are in test_dask.py, those of `data check` in
# test_check.py.


def test_a_loading_process_that_is_killed(inputs, tmp_path, capsys, monkeypatch):
    step = Method.training_step

    def kill_loaders(self, batch, index):
        step(self, batch, index)
        if self.step == 2:
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGKILL)

    words = arguments(WRITERS["fit"], inputs, tmp_path, "--data.workers", "1")
    words[words.index("--method.max_steps") + 1] = "9"
    with monkeypatch.context() as patch:
        patch.setattr(Method, "training_step", kill_loaders)
        assert main(words) == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("crossband: a loading process was killed"), said
    assert "go on with --resume" in said
    assert not (tmp_path / "run" / "model").exists()
    assert main([*words, "--resume"]) == 0
