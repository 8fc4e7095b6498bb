"""Closed forms against spyndex, on NumPy and on torch with gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import spyndex
import torch

from crossband.core import indices
from crossband.errors import BandError
from crossband.translate.index_files import index_paths

LETTERS = {"nir": "N", "red": "R", "green": "G", "blue": "B"}


def bands(module=np, shape=(5, 6)):
    rng = np.random.default_rng(0)
    values = {b: rng.uniform(0.02, 0.6, shape) for b in LETTERS}
    return {b: module.asarray(v) for b, v in values.items()}


def with_constants(name, values):
    constants = {"g": 2.5, "C1": 6.0, "C2": 7.5, "L": 0.5 if name == "SAVI" else 1.0}
    wanted = spyndex.indices[name].bands
    return {k: v for k, v in {**constants, **values}.items() if k in wanted}


@pytest.mark.parametrize("name", list(indices.CLOSED_FORMS))
@pytest.mark.parametrize("module", [np, torch])
def test_closed_forms_equal_spyndex(name, module):
    values = bands(module)
    params = with_constants(name, {LETTERS[b]: v for b, v in values.items()})
    expected = spyndex.computeIndex(name, params=params)
    assert np.allclose(indices.compute(name, values), expected, rtol=1e-12)


@pytest.mark.parametrize("name", list(indices.CLOSED_FORMS))
def test_gradients(name):
    values = bands(torch, (2, 3))
    nir = values.pop("nir").requires_grad_()
    assert torch.autograd.gradcheck(lambda n: indices.compute(name, {**values, "nir": n}), nir)


def test_hand_values():
    one = {"nir": 0.35, "red": 0.06, "blue": 0.05, "green": 0.08}
    assert indices.compute("EVI", one) == pytest.approx(2.5 * 0.29 / (0.35 + 0.36 - 0.375 + 1))
    assert indices.compute("EVI", one) == pytest.approx(0.543, abs=1e-3)
    assert indices.compute("NDVI", one) == pytest.approx(0.29 / 0.41)
    assert indices.compute("NDWI", one) == pytest.approx(-0.27 / 0.43)


@pytest.mark.parametrize("name", ["OSAVI", "ARVI", "VARI", "GEMI", "DVI"])
def test_other_names_go_through_spyndex(name):
    values = bands()
    params = {LETTERS[b]: v for b, v in values.items()}
    for letter in spyndex.indices[name].bands:
        params.setdefault(
            letter, spyndex.constants[letter].default if letter in spyndex.constants else None
        )
    wanted = {k: v for k, v in params.items() if k in spyndex.indices[name].bands}
    assert np.allclose(indices.compute(name, values), spyndex.computeIndex(name, params=wanted))


def test_every_spyndex_name_is_computed_or_refused_in_one_line():
    values = bands()
    for name in spyndex.indices:
        try:
            result = indices.compute(name, values)
        except BandError as error:
            refused = str(error)
            assert "\n" not in refused
        else:
            assert np.shape(result) in ((5, 6), ())


def test_what_is_missing_is_named():
    with pytest.raises(BandError, match="swir22"):
        indices.check("NBR", {"nir", "red"})
    with pytest.raises(BandError, match="did you mean 'NDVI'"):
        indices.check("NVDI", {"nir", "red"})


@pytest.mark.parametrize("name", ["../../NDVI", "/tmp/x", "..", "a\0b", ""])
def test_a_name_that_is_no_part_of_a_file_name_is_unknown(name):
    with pytest.raises(BandError, match="unknown index"):
        index_paths(Path("out/nir.tif"), [name])
