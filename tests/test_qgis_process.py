"""The plugin in a real QGIS: every algorithm, wrong parameters, cancelling, styles.

Skipped where QGIS is not installed; on Debian: apt-get install qgis python3-qgis.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from qgis_stubs import wheel_of_a_stand_in

import crossband

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
# Debian's wrapper passes on an option that the program refuses.
PROCESS = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
PROFILE = Path(".local/share/QGIS/QGIS3/profiles/default/python/plugins")
PYTHON = "/usr/bin/python3"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return the home folder of a user of QGIS who has enabled the plugin."""
    if PROCESS is None:
        pytest.skip("QGIS is not installed (qgis_process is not on PATH)")
    folder = tmp_path_factory.mktemp("home")
    (folder / "run").mkdir(mode=0o700)
    (folder / PROFILE).mkdir(parents=True)
    (folder / PROFILE / "crossband_provider").symlink_to(ROOT / "qgis" / "crossband_provider")
    command = folder / "bin" / "crossband"
    command.parent.mkdir()
    # PYTHON* is not inherited: the command knows its own modules, as in an environment.
    source = f"PYTHONPATH='{ROOT / 'src'}' OMP_NUM_THREADS=1"
    command.write_text(f'#!/bin/sh\n{source} exec "{sys.executable}" -m crossband "$@"\n')
    command.chmod(0o755)
    done = called([PROCESS, "plugins", "enable", "crossband_provider"], folder)
    assert done.returncode == 0, done.stderr
    return folder


