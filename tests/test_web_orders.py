"""An order of a job: what it does not know is refused, and not left out."""

from __future__ import annotations

import pytest

from crossband.errors import InputError
from crossband.web.jobs import LONGEST, MOST_INDICES, Order

GIVEN = {"scene": "root:a.tif", "model": "rgb2nir"}


def test_what_the_page_sends_is_taken():
    order = Order.of(GIVEN | {"scale": "0.0002", "indices": ["NDVI"], "familiarity": True})
    assert (order.choice.scale, order.indices, order.familiarity) == ("0.0002", ("NDVI",), True)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"scale": 0.0002}, "scale: a text"),
        ({"interval": 0.9}, "interval: a text"),
        ({"bands": {"red": 1}}, "bands: a text"),
        ({"sensor": ["x"]}, "sensor: a text"),
        ({"dtype": None}, "dtype: a text"),
        ({"bands": "x" * (LONGEST + 1)}, "bands: a text of at most 4,000"),
        ({"familiarity": 1}, "familiarity: true or false"),
        ({"indices": ["NDVI"] * (MOST_INDICES + 1)}, "more than 20 indices"),
        ({"indices": "NDVI"}, "no list of names"),
        ({"quality": "high"}, "'quality': no option of a job"),
    ],
)
def test_what_it_does_not_know_is_refused(more, words):
    with pytest.raises(InputError, match=words) as error:
        Order.of(GIVEN | more)
    assert "\n" not in str(error.value)
