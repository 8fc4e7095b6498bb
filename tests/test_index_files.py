"""An index that is written is the one that is judged and calibrated."""

from __future__ import annotations

import numpy as np
import pytest

from crossband.core.sensors import VALID_RANGE
from crossband.metrics.families.index import index_values, written_index

NAMES = ("blue", "green", "red", "nir")


def bands():
    """Return reflectances of land, water with negative noise, shadow of zeros, and clouds."""
    rng = np.random.default_rng(3)
    land, water = rng.uniform(0.02, 0.6, (4, 200)), rng.normal(0.0, 0.004, (4, 200))
    clouds = rng.uniform(0.9, 1.6, (4, 200))
    values = np.concatenate([land, water, np.zeros((4, 10)), clouds], axis=1)[:, None]
    return dict(zip(NAMES, values.astype(np.float32), strict=True))


@pytest.mark.parametrize("name", ["NDVI", "NDWI", "GNDVI", "EVI", "OSAVI"])
def test_it_is_what_is_judged_and_is_not_defined_of_noise(name):
    known = bands()
    values, defined = written_index(name, known, "reflectance")
    judged, _ = index_values(name, known, "reflectance")
    np.testing.assert_allclose(values[defined], judged[defined], rtol=1e-6)
    assert defined[0, :200].all()
    assert defined[0, -200:].all()
    if name in ("NDVI", "NDWI", "GNDVI"):
        assert (np.abs(values[defined]) <= 1).all()
        one, two = {"NDVI": ("nir", "red"), "NDWI": ("green", "nir")}.get(name, ("nir", "green"))
        negative = (known[one] < 0) | (known[two] < 0)
        assert negative[0, 200:400].mean() > 0.5
        assert not defined[negative].any()
        assert not defined[0, 400:410].any()  # 0 / 0


def test_values_beyond_the_range_of_a_unit_count_as_its_end():
    _, high = VALID_RANGE["reflectance"]
    known = {"nir": np.full((1, 1), high * 3, np.float32), "red": np.full((1, 1), 0.5, np.float32)}
    values, defined = written_index("NDVI", known, "reflectance")
    assert defined.all()
    assert values[0, 0] == pytest.approx((high - 0.5) / (high + 0.5))
