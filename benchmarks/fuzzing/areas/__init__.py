"""Areas of cases: one file each, with a function `case` that draws one."""

from __future__ import annotations

from collections.abc import Callable

from fuzzing.areas import (
    environment,
    manifest,
    model,
    names,
    netcdf,
    options,
    png,
    products,
    recipe,
    safetensors,
    stac,
    tags,
    tiff,
    vrt,
)
from fuzzing.case import Case, Draw

#: Area -> what draws a case of it, and its share among the others.
AREAS: dict[str, tuple[Callable[[Draw], Case], int]] = {
    "tiff": (tiff.case, 8),
    "tags": (tags.case, 5),
    "vrt": (vrt.case, 5),
    "png": (png.case, 3),
    "netcdf": (netcdf.case, 1),
    "products": (products.case, 4),
    "stac": (stac.case, 5),
    "model": (model.case, 5),
    "safetensors": (safetensors.case, 3),
    "recipe": (recipe.case, 2),
    "manifest": (manifest.case, 4),
    "parquet": (manifest.parquet, 2),
    "names": (names.case, 4),
    "environment": (environment.case, 2),
    "options": (options.case, 5),
    "words": (options.words, 2),
}
#: The area of each case: case N is of area ORDER[N % len(ORDER)].
ORDER = [name for name, (_, share) in AREAS.items() for _ in range(share)]


def area_of(number: int) -> str:
    """Return the area of a case."""
    # A prime step mixes the areas, so that a short run has some of each.
    return ORDER[number * 17 % len(ORDER)]


def make_case(seed: int, number: int) -> Case:
    """Return a case: the same for a seed and a number, wherever it is drawn."""
    draw = Draw(f"{seed}/{number}")
    return AREAS[area_of(number)][0](draw)
