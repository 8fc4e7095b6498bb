"""What `benchmarks/radar_gans.py` calls missing, invented and real, on pictures that tell."""

import numpy as np
import pytest
from radar_gans import PATCH, features, invented, missing

from crossband.metrics.distances import kid_full

MASK = np.ones((64, 64), bool)


def squares(*corners):
    """Return a dark picture of three bands with bright squares of 10 pixels."""
    image = np.full((3, 64, 64), 0.1, np.float32)
    for row, column in corners:
        image[:, row : row + 10, column : column + 10] = 0.4
    return image


def test_one_of_two_squares_is_missing_and_nothing_is_invented():
    true, made = squares((5, 5), (40, 40)), squares((5, 5))
    found = invented(made, true, MASK)
    assert found["omission"] == pytest.approx(0.5)
    assert found["hallucination"] == 0.0
    assert found["edges"] == pytest.approx(0.5)


def test_a_square_elsewhere_is_missing_and_invented():
    found = invented(squares((40, 40)), squares((5, 5)), MASK)
    assert found["omission"] == found["hallucination"] == 1.0


def test_an_edge_one_pixel_off_is_found_and_two_pixels_off_is_not():
    line = np.zeros((9, 9), bool)
    line[4] = True
    assert missing(line, np.roll(line, 1, 0)) == 0.0
    assert missing(line, np.roll(line, 2, 0)) == 1.0
    assert np.isnan(missing(np.zeros_like(line), line))


def test_kid_of_textures_is_larger_where_they_are_smooth_and_masked_patches_do_not_count():
    rng = np.random.default_rng(0)
    true, alike = (rng.uniform(0, 0.5, (3, 256, 256)).astype(np.float32) for _ in range(2))
    mask = np.ones((256, 256), bool)
    real = features(true, mask)
    assert real.shape == ((256 // PATCH) ** 2, 3 + 4 * 3 + 3)
    scale = real.std(axis=0)
    distances = [
        kid_full(real / scale, features(made, mask) / scale, paired=True)
        for made in (alike, 0.25 + 0.1 * (alike - 0.25))
    ]
    assert abs(distances[0]) < 0.05 * distances[1]
    mask[0, 0] = False
    assert len(features(true, mask)) == len(real) - 1
