"""Functions that take options as values, called with keyword arguments as tests write them."""

from __future__ import annotations

from crossband.core.options import from_keywords, keywords
from crossband.jobs import run as jobs
from crossband.series import run
from crossband.series.options import SeriesOptions
from crossband.translate.options import Keywords, TranslateOptions


def translate_many(model, inputs, folder, *, cluster=None, **given):
    """`jobs.run.translate_many` with the keywords of `Model.translate`."""
    own = {k: given.pop(k) for k in list(given) if k in Keywords.__annotations__}
    options = TranslateOptions.of(**own)
    return jobs.translate_many(model, inputs, folder, options, executor=cluster, **given)


def series(model, inputs, folder, *, indices=("NDVI",), places=None, watcher=None, **given):
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
        watcher=watcher,
    )
