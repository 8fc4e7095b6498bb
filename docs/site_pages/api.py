"""The reference of the Python interface: which modules are public, and the options as keywords."""

from __future__ import annotations

import dataclasses
from typing import Any

from crossband.core.options import keywords
from crossband.raster.options import ReadOptions
from crossband.series.options import SeriesKeywords, SeriesOptions
from crossband.translate import options as translate_options
from site_pages.markdown import cell, table

#: The keyword arguments of `Model.translate` and `Model.series`.
KEYWORDS = frozenset(SeriesKeywords.__annotations__)
#: Page -> its title, an introduction, and the modules whose public members it documents, or some
#: members of a module behind a colon.
PAGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "model": (
        "How do I translate from Python?",
        "`crossband.load` opens a model. `Model.translate` takes a path or a DataArray, and "
        "`Model.series` takes dated scenes. Their keyword arguments are listed under "
        "[options](options.md). `model(tensor)` takes physical values: reflectance 0 to 1, "
        "decibels, kelvin, or display 0 to 1. Stored numbers, such as reflectance times 10,000, "
        "give a wrong result and a warning.",
        ("crossband.api", "crossband.model.model", "crossband.core.signature"),
    ),
    "scenes": (
        "How do I read a scene in physical units?",
        "Shapes are [band, row, column]. Values are in the unit of the scene: reflectance 0 to 1, "
        "decibels, kelvin, or display 0 to 1. The mask is true where a pixel is valid.",
        (
            "crossband.raster.open",
            "crossband.raster.grid",
            "crossband.core.sensors",
            "crossband.core.indices",
        ),
    ),
    "many": (
        "How do I translate many scenes from Python?",
        "A fleet, a cluster, and dated scenes. The commands `translate` and `series` call these.",
        (
            "crossband.jobs.run",
            "crossband.jobs.summary",
            "crossband.jobs.dask.cluster",
            "crossband.series.run",
            "crossband.series.places",
        ),
    ),
    "evaluation": (
        "How do I compute errors from Python?",
        "Metrics are sums that add up over images; evaluation compares models with baselines.",
        (
            "crossband.evaluation.evaluate",
            "crossband.evaluation.calibrate",
            "crossband.metrics.score",
            "crossband.metrics.moments",
            "crossband.metrics.families.index",
            "crossband.metrics.distances",
            "crossband.metrics.extractors",
        ),
    ),
    "data": (
        "How do I prepare pairs from Python?",
        "The commands of `crossband data` call these.",
        (
            "crossband.data.manifest",
            "crossband.data.splits",
            "crossband.data.pack",
            "crossband.data.degrade.scene",
            "crossband.data.check.run",
            "crossband.data.layouts.base: Layout, LayoutResult, build_manifest",
        ),
    ),
    "exchange": (
        "How do I export, import and blend models from Python?",
        "The commands `export`, `push`, `import` and `blend` call these. [Exchange]"
        "(../../exchange.md) says what each file holds, and which networks can be exported.",
        (
            "crossband.model.exporting.onnx_file: export_onnx",
            "crossband.model.exporting.stac: export_stac",
            "crossband.model.exporting.deepness: export_deepness",
            "crossband.model.exporting.hub: push",
            "crossband.model.importing.checkpoint",
            "crossband.model.importing.onnx_graph: describe_onnx",
            "crossband.model.interpolate: interpolate, blend",
        ),
    ),
    "training": (
        "How do I train from Python?",
        "A recipe is data; `fit` does what `crossband fit` does.",
        ("crossband.training.fit", "crossband.training.recipe", "crossband.training.sweep"),
    ),
    "extending": (
        "Which classes do I extend?",
        "A new network, loss, method or metric is a subclass in one file: see "
        "[contributing](../project/contributing.md).",
        (
            "crossband.core.registry",
            "crossband.networks.base",
            "crossband.training.losses.base",
            "crossband.training.methods.base",
            "crossband.data.transforms.base",
            "crossband.data.degrade.base",
            "crossband.metrics.family",
        ),
    ),
    "errors": (
        "Which errors can be raised?",
        "Every error that a user can mend is one of these, with a message of one line.",
        ("crossband.errors",),
    ),
}


def pages() -> dict[str, str]:
    """Return name -> text of the pages of the Python interface."""
    made = {f"api/{name}": _page(*content) for name, content in PAGES.items()}
    made["api/options"] = _options()
    return made


def _page(title: str, intro: str, modules: tuple[str, ...]) -> str:
    text = f"# {title}\n\n{intro}\n\n"
    for module in modules:
        name, _, members = module.partition(":")
        shown = "crossband" if name == "crossband.api" else name
        directives = f".. automodule:: {name}\n   :members:{members}\n   :show-inheritance:\n"
        if name == "crossband.api":  # under the names that people type
            directives = (
                ".. autofunction:: crossband.load\n\n.. autoclass:: crossband.Model\n   :members:\n"
            )
        text += f"## `{shown}`\n\n```{{eval-rst}}\n{directives}```\n\n"
    return text


def _options() -> str:
    """Return a table for each class of options: its keywords, defaults, words and flags."""
    text = (
        "# Which keyword arguments do `translate` and `series` take?\n\n"
        "The same options as those of the command, as keyword arguments of `Model.translate` and "
        "`Model.series`.\n\n"
    )
    titles = {
        ReadOptions: "How a scene is read",
        translate_options.TileOptions: "How it is computed",
        translate_options.WriteOptions: "How a file is written",
        translate_options.GuideOptions: "By what it is corrected",
        translate_options.IntervalOptions: "How sure the result is",
        SeriesOptions: "For `series` only",
    }
    for options, title in titles.items():
        text += f"## {title}\n\n"
        text += table(["keyword", "type", "default", "option", "meaning"], _rows(options))
    return text


def _rows(options: type[Any]) -> list[list[str]]:
    fields = {field.name: field for field in dataclasses.fields(options)}
    rows = []
    for keyword, name in keywords(options).items():
        if keyword not in KEYWORDS:  # set by the package itself, as for a row of a manifest
            continue
        field = fields[name]
        flag = field.metadata.get("flag")
        kind = str(field.type).replace("|", "\\|")
        default = "" if field.default is dataclasses.MISSING else f"`{field.default!r}`"
        words = cell(field.metadata.get("help", "").replace("%%", "%"))  # as argparse shows it
        rows.append([f"`{keyword}`", f"`{kind}`", default, f"`{flag}`" if flag else "", words])
    return rows