def called(command, home, **more):
    """Run a program of QGIS."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    env = {
        **kept,
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "QT_QPA_PLATFORM": "offscreen",
        "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, check=False, env=env)


@pytest.fixture
def run(home):
    """Return a function that runs an algorithm by `qgis_process`."""

    def of(algorithm, env=None, **parameters):
        given = [
            f"{name}={value}"
            for name, values in parameters.items()
            for value in (values if isinstance(values, list) else [values])
        ]
        done = called([PROCESS, "run", f"crossband:{algorithm}", "--", *given], home, **(env or {}))
        said = done.stdout + done.stderr
        assert "crossband_provider/" not in said, said  # as in a traceback
        assert env or "Traceback" not in said, said
        return done

    return of


@pytest.fixture
def session(home):
    """Return a function that runs an algorithm by Python in QGIS, which loads the layers."""

    def of(algorithm, *options, **parameters):
        words = [PYTHON, ROOT / "tests" / "qgis_session.py", f"crossband:{algorithm}"]
        done = called([*words, json.dumps(parameters, default=str), *options], home)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return of


def pixels(path):
    with rasterio.open(path) as file:
        return file.read(), file.crs, file.transform, file.read_masks()


def same(path, other):
    for mine, theirs in zip(pixels(path), pixels(other), strict=True):
        assert (
            np.array_equal(mine, theirs, equal_nan=True)
            if isinstance(mine, np.ndarray)
            else mine == theirs
        )


SENTINEL = "rgb2nir/satellite/s2_l2a_ben_S2A_MSIL2A_20170613T101031_0_48.tif"


def test_translate_gives_the_pixels_of_the_command(run, real_data, tmp_path, crossband_command):
    scene = real_data / SENTINEL
    options = {"SENSOR": "sentinel-2-l2a-no-offset", "INDEX": ["NDVI"], "INTERVAL": "0.9"}
    done = run("translate", INPUT=scene, OUTPUT=tmp_path / "q.tif", **options)
    assert done.returncode == 0, done.stdout + done.stderr
    words = ["translate", scene, "-o", tmp_path / "c.tif", "--interval", "0.9", "--index", "NDVI"]
    assert crossband_command(*words, "--sensor", options["SENSOR"]).returncode == 0
    for name in ("", "_NDVI", ".interval", "_NDVI.interval"):
        same(tmp_path / f"q{name}.tif", tmp_path / f"c{name}.tif")


def test_bands_extent_guide_and_numbers_as_texts(run, make_raster, tmp_path, crossband_command):
    scene = make_raster("s.tif", names=(None, None, None), unit=None)
    guide = make_raster("g.tif", np.full((1, 40, 50), 0.3, np.float32), names=("nir",))
    done = run(
        "translate",
        **{"INPUT": scene, "OUTPUT": tmp_path / "q.tif", "SENSOR": "reflectance", "SCALE": "1.0"},
        **{"BAND_RED": "3", "BAND_GREEN": "2", "BAND_BLUE": "1", "OFFSET": "0.01", "GUIDE": guide},
        EXTENT="500100,500300,4999700,4999900",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    words = [
        "translate",
        scene,
        "-o",
        tmp_path / "c.tif",
        "--sensor",
        "reflectance",
        "--scale",
        "1",
    ]
    words += ["--offset", "0.01", "--bands", "red=3,green=2,blue=1", "--guide", guide]
    assert crossband_command(*words, "--extent", "500100,4999700,500300,4999900").returncode == 0
    same(tmp_path / "q.tif", tmp_path / "c.tif")


def test_an_index_through_time(run, make_raster, tmp_path, crossband_command):
    scenes = [make_raster(f"s_{date}.tif") for date in ("20240501", "20240601")]
    done = run("series", INPUT=scenes, DATE_PATTERN="%Y%m%d", OUTPUT=tmp_path / "q")
    assert done.returncode == 0, done.stdout + done.stderr
    words = ["series", *scenes, "-o", tmp_path / "c", "--date-pattern", "%Y%m%d"]
    assert crossband_command(*words).returncode == 0
    same(tmp_path / "q" / "NDVI.tif", tmp_path / "c" / "NDVI.tif")
    assert "series.csv" in done.stdout


def test_evaluate_and_check_data(run, pairs, tmp_path):
    table = pairs(2)
    done = run("evaluate", MANIFEST=table, OUTPUT=tmp_path / "report")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "report" / "index.html").is_file()
    done = run("checkdata", MANIFEST=table, OUTPUT=tmp_path / "check.html")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "CLEAN:" in done.stdout
    assert (tmp_path / "check.html").is_file()


#: Algorithm, wrong parameters, and what the message says.
WRONG = [
    ("translate", {"INPUT": "/no/such.tif"}, "Could not load source layer"),
    ("translate", {"MODEL": "rgb2nri"}, "MODEL"),
    ("translate", {"MODEL_FOLDER": "/no/such"}, "unknown model '/no/such'"),
    ("translate", {"SENSOR": "spot-99"}, "SENSOR"),
    ("translate", {"SENSOR": "landsat-c2-l2-st"}, "band"),
    ("translate", {"SCALE": "much"}, "SCALE much: not a number"),
    ("translate", {"BAND_RED": "9"}, "9"),
    ("translate", {"INDEX": "NDFI"}, "INDEX"),
    ("translate", {"EXTENT": "0,1,0,1"}, "does not touch it"),
    ("translate", {"EXTENT": "here"}, "EXTENT"),
    ("translate", {"GUIDE": "/no/such.tif"}, "Could not load source layer"),
    ("translate", {"INTERVAL": "1.5"}, "1.5"),
    ("translate", {"DEVICE": "tpu"}, "DEVICE"),
    ("translate", {"OFFSET": "much"}, "OFFSET much: not a number"),
    ("translate", {"PROMISE": "some", "INTERVAL": "0.9"}, "PROMISE"),
    ("translate", {"GUIDE": "scene", "GUIDE_SENSOR": "spot-99"}, "GUIDE_SENSOR"),
    ("translate", {"GUIDE": "scene", "GUIDE_METHOD": "best"}, "GUIDE_METHOD"),
    ("translate", {"GUIDE": "scene", "GUIDE_BANDS": "nir=9"}, "9"),
    ("translate", {"OUTPUT": "/proc/x.tif"}, "/proc"),
    ("translate", {"BAND_RED": "1.5"}, "BAND_RED 1.5: not a whole number"),
    ("translate", {"OFFSET": "nan"}, "OFFSET nan: not a number"),
    ("translate", {"GUIDE_BANDS": "nir=1"}, "GUIDE_BANDS nir=1: does nothing without GUIDE"),
    ("translate", {"GUIDE_METHOD": "linear"}, "linear: does nothing without GUIDE"),
    ("translate", {"PROMISE": "places"}, "PROMISE places: does nothing without INTERVAL"),
    ("translate", {"OVERWRITE": "no"}, "OVERWRITE no: neither true nor false"),
    ("translate", {"FAMILIARITY": "maybe"}, "FAMILIARITY maybe: neither true nor false"),
    ("translate", {"FLOAT": "16"}, "FLOAT 16: neither true nor false"),
    ("series", {"PLACE_NAME": "field"}, "PLACE_NAME field: does nothing without PLACES"),
    ("evaluate", {"INDEX": "NDFI"}, "INDEX"),
    ("evaluate", {"OUTPUT": "/proc/x"}, "/proc"),
    ("checkdata", {"OUTPUT": "/proc/x.html"}, "/proc"),
    ("series", {"DATE_PATTERN": "%Q"}, "%Q"),
    ("series", {"BANDS": "red"}, "red"),
    ("series", {"PLACES": "/no/such.geojson"}, "such"),
    ("series", {"PLACES": "fields", "PLACE_NAME": "street"}, "street"),
    ("series", {"INPUT": "/no/such.tif"}, "such.tif"),
    ("series", {"MODEL": "rgb2nri"}, "MODEL"),
    ("series", {"SENSOR": "spot-99"}, "SENSOR"),
    ("series", {"INDEX": "NDFI"}, "INDEX"),
    ("evaluate", {"MANIFEST": "/no/such.csv"}, "such.csv"),
    ("evaluate", {"SPLIT": "tset"}, "tset"),
    ("checkdata", {"MANIFEST": "/no/such.csv"}, "such.csv"),
    ("evaluate", {"MODEL": "rgb2nri"}, "MODEL"),
    ("checkdata", {"MAX_SHIFT": "much"}, "MAX_SHIFT much: not a number"),
    *(("translate", {f"BAND_{b}": "9"}, "bands are 1 to 3") for b in ("GREEN", "BLUE")),
    *(("translate", {f"BAND_{b}": "1"}, "does not take a band") for b in ("NIR", "VV", "VH")),
    ("translate", {"MODEL_FOLDER": "--help"}, "unknown model '--help'"),
    ("series", {"MODEL_FOLDER": "/no/such"}, "unknown model '/no/such'"),
    ("series", {"SCALE": "inf"}, "SCALE"),
    ("series", {"OFFSET": "much"}, "OFFSET much: not a number"),
    ("series", {"DEVICE": "tpu"}, "DEVICE"),
    ("series", {"OVERWRITE": "no"}, "OVERWRITE no: neither true nor false"),
    ("series", {"OUTPUT": "/proc/x"}, "/proc"),
    ("evaluate", {"MODEL_FOLDER": "/no/such"}, "unknown model '/no/such'"),
    ("evaluate", {"DEVICE": "tpu"}, "DEVICE"),
    ("evaluate", {"OVERWRITE": "no"}, "OVERWRITE no: neither true nor false"),
    ("checkdata", {"OVERWRITE": "no"}, "OVERWRITE no: neither true nor false"),
]


@pytest.mark.parametrize(("algorithm", "wrong", "said"), WRONG)
def test_a_wrong_parameter_gives_a_message(
    run, make_raster, pairs, tmp_path, algorithm, wrong, said
):
    scene, out = make_raster("s_20240501.tif"), tmp_path / "out"
    given = {
        "translate": {"INPUT": scene, "OUTPUT": out.with_suffix(".tif")},
        "series": {"INPUT": [scene], "DATE_PATTERN": "%Y%m%d", "OUTPUT": out},
    }.get(algorithm)
    if given is None:
        given = {"MANIFEST": pairs(2), "OUTPUT": out}
    held = {"scene": scene, "fields": make_places(tmp_path / "places.geojson")}
    wrong = {name: held.get(value, value) for name, value in wrong.items()}
    done = run(algorithm, **{**given, **wrong})
    assert done.returncode == 1, done.stdout
    assert said in done.stdout + done.stderr
    assert not list(tmp_path.glob("out*"))
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("algorithm", ["translate", "series", "evaluate", "checkdata"])
def test_every_parameter_is_given_wrongly_above(home, algorithm):
    done = called([PROCESS, "--json", "help", f"crossband:{algorithm}"], home)
    given = {name for other, wrong, _ in WRONG if other == algorithm for name in wrong}
    if algorithm == "checkdata":
        given |= {"SOURCE", "TARGET"}  # below: a wrong one is a finding
    assert set(json.loads(done.stdout)["parameters"]) == given


def test_bands_that_no_file_has_are_findings(run, pairs, tmp_path):
    given = {"MANIFEST": pairs(2), "OUTPUT": tmp_path / "check.html"}
    for wrong in ({"SOURCE": "reed"}, {"TARGET": "infra", "OVERWRITE": "true"}):
        done = run("checkdata", **given, **wrong)
        assert f"cannot tell which band is {next(iter(wrong.values()))}" in done.stdout
        assert "CLEAN:\tfalse" in done.stdout


def make_places(path):
    """Write a place of the field `name`."""
    ring = [[15.0, 45.1], [15.01, 45.1], [15.01, 45.11], [15.0, 45.1]]
    shape = {"type": "Polygon", "coordinates": [ring]}
    place = {"type": "Feature", "properties": {"name": "field"}, "geometry": shape}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [place]}))
    return path


def test_broken_modules_in_the_python_of_qgis_do_no_harm(run, make_raster, tmp_path):
    """QGIS' own plugin `processing` does not start then, and says so by a traceback."""
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("numpy", "rasterio", "torch"):
        (broken / f"{name}.py").write_text("raise ImportError('broken on purpose')\n")
    done = run(
        "translate",
        env={"PYTHONPATH": str(broken), "PROJ_LIB": str(broken), "GDAL_DATA": str(broken)},
        INPUT=make_raster(),
        OUTPUT=tmp_path / "out.tif",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out.tif").is_file()


def test_without_crossband_the_message_says_what_to_do(run, home, make_raster, tmp_path):
    folders = [p for p in os.environ["PATH"].split(":") if not Path(p, "crossband").exists()]
    env = {"PATH": ":".join(folders)}
    done = run("translate", env=env, INPUT=make_raster(), OUTPUT=tmp_path / "out.tif")
    assert done.returncode == 1
    assert "install it with one button: Plugins > Crossband" in done.stdout + done.stderr


def test_another_version_of_crossband_is_said_in_one_line(home, make_raster, tmp_path):
    """It tells its version in its first event; what tells none is too old."""
    real, other = home / "bin" / "crossband", tmp_path / "bin" / "crossband"
    other.parent.mkdir()
    other.write_text(
        f'#!/bin/sh\n\'{real}\' "$@" | sed \'s/"crossband": "[0-9.]*"/"crossband": "9.9"/\'\n'
    )
    other.chmod(0o755)
    words = [PROCESS, "run", "crossband:translate", "--", f"INPUT={make_raster()}"]
    path = f"{other.parent}:{os.environ['PATH']}"
    done = called([*words, f"OUTPUT={tmp_path / 'nir.tif'}"], home, PATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    said = f"WARNING:\tCrossband is 9.9, and this plugin is for {crossband.__version__}"
    assert [line for line in (done.stdout + done.stderr).splitlines() if "9.9" in line] == [said]
    other.write_text("#!/bin/sh\necho 'error: unknown option --progress' >&2\nexit 2\n")
    done = called([*words, f"OUTPUT={tmp_path / 'old.tif'}"], home, PATH=path)
    assert f"too old for this plugin, which needs Crossband {crossband.__version__}" in done.stderr


def test_boxes_of_a_dialog_have_names(home):
    """QGIS 3.22 shows names of a choice of several as empty lines, unless they are boxes."""
    done = called([PYTHON, ROOT / "tests" / "qgis_boxes.py"], home)
    boxes = json.loads(done.stdout.splitlines()[-1])
    for algorithm in ("translate", "series", "evaluate"):
        assert boxes[algorithm]["names"][:2] == ["NDVI", "EVI"]
        assert boxes[algorithm]["chosen"] == ["EVI"]


def test_layers_are_styled_and_say_synthetic(session, make_raster, tmp_path):
    given = {"INPUT": make_raster(), "OUTPUT": tmp_path / "nir.tif", "INDEX": ["NDVI"]}
    done = session("translate", **given, FAMILIARITY=True)
    layers = {layer["name"].partition(" ")[0]: layer for layer in done["layers"]}
    kinds = {name: layer["renderer"] for name, layer in layers.items()}
    ramp = "singlebandpseudocolor"
    assert kinds == {"nir": "singlebandgray", "NDVI": ramp, "dissimilarity": ramp}
    for layer in layers.values():
        assert "(synthetic, rgb2nir)" in layer["name"]
        assert layer["suffix"] == " (synthetic)"
        assert layer["title"] == layer["name"]
        assert "CROSSBAND_WEIGHTS_SHA256" in layer["abstract"]
        assert layer["history"] == ["Made by Crossband 0.1.0"]


def test_colours_are_stretched(session, make_raster, tmp_path):
    given = {"INPUT": make_raster(), "MODEL": "super-resolution-x2"}
    (layer,) = session("translate", **given, OUTPUT=tmp_path / "fine.tif")["layers"]
    assert layer["renderer"] == "multibandcolor"
    assert layer["name"] == "red, green, blue (synthetic, super-resolution-x2)"


@pytest.mark.parametrize("algorithm", ["translate", "series", "evaluate"])
def test_a_cancelled_run_leaves_nothing(session, make_raster, pairs, tmp_path, algorithm):
    if algorithm == "evaluate":
        given = {"MANIFEST": pairs(8)}
    else:
        scenes = [make_raster(f"s_2024050{day}.tif") for day in (1, 2, 3)]
        given = {"INPUT": scenes, "DATE_PATTERN": "%Y%m%d"}
        given = given if algorithm == "series" else {"INPUT": scenes[0]}
    before = set(tmp_path.iterdir())
    out = tmp_path / "out" / ("nir.tif" if algorithm == "translate" else "x")
    out.parent.mkdir()
    done = session(algorithm, "--cancel", **given, OUTPUT=out)
    assert done["error"] == "cancelled; nothing half-written was left"
    assert not list(out.parent.iterdir())
    left = {path for path in tmp_path.iterdir() if not path.name.endswith(".aux.xml")}
    assert left - before == {out.parent}


def test_the_button_installs_with_visible_progress_and_can_be_cancelled(home, tmp_path):
    words = [PYTHON, ROOT / "tests" / "qgis_install.py", wheel_of_a_stand_in(tmp_path)]
    said = json.loads(called(words, home).stdout.splitlines()[-1])
    assert said["state"].startswith(f"Crossband is at {said['own']}/bin/crossband.")
    assert said["log"].endswith("crossband 9.9")
    assert said["highest"] == 100
    said = json.loads(called([*words, "--cancel"], home).stdout.splitlines()[-1])
    assert said["state"] == "cancelled; nothing was installed"
    assert not said["exists"]
