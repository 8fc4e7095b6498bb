"""The tutorials of the site: every cell of every notebook runs, and pictures come out."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs/tutorials").glob("*.md"))
TUTORIALS = [page for page in PAGES if page.stem != "index"]


def test_the_list_has_every_tutorial():
    index = (ROOT / "docs/tutorials/index.md").read_text(encoding="utf-8")
    assert [page.name for page in TUTORIALS if f"]({page.name})" not in index] == []


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs_from_its_first_cell_to_its_last(page, tmp_path, monkeypatch):
    reader = pytest.importorskip("myst_nb.core.read")
    nbclient = pytest.importorskip("nbclient")
    from myst_nb.core.config import NbParserConfig
    from myst_parser.config.main import MdParserConfig

    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    monkeypatch.setenv("PATH", path)  # of the command `crossband`
    text = page.read_text(encoding="utf-8")
    reading = reader.create_nb_reader(page.name, MdParserConfig(), NbParserConfig(), text)
    notebook = reading.read(text)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", [])]
    assert any("image/png" in one.get("data", {}) for one in outputs)
    assert "Traceback" not in str(outputs)
