"""`series.run.series` takes options as values; tests call it with keyword arguments."""

from __future__ import annotations

from crossband.core.options import from_keywords, keywords
from crossband.series import run
from crossband.series.options import SeriesOptions
from crossband.translate.options import TranslateOptions


def series(model, inputs, folder, *, indices=("NDVI",), places=None, observer=None, **given):
    """`series.run.series` with the keywords of `Model.series`."""
    what = {k: given.pop(k) for k in list(given) if k in keywords(SeriesOptions)}
    return run.series(
        model,
        inputs,
        folder,
        TranslateOptions.of(**given),
        from_keywords(SeriesOptions, what),
        indices=indices,
        places=places,
        observer=observer,
    )
