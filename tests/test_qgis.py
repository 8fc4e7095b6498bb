"""The plugin for QGIS without QGIS: its imports, its child processes, its package."""

from __future__ import annotations

import ast
import configparser
import importlib
import os
import signal
import stat
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import qgis_stubs

import crossband
from crossband.core import indices
from crossband.core.sensors import SENSORS
from crossband.model.folder import bundled

FOLDER = Path(__file__).parents[1] / "qgis"
PLUGIN = FOLDER / "crossband_provider"
NAMES = sorted(path.stem for path in PLUGIN.glob("*.py"))


@pytest.fixture(params=[3, 4])
def plugin(request, monkeypatch):
    """Return a function that imports a module of the plugin, with the enums of QGIS 3 and of 4."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name, module in qgis_stubs.stubs(request.param).items():
        monkeypatch.setitem(sys.modules, name, module)
    qgis_stubs.forget()
    yield lambda name: importlib.import_module(f"crossband_provider.{name}")
    qgis_stubs.forget()


@pytest.fixture
def pure(monkeypatch):
    """Return a function that imports a module that needs no QGIS at all."""
    monkeypatch.syspath_prepend(str(FOLDER))
    qgis_stubs.forget()
    yield lambda name: importlib.import_module(f"crossband_provider.{name}")
    qgis_stubs.forget()


def test_every_module_is_imported_with_the_enums_of_both_versions(plugin):
    for name in NAMES:
        plugin(name)
    assert plugin("enums").ADVANCED == 1
    assert plugin("dialog").QAction.__name__ == "QAction"


def test_an_enum_that_no_version_has_is_named(plugin):
    enums = plugin("enums")
    with pytest.raises(ImportError, match=r"none of: Qgis\.No\.Such, QgsNo\.Such"):
        enums.member(sys.modules["qgis.core"], "Qgis.No.Such", "QgsNo.Such")


def test_the_package_and_the_plugin_import_nothing_of_each_other():
    for path in Path(crossband.__file__).parent.rglob("*.py"):
        assert "crossband_provider" not in path.read_text(encoding="utf-8"), path
    for path in PLUGIN.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                roots = {a.name.partition(".")[0] for a in node.names}
                roots |= {str(getattr(node, "module", "")).partition(".")[0]}
                assert not roots & {"crossband", "numpy", "torch", "rasterio"}, path
        assert len(path.read_text(encoding="utf-8").splitlines()) < 300


def test_the_dialogs_offer_what_this_version_has(pure):
    catalogue = pure("catalogue")
    assert (catalogue.FROM_FILE, *SENSORS) == catalogue.SENSORS
    assert tuple(sorted(bundled())) == catalogue.MODELS
    for index in catalogue.INDICES:
        assert indices.required_bands(index)
    parser = configparser.ConfigParser()  # as QGIS reads it
    parser.read(PLUGIN / "metadata.txt", encoding="utf-8")
    assert parser["general"]["version"] == crossband.__version__
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))
    address = project["project"]["urls"]["Documentation"]
    for key in ("homepage", "repository", "tracker"):
        assert parser["general"][key].startswith(address)
    for key in (
        "name",
        "qgisMinimumVersion",
        "description",
        "about",
        "author",
        "email",
        "changelog",
    ):
        assert parser["general"][key]


def test_what_is_of_qgis_is_not_inherited(pure, monkeypatch):
    for name in ("PYTHONPATH", "PYTHONHOME", "PROJ_LIB", "PROJ_DATA", "GDAL_DATA"):
        monkeypatch.setenv(name, "/of/qgis")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    kept = pure("child").clean_environment()
    assert "/of/qgis" not in kept.values()
    assert kept["HTTPS_PROXY"] == "http://proxy"


def program(code):
    return [sys.executable, "-c", code]


def test_a_child_tells_its_events_and_what_it_complains_of(pure):
    child_module = pure("child")
    code = 'import sys; print(\'{"event": "start"}\\nno event\\n[1]\'); sys.exit("why")'
    child = child_module.Child(program(code), lambda: False)
    assert list(child_module.events(child)) == [{"event": "start"}]
    assert child.exit_code == 1
    assert list(child.errors) == ["why"]
    with pytest.raises(child_module.Failed, match=r"/no/such cannot be started: No such file"):
        child_module.Child(["/no/such"], lambda: False)


@pytest.mark.parametrize("stubborn", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_cancelled_child_has_ended(pure, stubborn):
    """At once by itself; one that ignores Ctrl-C is killed after less than two seconds."""
    child_module = pure("child")
    assert child_module.GRACE_SECONDS + 2 * child_module.POLL_SECONDS < 2
    ignore = "signal.signal(signal.SIGINT, signal.SIG_IGN); " if stubborn else ""
    code = f"import os, signal, threading; {ignore}print(os.getpid(), flush=True)"
    code += "; threading.Event().wait()"
    pids = []
    child = child_module.Child(program(code), lambda: bool(pids))
    with pytest.raises(child_module.Cancelled):
        pids.extend(map(int, child.lines()))
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
    assert child.exit_code in ((-signal.SIGKILL,) if stubborn else (1, -signal.SIGINT))


def test_what_a_cancelled_child_has_started_has_ended_too(pure, tmp_path):
    """The last process that holds the pipe open for writing has ended when the pipe ends."""
    child_module, pipe = pure("child"), tmp_path / "held"
    os.mkfifo(pipe)
    inner = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    inner += f"held = open({str(pipe)!r}, 'w'); print('started', flush=True); signal.pause()"
    outer = "import signal, subprocess, sys; "
    outer += f"inner = subprocess.Popen([sys.executable, '-c', {inner!r}]); signal.pause()"
    reader, said = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), []
    os.set_blocking(reader, True)
    child = child_module.Child(program(outer), lambda: bool(said))
    with pytest.raises(child_module.Cancelled):
        said.extend(child.lines())
    assert said == ["started"]
    with open(reader, "rb") as held:
        assert held.read() == b""


def test_what_a_killed_run_leaves_is_removed_and_nothing_else(pure, tmp_path):
    leftovers = pure("child").Leftovers
    (tmp_path / "old" / "scenes" / ".before.tif.crossband").mkdir(parents=True)
    (tmp_path / ".begun.tif.crossband").mkdir()
    outputs = [tmp_path / name for name in ("nir.tif", "begun.tif", "old", "new")]
    left = leftovers([str(path) for path in outputs])
    inside = ("old/.NDVI.tif.crossband", "old/scenes/.a.tif.crossband", "old/scenes/whole")
    for name in (".nir.tif.crossband", ".old.crossband", "new", ".other.tif.crossband", *inside):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.raw").touch()
    left.remove()
    kept = sorted(path.name for path in (tmp_path / "old" / "scenes").iterdir())
    assert kept == [".before.tif.crossband", "whole"]
    assert not (tmp_path / "old" / ".NDVI.tif.crossband").exists()
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == [".begun.tif.crossband", ".other.tif.crossband", "old"]


def test_where_the_command_is_found(pure, tmp_path, monkeypatch):
    environment = pure("environment")

    def put(folder):
        path = folder / "bin" / "crossband"
        path.parent.mkdir(parents=True)
        path.touch()
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    monkeypatch.setenv("PATH", str(tmp_path / "path" / "bin"))
    own = str(tmp_path / "own")
    failed = pure("child").Failed
    with pytest.raises(failed, match="not installed; install it with one button: Plugins"):
        environment.find_command("", own)
    on_path = put(tmp_path / "path")
    assert environment.find_command("", own) == on_path
    in_own = put(tmp_path / "own")
    assert environment.find_command("", own) == in_own
    chosen = put(tmp_path / "chosen")
    assert environment.find_command(str(tmp_path / "chosen"), own) == chosen
    assert environment.find_command(str(tmp_path / "chosen" / "bin"), own) == chosen
    with pytest.raises(failed, match="no crossband is in this folder"):
        environment.find_command(str(tmp_path), own)


@pytest.mark.slow
def test_a_python_that_does_not_fit_is_not_taken(pure, monkeypatch):
    environment = pure("environment")
    assert environment.find_python()
    monkeypatch.setattr(environment, "PYTHONS", ((9, 0), (9, 1)))
    with pytest.raises(pure("child").Failed, match=r"no Python from 9.0 to below 9.1"):
        environment.find_python()


@pytest.mark.slow
def test_the_steps_of_the_button_make_an_environment(pure, tmp_path):
    environment, child_module = pure("environment"), pure("child")
    folder, said = tmp_path / "own", []
    wheel = str(qgis_stubs.wheel_of_a_stand_in(tmp_path))
    for _, command in environment.installation(environment.find_python(), str(folder), wheel):
        child = child_module.Child(command, lambda: False)
        said += child.lines()
        assert child.exit_code == 0, list(child.errors)
    assert said[-1] == "crossband 9.9"
    assert environment.find_command("", str(folder)) == str(folder / "bin" / "crossband")


def test_the_zip_has_what_the_plugin_repository_wants(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    package = importlib.import_module("package")
    with pytest.raises(SystemExit, match="no wheel of Crossband"):
        package.build(tmp_path)
    (tmp_path / f"crossband-{crossband.__version__}-py3-none-any.whl").write_bytes(b"wheel")
    path = package.build(tmp_path)
    first = path.read_bytes()
    assert package.build(tmp_path).read_bytes() == first
    with zipfile.ZipFile(path) as made:
        names = set(made.namelist())
    assert {name.partition("/")[0] for name in names} == {"crossband_provider"}
    needed = {"metadata.txt", "LICENSE", "icon.svg", "__init__.py", "wheel/constraints.txt"}
    assert {f"crossband_provider/{name}" for name in needed} <= names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


class Feedback:
    """Collects what an algorithm says."""

    def __init__(self):
        self.said, self.progress = [], []

    def __getattr__(self, name):
        return (self.progress if name == "setProgress" else self.said).append


def test_events_become_progress_and_messages(plugin, monkeypatch):
    run = plugin("run")
    feedback = Feedback()
    listener = run.Listener(feedback, 2)
    for event in (
        {"event": "start", "protocol": 1, "crossband": crossband.__version__},
        *({"event": name} for name in ("finished", "scenes", "of_a_later_version")),
        {"event": "progress", "name": "a", "done": 1, "total": 2, "unit": "pixels"},
        {
            "event": "scene",
            "output": "a",
            "status": "failed",
            "reason": "x",
            "finished": 1,
            "total": 2,
        },
        {"event": "of a later version"},
        {"event": "end", "exit_code": 0},
    ):
        listener.hear(event)
    assert feedback.progress == [25.0, 50.0]
    assert feedback.said == ["a: 1 of 2 pixels", "[1/2] a: failed: x"]
    listener.hear({"event": "start", "protocol": 1, "crossband": "9.9"})
    assert feedback.said[-1] == f"Crossband is 9.9, and this plugin is for {crossband.__version__}"
    with pytest.raises(plugin("child").Failed, match=r"Crossband 9.9 does not fit this plugin"):
        listener.hear({"event": "start", "protocol": 2, "crossband": "9.9"})
