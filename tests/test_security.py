"""What SECURITY.md promises of the source: limits that it names, and nothing that runs data."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossband.core.limits import Limit
from crossband.data.table_file import MAX_MIB, MAX_ROWS
from crossband.model.weights import MAX_WEIGHTS
from crossband.raster.block_limit import MAX_BLOCK
from crossband.raster.gdal import GDAL_OPTIONS
from crossband.translate.tiling import MAX_TILES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
LIMITS = (MAX_BLOCK, MAX_TILES, MAX_WEIGHTS, MAX_ROWS, MAX_MIB)


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted((ROOT / "src").rglob("*.py")):
        yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def name_of(node: ast.AST) -> str:
    """Return a dotted name, as `os.environ.get`; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def variables(tree: ast.Module) -> Iterator[str]:
    """Yield the environment variables of ours that a module reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and re.search(r"Limit$|environ|getenv", name_of(node.func)):
            texts = [*node.args, *(word.value for word in node.keywords)]
        elif isinstance(node, ast.Subscript) and name_of(node.value).endswith("environ"):
            texts = [node.slice]
        elif isinstance(node, ast.Compare) and "environ" in ast.dump(node):
            texts = [node.left]
        else:
            continue
        for text in texts:
            if isinstance(text, ast.Constant) and str(text.value).startswith("CROSSBAND_"):
                yield str(text.value)


def test_the_page_names_every_variable_of_ours():
    found = {name for _, tree in trees() for name in variables(tree)}
    assert found == {limit.variable for limit in LIMITS}
    assert found == set(re.findall(r"^\| `(CROSSBAND_\w+)`", PAGE, re.MULTILINE))


def test_the_search_for_variables_finds_each_way_to_read_one():
    code = """
Limit("CROSSBAND_A", 1); Limit(variable="CROSSBAND_B", default=2)
os.environ["CROSSBAND_C"]; os.environ.get("CROSSBAND_D"); os.getenv("CROSSBAND_E", "")
"CROSSBAND_F" in os.environ; out.update_tags(CROSSBAND_G="x"); tags["CROSSBAND_H"]
"""
    assert sorted(name[-1] for name in variables(ast.parse(code))) == list("ABCDEF")


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.variable)
def test_the_page_has_the_defaults_of_limits(limit: Limit):
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{limit.variable}`"))
    assert row.endswith(f" {limit.default:,} |")


def test_the_page_names_the_options_of_gdal():
    ours = {"CPL_DEBUG", "CPL_VSIL_CURL_NON_CACHED"}  # they limit nothing
    assert [name for name in GDAL_OPTIONS if name not in ours and f"`{name}`" not in PAGE] == []


def test_links_of_the_page_lead_somewhere():
    for target, _, anchor in (t.partition("#") for t in re.findall(r"\]\(([^)]+)\)", PAGE)):
        heads = re.findall(r"^#+ (.+)", (ROOT / target).read_text(encoding="utf-8"), re.MULTILINE)
        assert not anchor or anchor in {head.lower().replace(" ", "-") for head in heads}
