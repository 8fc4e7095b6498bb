"""The package as others get it: wheel and sdist, without the repository, with its types."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from crossband.core.version import __version__

ROOT = Path(__file__).parents[1]
#: Names of packages that conda calls otherwise.
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base"}

#: A program of somebody else. Each `ignore` is an error that a type checker must find.
CLIENT = """\
from pathlib import Path
from typing import assert_type

import crossband
from crossband.errors import CrossbandError
from crossband.raster.options import ReadOptions
from crossband.translate.options import TranslateOptions


def nir(scene: Path) -> list[str]:
    model = crossband.load("rgb2nir")
    assert_type(model, crossband.Model)
    assert_type(model.signature.target, list[str])
    model.translate(scene, scene.with_suffix(".nir.tif"), sensor="naip", interval=0.9)
    model.translate(scene, sensr="naip")  # type: ignore[call-arg]
    model.translate(scene, overwrite="yes")  # type: ignore[arg-type]
    return model.signature.target


options = TranslateOptions.of(sensor="naip")
assert_type(options.read, ReadOptions)
assert_type(ReadOptions(sensor="hls").sensor, str | None)
try:
    nir(3)  # type: ignore[arg-type]
except CrossbandError as error:
    print(error)
"""


def test_the_recipe_of_conda_and_the_citation_are_of_this_package():
    recipe = (ROOT / "deploy/conda/meta.yaml").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for needed in project["dependencies"]:
        name, bounds = re.fullmatch(r"([\w.-]+)(?:\[\w+\])?(.*)", needed).groups()
        assert f"    - {CONDA.get(name, name)} {bounds}\n" in recipe
    assert (
        f"python {','.join(sorted(project['requires-python'].split(','), reverse=True))}" in recipe
    )
    assert f'version = "{__version__}"' in recipe
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    for form in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        assert yaml.safe_load(form.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("conda-build") is None, reason="conda-build is not installed")
def test_the_recipe_of_conda_builds(tmp_path):
    command = ["conda-build", str(ROOT / "deploy/conda"), "--output-folder", str(tmp_path)]
    subprocess.run(command, check=True)


def build(source: Path, target: str, out: Path) -> Path:
    """Build one distribution with the project's own backend, without the network."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (made,) = out.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling")
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


def has_docker() -> bool:
    """Return whether a Docker daemon answers: the client alone builds nothing."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def contents(wheel: Path) -> dict[str, str]:
    """Return name -> hash of the files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("RECORD")]
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in names}


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return an environment in which the wheel is installed, and the repository is unknown."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    (packages,) = (folder / "env").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    return packages


@pytest.mark.slow
def test_the_sdist_builds_the_same_wheel(wheel, tmp_path):
    with tarfile.open(build(ROOT, "sdist", tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = (path for path in tmp_path.iterdir() if (path / "pyproject.toml").exists())
    again = build(source, "wheel", tmp_path / "again")
    assert contents(again) == contents(wheel)
    assert (source / "docs/index.md").exists()


@pytest.mark.slow
def test_the_dockerfile_copies_all_that_the_package_is_built_from(wheel, tmp_path):
    dockerfile = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
    for *names, _ in map(str.split, re.findall("^COPY (.+)$", dockerfile, re.MULTILINE)):
        for name in names:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, tmp_path / name)
    assert contents(build(tmp_path, "wheel", tmp_path / "dist")) == contents(wheel)


@pytest.mark.slow
def test_the_container_is_built_and_runs():
    if not has_docker():
        pytest.skip("no Docker daemon answers")
    tag = f"crossband-test:{os.getpid()}"
    command = ["docker", "build", "-f", "deploy/Dockerfile", "-t", tag, "."]
    subprocess.run(command, cwd=ROOT, check=True)
    try:
        run = ["docker", "run", "--rm", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"]
        command = [*run, "--entrypoint", "crossband", tag, "demo", "--out", "/tmp/demo"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert "per-pixel MLP" in done.stdout
    finally:
        subprocess.run(["docker", "rmi", "--force", tag], check=True, capture_output=True)


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_folder(installed, tmp_path):
    env = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    code = "import crossband; from crossband.cli.main import main; print(crossband.__file__); "
    code += "raise SystemExit(main(['demo']) or main(['models', '--recipes']))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(installed))
    assert "per-pixel MLP" in done.stdout
    assert (tmp_path / "out/demo/comparison.png").is_file()


@pytest.mark.slow
def test_a_program_of_others_is_checked_against_our_types(installed, tmp_path):
    assert (installed / "crossband/py.typed").is_file()
    (tmp_path / "client.py").write_text(CLIENT)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental"]
    command += ["--python-executable", str(installed.parents[2] / "bin/python"), "client.py"]
    env = {key: value for key, value in os.environ.items() if key != "MYPYPATH"}
    env.pop("PYTHONPATH", None)
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("Success"), done.stdout
