"""The command as users run it: end to end, and every bad input as one line and exit code 2."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys

import numpy as np
import pytest
import rasterio
import torch
from commands import PATIENCE, one_line, wait_until
from conftest import random_values

from crossband.cli.demo import sample


@pytest.fixture
def source(make_raster):
    values = (random_values(3, 60, 70) * 10000).astype(np.uint16)
    return make_raster(values=values, scale=1e-4, nodata=0)


def test_help_is_fast_and_imports_no_torch():
    code = "import sys; from crossband.cli.main import main\n"
    code += "try:\n main(['--help'])\nexcept SystemExit: pass\n"
    code += "sys.exit('torch' in sys.modules or 'rasterio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "translate" in done.stdout


def test_translate_imports_no_lightning(source, tiny_model, tmp_path):
    code = (
        "import sys; from crossband.cli.main import main; code = main(sys.argv[1:]);"
        "names = {m.split('.')[0] for m in sys.modules};"
        "bad = names & {'lightning', 'matplotlib', 'kornia', 'gradio', 'pandas', 'jsonargparse'};"
        "print(bad); sys.exit(code or bool(bad))"
    )
    arguments = ["translate", source, "-o", tmp_path / "n.tif", "--model", tiny_model]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_scene(crossband_command, source, tiny_model, tmp_path):
    out = tmp_path / "nir.tif"
    done = crossband_command(
        "translate", source, "-o", out, "--model", tiny_model, "--index", "NDVI"
    )
    assert done.returncode == 0, done.stderr
    assert str(out) in done.stdout
    with rasterio.open(out) as a, rasterio.open(source) as b:
        assert a.crs == b.crs
        assert a.dtypes[0] == "uint16"
        assert a.read(1).std() > 0
    assert (tmp_path / "nir_NDVI.tif").exists()


def test_many_scenes_into_a_folder(crossband_command, make_raster, tiny_model, tmp_path):
    a, b = make_raster("a.tif"), make_raster("b.tif")
    photo = make_raster("c.png", (random_values(3, 20, 20) * 255).astype(np.uint8))
    bad = tmp_path / "bad.tif"
    bad.write_text("no")
    common = ["-o", f"{tmp_path}/out/", "--model", tiny_model]
    done = crossband_command("translate", a, bad, b, *common)
    assert done.returncode == 1
    assert "bad.tif" in done.stderr
    assert "1 of 3 scenes failed" in done.stderr
    done = crossband_command("translate", photo, *common, "--sensor", "display", "--quiet")
    assert done.returncode == 0
    assert done.stdout == done.stderr == ""
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "a_nir.tif",
        "b_nir.tif",
        "c_nir.png",
        "summary.jsonl",
    ]


def test_two_inputs_of_one_name(crossband_command, make_raster, tiny_model, tmp_path):
    a = make_raster("a.tif")
    (tmp_path / "x").mkdir()
    b = shutil.copy(a, tmp_path / "x" / "a.tif")
    one_line(
        crossband_command("translate", a, b, "-o", tmp_path / "out", "--model", tiny_model),
        "two inputs would be written",
    )


def raster_of(case, make_raster, tmp_path):
    """Return a bad scene for a case."""
    if case == "missing":
        return tmp_path / "none.tif"
    if case == "not an image":
        path = tmp_path / "words.tif"
        path.write_text("words")
        return path
    if case == "empty":
        path = tmp_path / "empty.tif"
        path.touch()
        return path
    if case == "truncated":
        path = make_raster("t.tif", random_values(3, 300, 300))
        path.write_bytes(path.read_bytes()[:40_000])
        return path
    if case == "truncated png":
        path = make_raster("t.png", (random_values(3, 300, 300) * 255).astype(np.uint8))
        path.write_bytes(path.read_bytes()[:40_000])
        return path
    if case == "truncated jpeg":
        path = make_raster("t.jpg", (random_values(3, 300, 300) * 255).astype(np.uint8))
        path.write_bytes(path.read_bytes()[:20_000])
        return path
    if case == "zero bands":
        path = tmp_path / "vector.gpkg"
        import sqlite3

        sqlite3.connect(path).execute("create table t (a)").connection.commit()
        return path
    if case == "few bands":
        return make_raster("f.tif", random_values(2, 9, 9), names=("red", "green"))
    if case == "unknown bands":
        return make_raster("u.tif", random_values(4, 9, 9), names=(None, None, "x", None))
    if case == "all nodata":
        return make_raster("n.tif", np.zeros((3, 9, 9), np.uint16), scale=1e-4, nodata=0)
    if case == "all nan":
        return make_raster("n.tif", np.full((3, 9, 9), np.nan, np.float32))
    if case == "complex":
        return make_raster("c.tif", random_values(3, 9, 9).astype(np.complex64))
    if case == "uint8 of no sensor":
        return make_raster("b.tif", np.full((3, 9, 9), 50, np.uint8), unit=None)
    raise AssertionError(case)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("missing", ["no such file"]),
        ("not an image", ["not a raster"]),
        ("empty", ["empty"]),
        ("truncated", []),
        ("truncated png", []),
        ("truncated jpeg", []),
        ("zero bands", ["vector.gpkg"]),
        ("few bands", ["it has 2 bands", "red, green, blue"]),
        ("unknown bands", ["--bands red=NUMBER,green=NUMBER,blue=NUMBER", "--sensor"]),
        ("all nodata", ["masked"]),
        ("all nan", ["masked"]),
        ("complex", ["complex"]),
        ("uint8 of no sensor", ["--sensor display", "--sensor naip"]),
    ],
)
def test_bad_scenes(crossband_command, make_raster, tiny_model, tmp_path, case, words):
    scene = raster_of(case, make_raster, tmp_path)
    before = sorted(tmp_path.iterdir())
    done = crossband_command("translate", scene, "-o", tmp_path / "o.tif", "--model", tiny_model)
    one_line(done, scene.name, *words)
    assert sorted(tmp_path.iterdir()) == before


def test_messages_of_libraries_are_shown(tmp_path):
    # A library in C prints why it ends the process, and ends it.
    program = tmp_path / "dies.py"
    program.write_text(
        "import os\n"
        "from crossband.cli import main\n"
        "def die(arguments):\n"
        "    os.write(2, b'FATAL ERROR of a library')\n"
        "    os._exit(2)\n"
        "main._sensors = die\n"
        "main.main(['sensors'])\n"
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "FATAL ERROR of a library")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sensor", "sentinel-2-l2b"], ["sentinel-2-l2"]),
        (["--bands", "red=7"], ["1 to 3"]),
        (["--bands", "red"], ["red=3,green=2,blue=1"]),
        (["--bands", ""], ["--bands is empty"]),
        (["--bands", "red=²"], ["no single band is named '²'"]),
        (["--bands", "red=" + "1" * 5000], ["no single band is named '111"]),
        (["--guide-bands", ""], ["--guide-bands is empty"]),
        (["--compress", ""], ["--compress is empty"]),
        (["--guide", "x" * 300], ["x...: its name is too long"]),
        (["--dtype", "uint8"], ["--dtype"]),
        (["--index", "NVDI"], ["NDVI"]),
        (["--index", "NBR"], ["swir22"]),
        (["--index", "NDVI,EVI"], ["--index takes one"]),
        (["--dtype", "uint8", "--out-scale", "0"], ["--out-scale 0 cannot be"]),
        (
            ["--device", "cuda"] if not torch.cuda.is_available() else ["--device", "gpu"],
            ["device"],
        ),
        (["--precision", "fp8"], ["precision"]),
        (["--scale", "x"], ["--scale"]),
        (["--senser", "naip"], ["--sensor"]),
        (["--tile", "-3"], ["--tile"]),
    ],
)
def test_bad_options(crossband_command, source, tiny_model, tmp_path, arguments, words):
    out = tmp_path / "o.tif"
    done = crossband_command("translate", source, "-o", out, "--model", tiny_model, *arguments)
    one_line(done, *words)
    assert [p.name for p in tmp_path.iterdir()] == ["scene.tif"]


def test_a_scale_that_would_drop_an_offset(crossband_command, make_raster, tiny_model, tmp_path):
    scene = make_raster(values=np.full((3, 40, 50), 3000, np.uint16), unit=None)
    words = ("--model", tiny_model, "--sensor", "sentinel-2-l2a")
    run = lambda *more: crossband_command("translate", *more, *words)  # noqa: E731
    said = "sensor sentinel-2-l2a says -0.1: give --offset, too"
    one_line(run(scene, "-o", tmp_path / "o.tif", "--scale", "0.0001"), scene.name, said)
    table = tmp_path / "scenes.csv"
    table.write_text(f"source,scale\n{scene.name},0.0001\n")
    folder = f"{tmp_path / 'out'}/"
    done = run(table, "-o", folder)
    assert done.returncode == 1
    assert said in done.stderr
    table.write_text(f"source,scale,offset\n{scene.name},0.0001,-0.1\n")
    assert run(table, "-o", folder).returncode == 0


def test_bad_outputs(crossband_command, source, tiny_model, tmp_path):
    run = lambda out, *more: crossband_command(  # noqa: E731
        "translate", source, *more, "-o", out, "--model", tiny_model
    )
    one_line(run(source, "--overwrite"), "the output is the input")
    (tmp_path / "there.tif").write_text("mine")
    one_line(run(tmp_path / "there.tif"), "--overwrite")
    one_line(run(tmp_path / "o.jp2"), ".tif")
    one_line(run(""), "--output is empty")
    one_line(run(tmp_path / "two.tif", source), "several scenes go into a folder")
    for name in ("x" * 300 + ".tif", "x" * 300, "x" * 300 + "/", "x" * 250 + ".tif"):
        one_line(run(tmp_path / name), "File name too long")
    one_line(run(tmp_path / "there.tif" / "o.tif"), "cannot write")
    one_line(run(tmp_path / "o.png", "--dtype", "float32"), "PNG holds uint8 or uint16")
    assert (tmp_path / "there.tif").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_is_not_writable(crossband_command, source, tiny_model, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    done = crossband_command("translate", source, "-o", folder / "o.tif", "--model", tiny_model)
    one_line(done, "cannot write")


def test_read_only_file_system(crossband_command, source, tiny_model):
    """/proc takes no files, not even from root."""
    if not os.path.isdir("/proc/self"):
        pytest.skip("no /proc on this machine")
    done = crossband_command("translate", source, "-o", "/proc/o.tif", "--model", tiny_model)
    one_line(done, "/proc", "cannot write")


def change(folder, **changes):
    """Rewrite keys of model.json; None removes a key."""
    path = folder / "model.json"
    data = json.loads(path.read_text())
    for key, value in changes.items():
        data.pop(key, None)
        if value is not None:
            data[key] = value
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("unknown name", ["rgb2nir"]),
        ("missing key", ["'signature'", "missing"]),
        ("wrong key", ["'netwrok'", "network"]),
        ("not JSON", ["JSON"]),
        ("unknown network", ["LocalUnet", "LocalUNet"]),
        ("import path", ["os.system"]),
        ("wrong argument", ["'widht'", "width"]),
        ("other weights", ["SHA-256"]),
        ("pickled weights", ["pickle"]),
        ("a pickle file", ["pickle"]),
        ("no weights", ["missing"]),
        ("newer format", ["format"]),
    ],
)
def test_bad_models(crossband_command, source, tiny_model, tmp_path, case, words):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    weights = folder / "model.safetensors"
    network = json.loads((folder / "model.json").read_text())["network"]
    name = folder
    if case == "unknown name":
        name = "rgb2nit"
    elif case == "missing key":
        change(folder, signature=None)
    elif case == "wrong key":
        change(folder, netwrok={})
    elif case == "not JSON":
        (folder / "model.json").write_text("{")
    elif case == "unknown network":
        change(folder, network={**network, "class": "LocalUnet"})
    elif case == "import path":
        change(folder, network={**network, "class": "os.system"})
    elif case == "wrong argument":
        change(folder, network={**network, "arguments": {"widht": 3}})
    elif case == "other weights":
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
    elif case == "pickled weights":
        weights.unlink()
        torch.save({"a": torch.zeros(1)}, folder / "model.pth")
    elif case == "a pickle file":
        name = tmp_path / "model.pt"
        torch.save({"a": torch.zeros(1)}, name)
    elif case == "no weights":
        weights.unlink()
    elif case == "newer format":
        change(folder, format=99)
    done = crossband_command("translate", source, "-o", tmp_path / "o.tif", "--model", name)
    one_line(done, *words)
    assert not (tmp_path / "o.tif").exists()


def test_ctrl_c_keeps_what_is_done(interpreters, make_raster, tiny_model, tmp_path):
    source = make_raster(values=random_values(3, 1500, 1500))
    out = tmp_path / "nir.tif"
    arguments = ["translate", source, "-o", out, "--model", tiny_model, "--tile", "64"]
    code = "import sys; from crossband.raster import journal; journal.FLUSH_SECONDS = 0.0\n"
    code += "from crossband.cli.main import main; sys.exit(main())"
    process = interpreters.start("-c", code, *arguments)
    written = tmp_path / ".nir.tif.crossband" / "journal"
    wait_until(lambda: written.exists() and written.stat().st_size, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "--resume goes on" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == [".nir.tif.crossband", "scene.tif"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trnslate"], ["translate"]),
        (["translate"], ["INPUT"]),
        (["fit", "rgb2nir/local-unt"], ["rgb2nir/local-unet"]),
        (["fit", "rgb2nir/local-unet", "--method.max_stps", "3"], ["max_steps"]),
        (["evaluate", "--model", "rgb2nir", "--manifest", "none.csv", "-o", "x"], ["none.csv"]),
    ],
)
def test_bad_commands(crossband_command, tmp_path, arguments, words):
    one_line(crossband_command(*arguments, cwd=tmp_path), *words)
    assert not list(tmp_path.iterdir())


def test_sensors_and_models_are_listed(crossband_command):
    done = crossband_command("sensors")
    assert done.returncode == 0
    for name in (
        "sentinel-2-l2a",
        "landsat-c2-l2",
        "naip",
        "spot-6",
        "sentinel-1-grd-db",
        "display",
    ):
        assert name in done.stdout
    done = crossband_command("models")
    assert done.returncode == 0
    for word in ("rgb2nir", "task", "bands", "units", "sensors", "margin", "MiB", "measured"):
        assert word in done.stdout


@pytest.fixture
def pairs(make_raster, tmp_path):
    """Return a manifest of three scenes whose NIR follows from red and green."""
    rows = ["source,target,group"]
    for i in range(3):
        rgb = random_values(3, 40, 44, seed=i)
        values = np.concatenate([rgb, 0.1 + 0.5 * rgb[:1] + 0.2 * rgb[1:2]])
        make_raster(f"p{i}.tif", values, names=("red", "green", "blue", "nir"))
        rows.append(f"p{i}.tif,p{i}.tif,place-{i}")
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["linear", "local-unet", "local-statistics"])
def test_recipes_through_the_real_command(crossband_command, pairs, tmp_path, recipe):
    """Fit, translate, evaluate: what a user does with a recipe, each in its own process."""
    fresh = recipe == "linear"  # an evaluation that finds nothing imported
    run = tmp_path / "run"
    small = ["--data.manifest", pairs, "--data.crop", "16", "--data.batch", "4", "--fast-run"]
    done = crossband_command("fit", f"rgb2nir/{recipe}", "-o", run, *small)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(run / "model")
    done = crossband_command("fit", f"rgb2nir/{recipe}", "-o", run, *small)
    one_line(done, "--resume", "--overwrite")
    done = crossband_command("fit", f"rgb2nir/{recipe}", "-o", run, *small, "--resume")
    assert done.returncode == 0, done.stderr
    done = crossband_command(
        "translate", tmp_path / "p0.tif", "-o", tmp_path / "n.tif", "--model", run / "model"
    )
    assert done.returncode == 0, done.stderr
    with rasterio.open(tmp_path / "n.tif") as file:
        assert np.isfinite(file.read()).all()
    arguments = ["--model", run / "model", "--manifest", run / "pairs.csv", "--index", "NDVI"]
    done = crossband_command("evaluate", *arguments, "-o", tmp_path / "report", fresh=fresh)
    assert done.returncode == 0, done.stderr
    assert "split val" in done.stdout
    made = {p.name for p in (tmp_path / "report").iterdir()}
    files = {"index.html", "metrics.json", "profiles.json", "per_image.csv", "per_image.parquet"}
    assert made == {*files, "table.txt", "pictures"}
    again = crossband_command("evaluate", *arguments, "-o", tmp_path / "report")
    assert (again.returncode, again.stdout) == (0, "")
    assert "nothing is left to do" in again.stderr
    arguments[-1] = "EVI"
    one_line(crossband_command("evaluate", *arguments, "-o", tmp_path / "report"), "--overwrite")


@pytest.mark.slow
def test_demo_with_the_bundled_model(crossband_command, tmp_path):
    done = crossband_command("demo", "--out", tmp_path / "d", cwd=tmp_path, fresh=True)
    assert done.returncode == 0, done.stderr
    names = {"scene.tif", "nir.tif", "ndvi.tif", "comparison.png", "metrics.json"}
    names |= {"nir.interval.tif", "ndvi.interval.tif"}
    assert {p.name for p in (tmp_path / "d").iterdir()} == names
    assert f"look at {tmp_path / 'd' / 'comparison.png'}" in done.stderr
    lines = done.stdout.splitlines()
    assert [line.split("  ")[0].strip(" *") for line in lines[1:5]] == [
        "model",
        "per-pixel linear",
        "per-pixel MLP",
        "mean",
    ]
    metrics = json.loads((tmp_path / "d" / "metrics.json").read_text())
    with rasterio.open(tmp_path / "d" / "nir.interval.tif") as bounds:
        low, high = bounds.read()
    sure = metrics["interval"]["bands"]["nir"]
    true = sample()["nir"] / 1e4
    assert sure["covered"] == pytest.approx(((low <= true) & (true <= high)).mean(), abs=1e-3)
    assert sure["mean_width"] == pytest.approx((high - low).mean(), rel=1e-5)
    said = f"nir {sure['mean_width']:.3f} ({sure['covered']:.0%})"
    assert lines[6].startswith(f"90% interval, mean width (true values inside): {said}, NDVI ")
    scores = metrics["scores"]
    # The model must be worth its name on this scene: better than a constant and than a line.
    for baseline in ("mean", "linear"):
        for metric in ("mae", "rmse", "NDVI_mae"):
            assert scores["model"][metric] < scores[baseline][metric]
