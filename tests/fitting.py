"""The small recipe of the tests, its pairs, and what is compared afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from crossband import load

RECIPE = Path(__file__).parent / "recipe.yaml"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, make_pairs):
    return make_pairs(tmp_path_factory.mktemp("pairs"))


def options(pairs, *more):
    return ["--data.manifest", str(pairs), *more]


def same_weights(one, other):
    a, b = (load(folder).network.state_dict() for folder in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
