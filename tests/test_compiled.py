"""Loops are compiled, and kept on disk where that is possible."""

import ast
from pathlib import Path

import numpy as np
import pytest

import crossband
from crossband.core import compiled as module
from crossband.core.compiled import compiled


def total(values):
    found = np.float32(0)
    for value in values:
        found += value
    return found


@pytest.mark.parametrize("any_order", [False, True])
def test_a_loop_gives_what_python_gives(any_order):
    values = np.random.default_rng(0).normal(size=1001).astype(np.float32)
    assert compiled(total, any_order=any_order)(values) == pytest.approx(total(values), rel=1e-5)
    values[500] = np.nan
    assert np.isnan(compiled(total, any_order=any_order)(values))


def test_the_order_of_a_sum_is_kept_unless_it_may_change():
    values = np.random.default_rng(1).normal(size=1001).astype(np.float32)
    assert compiled(total)(values) == total(values)


def test_without_a_writable_folder_the_loop_is_compiled_for_the_process(monkeypatch):
    made = []

    def compiler(cache=False, **options):
        made.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(module, "compiler", compiler)
    assert compiled(total) is total
    assert made == [True, False]


def of_inlined(tree):
    """Return the names of the functions of a module that are parts of its loops."""
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(d, ast.Name) and d.id == "inlined" for d in node.decorator_list)
    }


def test_what_loops_call_stands_in_their_file():
    """Numba keeps a loop until its own file changes, whatever becomes of other ones."""
    folder = Path(crossband.__file__).parent
    trees = {path: ast.parse(path.read_text()) for path in folder.rglob("*.py")}
    everywhere = {name for tree in trees.values() for name in of_inlined(tree)}
    assert len(everywhere) > 10
    for path, tree in trees.items():
        taken = {
            name.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for name in node.names
        }
        assert not taken & everywhere, path
