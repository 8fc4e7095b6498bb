"""The tiers of the suite: `make test` leaves out what is marked slow, `make test-all` does not."""

from __future__ import annotations

import pytest


def slow(*values, **options):
    """Return one set of values of a parametrised test that is of the slow tier."""
    return pytest.param(*values, marks=pytest.mark.slow, **options)


def first_quick(cases, kind, ids=None):
    """Mark all cases slow but the first of each kind.

    Args:
        cases: tuples of values.
        kind: gives what a case is of.
        ids: the name of each case.
    """
    seen = set()
    for case, label in zip(cases, ids or [None] * len(cases), strict=True):
        yield slow(*case, id=label) if kind(case) in seen else pytest.param(*case, id=label)
        seen.add(kind(case))
