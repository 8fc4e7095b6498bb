"""Messages to a caller in Python name keywords, and those of the command its options."""

from __future__ import annotations

import pytest

from crossband.core import python_words as words
from crossband.errors import CrossbandError
from crossband.translate.options import CLASSES


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
