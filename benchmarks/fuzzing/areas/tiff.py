"""TIFF: any layout of it, and changed bytes."""

from __future__ import annotations

from pathlib import Path

from fuzzing.case import RIGHT, Case, Draw, mutate_bytes
from fuzzing.scenes import LINE, compare, draw_layout, draw_scene, read_by_gdal, translate


def case(draw: Draw) -> Case:
    """Draw a case."""
    scene = draw_scene(draw)
    data = scene.file(draw, draw_layout(draw, scene.stored.dtype.name))
    if draw.chance(0.4):
        files = {**LINE.files(), "in.tif": data}
        return Case(translate(), files, RIGHT, lambda there: compare(there / "out.tif", scene))
    files = {**LINE.files(), "in.tif": mutate_bytes(draw, data)}
    return Case(translate(), files, check=by_gdal)


def by_gdal(folder: Path, name: str = "in.tif") -> str | None:
    """Hold a result against what GDAL reads from the changed file."""
    scene = read_by_gdal(folder / name)
    if scene is None:
        return "answered, though red, green and blue of one unit are not told"
    return compare(folder / "out.tif", scene)
