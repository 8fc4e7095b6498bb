"""Spectral indices as files of their own beside a translated scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from crossband import indices
from crossband.errors import CrossbandError, OutputError
from crossband.raster.encoding import Encoding
from crossband.raster.scene import Scene
from crossband.raster.write import Output
from crossband.sensors import REFLECTANCE

if TYPE_CHECKING:
    from crossband.model import Model


def index_paths(output: Path, names: Mapping[str, str | Path] | Sequence[str]) -> dict[str, Path]:
    """Return index name -> file: `nir.tif` and NDVI give `nir_NDVI.tif`."""
    if isinstance(names, Mapping):
        return {name: Path(path) for name, path in names.items()}
    return {name: output.with_name(f"{output.stem}_{name}.tif") for name in names}


def check_indices(model: Model, scene: Scene, extra: Mapping[str, Path]) -> None:
    """Raise CrossbandError for indices that this model cannot give of this scene."""
    if extra and model.network.scale != 1:
        raise CrossbandError("indices need source and target on one grid; this model rescales")
    for name, path in extra.items():
        indices.check(name, {*scene.bands, *model.signature.target})
        if path.suffix.lower() not in (".tif", ".tiff"):
            raise OutputError(f"{path}: an index is float32 and is written as .tif")
    unit = model.signature.target_unit(scene.unit)
    plain = {n for n in extra if n not in indices.BOUNDED}
    if plain and unit != REFLECTANCE:
        raise CrossbandError(
            f"index {', '.join(sorted(plain))} has constants that mean reflectance; "
            f"the source is {unit}"
        )


def index_outputs(result: Output, paths: Mapping[str, Path]) -> list[Output]:
    """Return the outputs of indices, float32 on the grid of the result."""
    plain = Encoding("float32", nodata=float("nan"))
    return [
        replace(
            result,
            path=path,
            bands=(name,),
            unit="1",
            encoding=plain,
            tags={**result.tags, "CROSSBAND_INDEX": name},
        )
        for name, path in paths.items()
    ]
