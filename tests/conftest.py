"""Fixtures: generated rasters, tiny models, and the real images that lie beside the project."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
import yaml
from affine import Affine
from preloaded import Fresh, Server
from samples import NAMES, values

from crossband import Model
from crossband.core.python_words import naming_options
from crossband.core.signature import Signature, UnitRange
from crossband.networks.generators.identity import Identity
from crossband.networks.generators.local_unet import LocalUNet
from crossband.training import recipe

#: Started by QGIS' Python, which alone has what they import.
collect_ignore = ["qgis_install.py", "qgis_session.py"]

#: Seconds that a test of the slow tier may take, unless its own marker says otherwise.
SLOW_TIMEOUT = 1200
# A shell that starts the suite in the background has it ignore Ctrl-C; tests of Ctrl-C need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

UTM = Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the slow tier more time; that of the quick tier stands in pyproject.toml."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT))


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    """Tests run side by side; one thread each keeps them from fighting."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _words_of_the_command() -> Iterator[None]:
    """Messages name options of the command, as `main` has it; test_python_words.py has the rest."""
    with naming_options():
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real images; skip where it is absent (a user's machine)."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CROSSBAND_DATA", default))
    if not folder.is_dir():
        pytest.skip("the real images are not beside the repository (set CROSSBAND_DATA)")
    return folder


@pytest.fixture
def make_raster(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a raster: values [C, H, W], band names, tags of all kinds."""

    def make(
        name: str = "scene.tif",
        values: np.ndarray | None = None,
        *,
        names: tuple[str | None, ...] = ("red", "green", "blue"),
        unit: str | None = "reflectance",
        scale: float | None = None,
        offset: float | None = None,
        mask: np.ndarray | None = None,
        **profile: Any,
    ) -> Path:
        if values is None:
            values = random_values(len(names) or 3, 40, 50)
        path = tmp_path / name
        defaults = {
            "driver": {"png": "PNG", "jpg": "JPEG"}.get(path.suffix[1:], "GTiff"),
            "count": values.shape[0],
            "height": values.shape[1],
            "width": values.shape[2],
            "dtype": values.dtype,
        }
        if defaults["driver"] == "GTiff":
            defaults |= {"crs": "EPSG:32633", "transform": UTM}
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(path, "w", **(defaults | profile)) as out,
        ):
            out.write(values)
            if defaults["driver"] == "GTiff":
                for number, band in enumerate(names, start=1):
                    if band:
                        out.set_band_description(number, band)
                if unit:
                    out.units = [unit] * values.shape[0]
                if scale is not None:
                    out.scales = [scale] * values.shape[0]
                if offset is not None:
                    out.offsets = [offset] * values.shape[0]
            if mask is not None:
                out.write_mask(mask.astype(np.uint8) * 255)
        return path

    return make


@pytest.fixture
def pairs(tmp_path: Path, make_raster: Callable[..., Path]) -> Callable[..., Path]:
    """Write a manifest of some four-band files, which are source and target at once."""

    def make(count: int = 4, columns: dict[str, Any] | None = None, **raster: Any) -> Path:
        for i in range(count):
            given = {"names": NAMES, "scale": 1e-4, **raster}
            given.setdefault("values", values(i))
            make_raster(f"{i}.tif", **given)
        table = pd.DataFrame({"source": [f"{i}.tif" for i in range(count)]})
        table["target"] = table["source"]
        for name, column in (columns or {}).items():
            table[name] = column
        table.to_csv(tmp_path / "pairs.csv", index=False)
        return tmp_path / "pairs.csv"

    return make


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no error profiles, which take most of the time of a report; `test_page.py` has them."""
    monkeypatch.setattr("crossband.evaluation.report.plots.profile_figures", lambda *_, **__: [])


@pytest.fixture(scope="session")
def line_pairs(
    tmp_path_factory: pytest.TempPathFactory, make_pairs: Callable[[Path], Path]
) -> Path:
    """Return the manifest of `make_pairs`, for tests that only read it."""
    return make_pairs(tmp_path_factory.mktemp("line"))


def random_values(bands: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return reflectance-like float32 noise in 0.02..0.6."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0.02, 0.6, (bands, height, width)).astype(np.float32)


def rgb2nir_signature() -> Signature:
    """Return red, green, blue -> nir for reflectance and display."""
    ranges = UnitRange([(0.0, 0.5)] * 3, [(0.0, 0.8)])
    whole = UnitRange([(0.0, 1.0)] * 3, [(0.0, 1.0)])
    return Signature(["red", "green", "blue"], ["nir"], {"reflectance": ranges, "display": whole})


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that writes a baseline of rgb2nir with few steps: its name -> its file."""
    folder = tmp_path_factory.mktemp("quick")

    def write(name: str) -> Path:
        few = ["--method.max_steps=40", "--data.steps=40", "--data.batch=16", "--data.crop=16"]
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(recipe.load(f"rgb2nir/{name}", few)))
        return path

    return write


@pytest.fixture(scope="session")
def linear(quick: Callable[[str], Path]) -> Path:
    """Return the recipe of a straight line, with few steps."""
    return quick("linear")


@pytest.fixture(scope="session")
def make_pairs() -> Callable[[Path], Path]:
    """Return a function that writes four small scenes, NIR a line through red and green."""

    def make(folder: Path) -> Path:
        rng = np.random.default_rng(0)
        for i in range(4):
            blue, green, red = rng.uniform(0.02, 0.3, (3, 24, 30)).astype(np.float32)
            values = np.stack([blue, green, red, 0.05 + 0.6 * red + 0.4 * green])
            profile = {"height": 24, "width": 30, "count": 4, "dtype": "float32"}
            profile |= {"crs": "EPSG:32633", "transform": Affine(10, 0, 5e5, 0, -10, 5e6)}
            with rasterio.open(folder / f"{i}.tif", "w", **profile) as out:
                out.write(values)
                out.descriptions = ("blue", "green", "red", "nir")
        names = [f"{i}.tif" for i in range(4)]
        table = pd.DataFrame({"source": names, "target": names, "sensor": "reflectance"})
        table.to_csv(folder / "pairs.csv", index=False)
        return folder / "pairs.csv"

    return make


@pytest.fixture
def identity_model() -> Callable[..., Model]:
    """Return a function that makes a model which gives back its source."""

    def make(bands: tuple[str, ...] = ("red", "green", "blue"), scale: int = 1) -> Model:
        ranges = UnitRange([(0.0, 1.0)] * len(bands), [(0.0, 1.0)] * len(bands))
        signature = Signature(
            list(bands), list(bands), dict.fromkeys(("reflectance", "display"), ranges)
        )
        return Model(Identity(len(bands), scale), signature, name="identity", task="identity")

    return make


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a saved model folder: a small LocalUNet with random weights, so that output varies."""
    torch.manual_seed(0)
    network = LocalUNet(3, 1, width=16, depth=2, hidden=8, members=2)
    model = Model(network, rgb2nir_signature(), name="tiny", task="rgb2nir")
    return model.save(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def interpreters() -> Iterator[Server]:
    """Return what starts processes that need not import; see `preloaded.py`."""
    server = Server() if sys.platform == "linux" else Fresh()
    yield server
    server.close()


@pytest.fixture
def crossband_command(interpreters: Server) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs the real command in a process of its own.

    With `fresh`, or another PYTHONPATH, in an interpreter that has imported nothing.
    """

    def run(
        *arguments: Any, fresh: bool = False, env: dict[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        of = Fresh() if fresh or "PYTHONPATH" in (env or {}) else interpreters
        env = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
        return of.run("-m", "crossband", *arguments, env=env, **options)

    return run
