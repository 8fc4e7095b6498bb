"""What holds for the package's files and for the tests themselves."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import grimp


def test_no_file_imports_another_test_file():
    """What several test files share lies in a file without `test_` before its name."""
    found = []
    for path in Path(__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            found += [(path.name, n) for n in names if n.rpartition(".")[2].startswith("test_")]
    assert not found


def test_no_circle_between_files():
    """The contract in pyproject.toml looks at siblings; a file and its package are none."""
    graph = grimp.build_graph("crossband", cache_dir=None)
    TopologicalSorter(
        {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    ).prepare()
