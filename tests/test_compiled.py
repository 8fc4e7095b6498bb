"""Loops are compiled, and kept on disk where that is possible."""

import numpy as np
import pytest

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
