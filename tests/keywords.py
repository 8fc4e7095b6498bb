"""`series.run.series` takes options as values; tests call it with keyword arguments."""

from __future__ import annotations

from crossband.series import run
from crossband.series.options import split_keywords


def series(model, inputs, folder, *, indices=("NDVI",), places=None, observer=None, **given):
    """`series.run.series` with the keywords of `Model.series`."""
    return run.series(
        model,
        inputs,
        folder,
        *split_keywords(**given),
        indices=indices,
        places=places,
        observer=observer,
    )
