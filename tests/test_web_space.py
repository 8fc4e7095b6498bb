"""The wrapper for a Hugging Face Space, with a stand-in for Gradio."""

from __future__ import annotations

import runpy
import sys
import tomllib
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import rasterio
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

APP = Path(__file__).parents[1] / "deploy/space/app.py"
pytestmark = pytest.mark.skipif(not APP.exists(), reason="deploy/ is not here")


class Refusal(Exception):
    """What Gradio shows to the visitor."""


@pytest.fixture
def space(monkeypatch):
    """Return the names that the Space defines."""
    gradio = MagicMock()
    gradio.Error = Refusal
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "")
    return runpy.run_path(str(APP))


def test_the_space_offers_models_that_need_no_guide(space):
    assert space["MODELS"][0] == "rgb2nir"
    assert "sentinel-2-sharpen" not in space["MODELS"]
    with pytest.raises(Refusal, match="choose a raster first"):
        space["run"](None, "rgb2nir", "", "")


def test_the_space_states_versions_that_work():
    """Hugging Face takes an older Python by default, and installs the Gradio of the card."""
    card = (APP.parent / "README.md").read_text(encoding="utf-8")
    said = dict(line.split(": ", 1) for line in card.split("---")[1].strip().splitlines())
    project = tomllib.loads((APP.parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    python = SpecifierSet(project["project"]["requires-python"])
    assert said["python_version"].strip('"') in python
    (gradio,) = (
        Requirement(line)
        for line in (APP.parent / "requirements.txt").read_text(encoding="utf-8").splitlines()
        if line.startswith("gradio")
    )
    assert said["sdk_version"] in gradio.specifier


@pytest.mark.slow
def test_the_space_translates_an_upload(space, make_raster, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    values = np.random.default_rng(0).integers(300, 3000, (3, 90, 70)).astype(np.uint16)
    make_raster("s.tif", values, names=("red", "green", "blue"), scale=1e-4)
    (before, after), made = space["run"](str(tmp_path / "s.tif"), "rgb2nir", "", "")
    with rasterio.open(made) as file:
        assert (file.count, file.shape) == (1, (90, 70))
    for path in (before, after):
        assert Path(path).read_bytes().startswith(b"\x89PNG")
    make_raster("unnamed.tif", values, names=(), unit=None)
    with pytest.raises(Refusal, match=r"--sensor|--bands"):
        space["run"](str(tmp_path / "unnamed.tif"), "rgb2nir", "", "")
