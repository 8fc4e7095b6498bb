"""README.md: every command and line of Python in it runs, on scenes that are made here."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine

from crossband.cli import demo
from crossband.cli.main import main
from crossband.training import recipe

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line
    for language, block in BLOCKS
    if not language
    for line in block.splitlines()
    if line.startswith("crossband ")
]
#: A training of two steps: a whole one takes half an hour.
SHORT = {"fit": ["--fast-run"]}
SCENES, PAIRS = ("a.tif", "b.tif"), 6


def test_it_fits_on_a_page_and_its_numbers_of_recipes_are_true():
    assert len(TEXT.splitlines()) <= 130
    assert f"{len(recipe.available())} recipes" in TEXT
    links = re.findall(r"\]\((?!http)([^)#]+)", TEXT)
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_its_table_is_that_of_the_cards():
    """Each ratio of the table stands in a card, or in the table of `docs/models.md`."""
    cards = [p.read_text() for p in (ROOT / "src/crossband/weights").glob("*/README.md")]
    known = "".join(cards) + (ROOT / "docs/models.md").read_text(encoding="utf-8")
    ratios = re.findall(r"0\.\d\d \(0\.\d\d to [01]\.\d\d\)", TEXT)
    assert len(ratios) == 9
    assert [ratio for ratio in ratios if ratio not in known] == []


def write(path, values, size=10.0, **described):
    profile = {"driver": "GTiff", "dtype": values.dtype, "count": len(values), "crs": "EPSG:32633"}
    profile |= {"height": values.shape[1], "width": values.shape[2]}
    with rasterio.open(path, "w", transform=Affine(size, 0, 5e5, 0, -size, 5e6), **profile) as out:
        out.write(values)
        for name, value in described.items():
            setattr(out, name, value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with the files that README.md names, cut from the sample of the demo."""
    folder = tmp_path_factory.mktemp("readme")
    stored = demo.sample()
    colours = np.stack([stored[band] for band in ("red", "green", "blue")])
    picture = (colours / 3000 * 255).clip(0, 255).astype(np.uint8)
    (folder / "scenes").mkdir()
    write(folder / "aerial.tif", picture[:, :128, :128])
    for number, name in enumerate(SCENES):
        write(folder / "scenes" / name, picture[:, 64 * number :, :96][:, :96])
    coarse = stored["nir"][:128, :128].reshape(16, 8, 16, 8).mean((1, 3)) + 1000
    write(folder / "s2.tif", coarse.astype(np.uint16)[None], 80.0, descriptions=("nir",))
    names = []
    for number in range(PAIRS):
        part = np.s_[:, 100 * (number // 3) :, 100 * (number % 3) :]
        values = np.concatenate([colours, stored["nir"][None]])[part][:, :100, :100]
        names.append(f"pair{number}.tif")
        described = {"descriptions": ("red", "green", "blue", "nir"), "scales": (1e-4,) * 4}
        write(folder / names[-1], values, **described, units=("reflectance",) * 4)
    table = {"source": names, "target": names, "group": [f"place-{n}" for n in range(PAIRS)]}
    table |= {"source_bands": "red=1,green=2,blue=3", "target_bands": "nir=4"}
    pd.DataFrame(table).to_csv(folder / "pairs.csv", index=False)
    return folder


@pytest.mark.slow
def test_every_command_does_what_is_said(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("NO_COLOR", "1")
    for command in COMMANDS:
        words = shlex.split(command)[1:]
        if words[0] != "serve":  # it does not end; see below
            assert main([*words, *SHORT.get(words[0], [])]) == 0, (command, capsys.readouterr().err)
    printed = capsys.readouterr().out
    table = next(block for _, block in BLOCKS if block.startswith("reflectance"))
    for line in table.splitlines()[1:5]:
        name = line[:16].strip()
        here = re.search(rf"^{name} +(.+)$", printed, re.MULTILINE)
        assert here, name
        ours, theirs = (re.findall(r"\d+\.\d+", text) for text in (line, here[1]))
        # Another processor may compute in another precision.
        assert [float(n) for n in theirs] == pytest.approx([float(n) for n in ours], rel=0.02), name
    made = ["nir.tif", "nir_NDVI.tif", "guided.tif", "mine.tif", "report/index.html"]
    made += ["rgb2nir.onnx", *(f"out/{Path(name).stem}_nir.tif" for name in SCENES)]
    assert [name for name in made if not (folder / name).is_file()] == []


@pytest.mark.slow
def test_the_lines_of_python_run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    code = next(block for language, block in BLOCKS if language == "python")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


@pytest.mark.slow
def test_the_page_is_served(folder):
    pytest.importorskip("uvicorn")
    command = next(c for c in COMMANDS if c.split()[1] == "serve")
    words = [*shlex.split(command)[1:], "--port", "0", "--folder", str(folder / "served")]
    with subprocess.Popen(
        [sys.executable, "-m", "crossband", *words], cwd=folder, stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout is not None
            assert "http://127.0.0.1:" in running.stdout.readline()
        finally:
            running.kill()
