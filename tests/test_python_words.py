"""Messages to a caller in Python name keywords, and those of the command its options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crossband.core import python_words as words
from crossband.core.warned import warn
from crossband.errors import CrossbandError, CrossbandWarning
from crossband.translate.options import CLASSES, TranslateOptions


@pytest.fixture
def _python():
    token = words._in_command.set(False)
    yield
    words._in_command.reset(token)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("give --overwrite to replace it", "give overwrite=True to replace it"),
        ("--bands red=3,nir=B08 (names)", 'bands={"red": 3, "nir": "B08"} (names)'),
        ("--bands red=NUMBER or --sensor", 'bands={"red": NUMBER} or sensor'),
        ("--sensor reflectance with --scale and", 'sensor="reflectance" with scale and'),
        ("--dtype float33: did you", 'dtype="float33": did you'),
        ("--guide-bands nir=1, and", 'guide_bands={"nir": 1}, and'),
        ("--out-scale 0.0001 (physical", "out_scale=0.0001 (physical"),
        ("--date-pattern is none of these", "--date-pattern is none of these"),
    ],
)
def test_options_become_keywords(said, meant):
    assert words.python_words(said, *CLASSES) == meant


@pytest.mark.usefixtures("_python")
def test_a_model_names_keywords(identity_model, make_raster, tmp_path):
    model, source, out = identity_model(), make_raster("a.tif"), tmp_path / "out.tif"
    out.write_text("there")
    with pytest.raises(CrossbandError, match="give overwrite=True to replace it"):
        model.translate(source, out)
    with pytest.raises(CrossbandError, match="give --overwrite"), words.naming_options():
        model.translate(source, out)


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"interval": "0.9"}, "interval='0.9' is a str; it takes a number or None"),
        ({"guide_bands": "nir=4"}, "guide_bands='nir=4' is a str; it takes a dictionary or None"),
        ({"guide": np.zeros((2, 300))}, "is a ndarray; it takes a text or a path or None"),
        ({"tile": 2.5}, "tile=2.5 is a float; it takes an integer or None"),
        ({"indices": "NDVI"}, "indices='NDVI' is a str; it takes a dictionary or a list"),
        ({"overwrite": 1}, "overwrite=1 is a int; it takes True or False"),
    ],
)
def test_an_option_of_another_type_is_refused_in_a_line(given, refused):
    with pytest.raises(CrossbandError) as raised:
        TranslateOptions.of(**given)
    assert refused in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 200


def test_numbers_of_numpy_and_paths_are_taken():
    given = {"interval": np.float32(0.5), "tile": np.int64(64), "guide": Path("a")}
    assert TranslateOptions.of(**given).tile.tile == 64


@pytest.mark.usefixtures("_python")
def test_warnings_name_keywords_too():
    @words.public(*CLASSES)
    def public():
        warn("--guide a.tif: its nir is far; --guide-sensor naip, --scale, --overwrite")

    with pytest.warns(CrossbandWarning) as told:
        public()
    assert str(told[0].message) == (
        'guide="a.tif": its nir is far; guide_sensor="naip", scale, overwrite=True'
    )
    with pytest.warns(CrossbandWarning, match="--overwrite"):  # of no public function
        warn("--overwrite")
