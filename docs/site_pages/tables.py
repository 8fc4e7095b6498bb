"""Pages that are a table of the code: recipes, sensors, metrics, the extras of the package."""

from __future__ import annotations

from crossband.core.sensors import SENSORS, VALID_RANGE
from crossband.metrics import OF_INDEX, Metric, known_metrics
from crossband.training import recipe
from crossband.training.recipe_table import RecipeInfo, recipe_info
from site_pages.markdown import cell, table


def pages() -> dict[str, str]:
    """Return name -> text of the pages."""
    return {"recipes": _recipes(), "sensors": _sensors(), "metrics": _metrics()}


def _recipes() -> str:
    rows = [recipe_info(name) for name in recipe.available()]
    text = (
        "# Which recipes can be trained?\n\n"
        "A recipe is a YAML file that names method, networks, losses and data of one system. "
        "`crossband fit NAME --data.manifest pairs.csv` trains it, `crossband fit NAME --help` "
        "lists its options. The first lines of each file say whose settings it uses. "
        "[Recipes compared](../systems.md) shows the results of a short training.\n\n"
        "*Pairs*: whether it needs source and target of the same places. *Parameters*: of the "
        "generator, which becomes the model; *in training*: of all networks.\n\n"
    )
    for task in sorted({row.task for row in rows}):
        of_task = [_recipe(row) for row in rows if row.task == task]
        head = ["recipe", "method", "pairs", "parameters", "in training", "follows"]
        text += f"## {task}\n\n" + table(head, of_task)
        for row in rows:
            if row.task == task and row.differs:
                text += f"How `{row.name}` differs from its source:\n\n"
                text += "".join(f"- {cell(sentence)}\n" for sentence in row.differs) + "\n"
                if row.reference:
                    text += f"Its reference run has {cell(row.reference)}.\n\n"
    return text


def _recipe(row: RecipeInfo) -> list[str]:
    more = f"{row.trained:,}" if row.trained != row.parameters else ""
    pairs = "yes" if row.paired else "no"
    numbers = [pairs, f"{row.parameters:,}", more]
    return [f"`{row.name}`", f"`{row.method}`", *numbers, cell(row.source)]


def _sensors() -> str:
    text = (
        "# Which sensors does Crossband know?\n\n"
        "`--sensor NAME` says how stored numbers become physical values: physical = stored x scale "
        "+ offset. What the file itself states is used first. Nothing is guessed from the pixels; "
        "[units](../concepts/units.md) say why. `crossband sensors` prints this "
        "list.\n\n"
    )
    rows = []
    for s in SENSORS.values():
        scales = ", ".join(f"{t or 'any type'}: {v:.6g}" for t, v in s.scale.items())
        nodata = "" if s.nodata is None else f"{s.nodata:g}"
        rows.append(
            [f"[`{s.name}`](#{s.name})", cell(s.title), s.unit, scales, f"{s.offset:g}", nodata]
        )
    head = ["sensor", "what it is", "unit", "scale by stored type", "offset", "nodata"]
    text += table(head, rows)
    units = [[f"`{unit}`", f"{low:g} to {high:g}"] for unit, (low, high) in VALID_RANGE.items()]
    text += "Values outside of the range of their unit are clipped when a file is written:\n\n"
    text += table(["unit", "range"], units)
    for s in SENSORS.values():
        text += f"## {s.name}\n\n{cell(s.title)}.\n\n"
        if s.ordered:
            text += "Files have exactly these bands in this order, named or not.\n\n"
        if s.power:
            text += "Values are linear power; they become 10 log10 of it, in decibels.\n\n"
        bands = [
            [f"`{b.name}`", f"`{b.label}`", f"{b.wavelength:g}" if b.wavelength else ""]
            for b in s.bands
        ]
        text += table(["band", "name in the product", "wavelength (nm)"], bands)
    return text


def _metrics() -> str:
    text = (
        "# Which metrics are computed?\n\n"
        "`crossband evaluate` writes these into [metrics.json](../metrics-schema.md), in physical "
        "units, over pixels at which source and target are valid. "
        "`crossband.metrics.known_metrics()` returns the same table.\n\n"
    )
    rows = [_metric(m) for m in known_metrics().values()]
    rows += [_metric(m, "INDEX_") for m in OF_INDEX]
    head = ["name", "title", "meaning", "unit", "better", "needs", "source"]
    return text + table(head, rows)


def _metric(metric: Metric, before: str = "") -> list[str]:
    words = [metric.heading, metric.about, metric.unit, metric.better, metric.needs, metric.source]
    return [f"`{before}{metric.name}`", *map(cell, words)]
