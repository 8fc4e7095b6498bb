"""Write spectral indices as files beside a translated scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from crossband.core import indices
from crossband.core.sensors import REFLECTANCE
from crossband.errors import BandError, CrossbandError, OutputError, UnitError
from crossband.model import Model
from crossband.raster.encoding import Encoding
from crossband.raster.output import OutputFile
from crossband.raster.scene import Scene
from crossband.translate.provenance import tags_beside


def index_paths(output: Path, names: Mapping[str, str | Path] | Sequence[str]) -> dict[str, Path]:
    """Return index name -> path; by default `nir.tif` and NDVI give `nir_NDVI.tif`.

    Raises:
        BandError: an unknown index, whose name may be no part of a file name.
        OutputError: a path that is none.
    """
    if isinstance(names, Mapping):
        for name, path in names.items():
            if not isinstance(path, str | Path):
                raise OutputError(f"index {name}: its path is {path!r:.60}, which is no path")
        return {name: Path(path) for name, path in names.items()}
    if isinstance(names, str):
        raise BandError(f"indices={names!r}: a list of names, as [{names!r}]")
    for name in names:
        indices.required_bands(name)
    return {name: output.with_name(f"{output.stem}_{name}.tif") for name in names}


def check_indices(model: Model, scene: Scene, extra: Mapping[str, Path], unit: str) -> None:
    """Raise CrossbandError for indices that cannot be computed from this scene and model.

    Where the model makes pixels finer, there is no source beside them: the bands are those made.

    Args:
        model: that translates the scene.
        scene: the source.
        extra: from `index_paths`.
        unit: of the result.
    """
    units = dict.fromkeys(model.signature.target, unit)
    if model.network.scale == 1:
        units = dict.fromkeys(scene.bands, scene.unit) | units
    for name, path in extra.items():
        if model.network.scale != 1 and not units.keys() >= {*indices.required_bands(name)}:
            raise CrossbandError(
                f"index {name} needs {', '.join(indices.required_bands(name))}; {model.name} makes "
                f"pixels finer, so an index of its result has {', '.join(units)} only"
            )
        indices.check(name, units)
        if path.suffix.lower() not in (".tif", ".tiff"):
            raise OutputError(f"{path}: an index is float32 and is written as .tif")
        needed = indices.required_bands(name)
        found = {units[band] for band in needed}
        if len(found) > 1:
            stated = ", ".join(f"{band} is {units[band]}" for band in needed)
            raise UnitError(
                f"index {name} needs its bands in one unit, but {stated}: {_way_out(found)}"
            )
        if name not in indices.BOUNDED and found != {REFLECTANCE}:
            raise UnitError(
                f"index {name} has constants that mean reflectance; its bands are {found.pop()}: "
                f"choose one of {', '.join(sorted(indices.BOUNDED))}, or declare reflectance with "
                f"--sensor reflectance, --scale and --offset"
            )


def _way_out(units: set[str]) -> str:
    """Return what to do where the bands of an index have several units."""
    if "display" in units:
        return (
            "if the scene holds reflectance, say so with --sensor reflectance, --scale and "
            "--offset; otherwise leave out --guide, or --index"
        )
    return "leave out --index, and compute it from bands that were all made or all measured"


def index_outputs(result: OutputFile, paths: Mapping[str, Path]) -> list[OutputFile]:
    """Return the outputs of indices, float32 on the grid of the result."""
    plain = Encoding("float32", nodata=float("nan"))
    return [
        replace(
            result,
            path=path,
            bands=(name,),
            unit="1",
            encoding=plain,
            tags={**tags_beside(result.tags, (name,)), "CROSSBAND_INDEX": name},
        )
        for name, path in paths.items()
    ]
