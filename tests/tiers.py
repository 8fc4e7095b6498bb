"""The tiers of the suite: `make test` leaves out what is marked slow, `make test-all` does not."""

from __future__ import annotations

import pytest


def slow(*values):
    """Return one set of values of a parametrised test that is of the slow tier."""
    return pytest.param(*values, marks=pytest.mark.slow)
