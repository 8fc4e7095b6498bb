"""Model + scene -> scene: tiles through the network, everything else about the scene kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from crossband import __version__, indices
from crossband.devices import resolve_device, resolve_precision
from crossband.errors import CrossbandError, InputError, OutputError
from crossband.raster.grid import Box, Grid, Window
from crossband.raster.plan import plan
from crossband.raster.scene import Scene
from crossband.raster.write import Encoding, SceneWriter, check_output
from crossband.sensors import REFLECTANCE, VALID_RANGE

if TYPE_CHECKING:
    import xarray as xr

    from crossband.model import Model

#: Side of the window that the network sees, halo included. Larger tiles waste less on the halo and
#: take more memory.
TILE = 1024

Progress = Callable[[int, int], None]


class Engine:
    """A model made ready to compute: on its device, in its memory layout, in its precision.

    Args:
        model: loaded model.
        device: auto, cpu, cuda or mps.
        precision: auto, fp32 or bf16.
        tile: side of the window that the network sees, in source pixels.
    """

    def __init__(
        self, model: Model, device: str = "auto", precision: str = "auto", tile: int = TILE
    ) -> None:
        if tile < 1:
            raise CrossbandError(f"--tile {tile}: must be at least 1")
        self.model, self.tile = model, tile
        self.device = resolve_device(device)
        self.precision = resolve_precision(self.device, precision)
        model.eval().to(self.device)
        network: Any = model.network
        network.to(memory_format=torch.channels_last)

    def __call__(self, values: NDArray[np.float32], mask: NDArray[np.bool_], unit: str) -> Any:
        """Translate one window: physical [C, H, W] and mask [H, W] -> physical [Ct, H*s, W*s]."""
        model, signature = self.model, self.model.signature
        with torch.inference_mode():
            batch = torch.from_numpy(values)[None].to(
                self.device, memory_format=torch.channels_last
            )
            valid = torch.from_numpy(mask)[None, None].to(self.device)
            # Masked pixels go in as each band's low value, everywhere and always the same, so
            # that tiles agree; training fills them in the same way.
            normal = signature.normalise(batch, [unit], "source").masked_fill(~valid, 0.0)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                out = model.network(normal)
            return signature.denormalise(out, [unit], "target")[0].float().cpu().numpy()


def tiles_of(model: Model, grid: Grid, tile: int) -> Iterator[Any]:
    """Return the tile plan of a scene for a model; the whole scene where its margin has no end."""
    network = model.network
    if network.margin is None:
        return plan(grid.height, grid.width, max(grid.height, grid.width), 0, network.stride)
    return plan(grid.height, grid.width, tile, network.margin, network.stride)


def translate_window(
    model: Model,
    window: Window,
    *,
    device: str = "auto",
    precision: str = "auto",
    tile: int = TILE,
) -> Window:
    """Translate pixels in memory; see `translate`."""
    _check(model, window.unit, window.bands)
    engine = Engine(model, device, precision, tile)
    scale = model.network.scale
    grid = window.grid.zoom(scale)
    out = np.zeros((len(model.signature.target), grid.height, grid.width), np.float32)

    def read(box: Box) -> Window:
        rows, cols = box.slices()
        return Window(
            window.values[:, rows, cols],
            window.mask[rows, cols],
            window.grid.crop(box),
            window.bands,
            window.unit,
        )

    mask = np.zeros((grid.height, grid.width), bool)
    for box, values, valid, _ in _run(engine, window.grid, read):
        rows, cols = box.slices()
        out[:, rows, cols], mask[rows, cols] = values, valid
    out[:, ~mask] = 0.0
    unit = model.signature.target_unit(window.unit)
    return Window(out, mask, grid, tuple(model.signature.target), unit)


def translate_to_array(
    model: Model, source: str | Path, *, indices: Sequence[str] = (), **options: Any
) -> xr.DataArray:
    """Translate a scene and return it as a DataArray; options as in `translate`.

    Returns:
        float32 (band, y, x) in physical units, NaN where masked, with `rio.crs`, `rio.transform`
        and `rio.nodata`; `attrs` say that it is synthetic.
    """
    import rioxarray  # noqa: F401
    import xarray as xr

    if indices:
        raise CrossbandError("indices are files: give an output, or compute them from the array")
    reading = {k: options.pop(k) for k in ("bands", "sensor", "scale", "offset") if k in options}
    computing = {k: options.pop(k) for k in ("device", "precision", "tile") if k in options}
    if options:
        raise CrossbandError(f"translate to an array takes no {', '.join(options)}")
    with Scene.open(source, **reading, needed=model.signature.source) as scene:
        _check(model, scene.unit, scene.bands)
        window = scene.read()
        tags = synthetic_tags(model, scene.path)
    if not window.mask.any():
        raise InputError(f"{source}: every pixel is masked (nodata, NaN or alpha)")
    result = translate_window(model, window, **computing)
    values = np.where(result.mask, result.values, np.float32("nan"))
    g = result.grid
    array = xr.DataArray(
        values,
        dims=("band", "y", "x"),
        coords={"band": list(result.bands)},
        name=result.bands[0] if len(result.bands) == 1 else model.name,
        attrs={"units": result.unit, "long_name": list(result.bands), **tags},
    )
    if not g.transform.is_identity and g.transform.is_rectilinear:
        centres = np.arange(g.width) + 0.5, np.arange(g.height) + 0.5
        array = array.assign_coords(
            x=g.transform.c + centres[0] * g.transform.a,
            y=g.transform.f + centres[1] * g.transform.e,
        )
    if g.crs is not None:
        array = array.rio.write_crs(g.crs)
    array = array.rio.write_transform(g.transform)
    marked: xr.DataArray = array.rio.write_nodata(float("nan"))
    return marked


def translate(
    model: Model,
    source: str | Path,
    output: str | Path,
    *,
    bands: Mapping[str, int | str] | None = None,
    sensor: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
    dtype: str | None = None,
    indices: Mapping[str, str | Path] | Sequence[str] = (),
    device: str = "auto",
    precision: str = "auto",
    tile: int = TILE,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Translate a scene into a file.

    Args:
        model: loaded model.
        source: any raster that GDAL reads.
        output: `.tif` (COG) or `.png`.
        bands: common name -> band number or name in the file.
        sensor: name in `crossband.sensors`.
        scale: physical = stored x scale + offset, over the file's and the sensor's own.
        offset: see scale.
        dtype: `float32` for physical units; the source's own data type and scale where None.
        indices: spectral indices as extra float32 files beside the output: names, or
            name -> path.
        device: auto, cpu, cuda, mps.
        precision: auto, fp32, bf16.
        tile: side of the window that the network sees, in source pixels.
        overwrite: replace existing files.
        progress: called with (pixels done, pixels in all) after each tile.

    Returns:
        The path of the finished file.

    Raises:
        InputError, BandError, UnitError, OutputError: nothing is left under the final names.
    """
    output = Path(output)
    extra = index_paths(output, indices)
    for path in (output, *extra.values()):
        check_output(path, overwrite, source)
    with Scene.open(
        source,
        bands=bands,
        sensor=sensor,
        scale=scale,
        offset=offset,
        needed=model.signature.source,
    ) as scene:
        _check(model, scene.unit, scene.bands)
        _check_indices(model, scene, extra)
        engine = Engine(model, device, precision, tile)
        unit = model.signature.target_unit(scene.unit)
        encoding = Encoding.of_scene(scene, dtype if unit == scene.unit else "float32")
        grid = scene.grid.zoom(model.network.scale)
        tags = synthetic_tags(model, scene.path)
        with ExitStack() as stack:
            target = stack.enter_context(
                SceneWriter(
                    output,
                    grid,
                    tuple(model.signature.target),
                    unit,
                    encoding,
                    tags,
                    overwrite=overwrite,
                )
            )
            writers = {
                name: stack.enter_context(
                    SceneWriter(
                        path,
                        grid,
                        (name,),
                        "1",
                        Encoding("float32", nodata=float("nan")),
                        {**tags, "CROSSBAND_INDEX": name},
                        overwrite=overwrite,
                    )
                )
                for name, path in extra.items()
            }
            any_valid = False
            total, done = grid.height * grid.width, 0
            for box, values, mask, window in _run(engine, scene.grid, scene.read):
                any_valid = any_valid or bool(mask.any())
                target.write(box, values, mask)
                for name, writer in writers.items():
                    known = dict(zip(model.signature.target, values, strict=True))
                    own = dict(zip(window.bands, window.values, strict=True))
                    writer.write(box, *_index(name, {**own, **known}, mask))
                done += box.height * box.width
                if progress is not None:
                    progress(done, total)
            if not any_valid:
                raise InputError(f"{source}: every pixel is masked (nodata, NaN or alpha)")
            for writer in writers.values():
                writer.commit()
            return target.commit()


def _run(
    engine: Engine, grid: Grid, read: Callable[[Box], Window]
) -> Iterator[tuple[Box, NDArray[np.float32], NDArray[np.bool_], Window]]:
    """Yield (box on the target grid, physical values, mask, source window) for every tile core."""
    scale = engine.model.network.scale
    for tile in tiles_of(engine.model, grid, engine.tile):
        window = read(tile.source)
        inner = tile.core.inside(tile.source)
        rows, cols = inner.slices()
        core = Window(
            window.values[:, rows, cols],
            window.mask[rows, cols],
            window.grid.crop(inner),
            window.bands,
            window.unit,
        )
        box = tile.core.scaled(scale)
        mask = core.mask.repeat(scale, 0).repeat(scale, 1)
        unit = engine.model.signature.target_unit(window.unit)
        if mask.any():
            out = engine(window.values, window.mask, window.unit)
            rows, cols = inner.scaled(scale).slices()
            out = out[:, rows, cols]
            # What a network answers with NaN or infinity is no value, and must not become one.
            mask &= np.isfinite(out).all(axis=0)
            values = np.where(mask, _clipped(out, unit), np.float32(0.0))
        else:
            shape = (len(engine.model.signature.target), box.height, box.width)
            values = np.zeros(shape, np.float32)
        yield box, values, mask, core


def _clipped(values: NDArray[np.float32], unit: str) -> NDArray[np.float32]:
    return np.clip(values, *VALID_RANGE[unit])


def _index(
    name: str, bands: dict[str, NDArray[np.float32]], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return index values [1, H, W] and where they are defined."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        values = np.asarray(indices.compute(name, bands), np.float32)
    defined = mask & np.isfinite(values)
    return np.where(defined, values, 0.0)[None], defined


def index_paths(output: Path, names: Mapping[str, str | Path] | Sequence[str]) -> dict[str, Path]:
    """Return index name -> file: `nir.tif` and NDVI give `nir_NDVI.tif`."""
    if isinstance(names, Mapping):
        return {name: Path(path) for name, path in names.items()}
    return {name: output.with_name(f"{output.stem}_{name}.tif") for name in names}


def synthetic_tags(model: Model, source: str) -> dict[str, str]:
    """Return the tags that say where a result comes from."""
    what = ", ".join(model.signature.target)
    return {
        "CROSSBAND_SYNTHETIC": "YES",
        "CROSSBAND_MODEL": model.name,
        "CROSSBAND_WEIGHTS_SHA256": model.weights_hash,
        "CROSSBAND_VERSION": __version__,
        "CROSSBAND_SOURCE": Path(source).name,
        "TIFFTAG_SOFTWARE": f"Crossband {__version__}",
        "TIFFTAG_IMAGEDESCRIPTION": (
            f"SYNTHETIC {what}: translated by the model {model.name}, not measured"
        ),
    }


def _check(model: Model, unit: str, bands: Sequence[str]) -> None:
    model.signature.check_unit(unit)
    if tuple(bands) != tuple(model.signature.source):
        raise CrossbandError(
            f"{model.name} takes {', '.join(model.signature.source)}, not {', '.join(bands)}"
        )


def _check_indices(model: Model, scene: Scene, extra: Mapping[str, Path]) -> None:
    if extra and model.network.scale != 1:
        raise CrossbandError("indices need source and target on one grid; this model rescales")
    for name, path in extra.items():
        indices.check(name, {*scene.bands, *model.signature.target})
        if path.suffix.lower() not in (".tif", ".tiff"):
            raise OutputError(f"{path}: an index is float32 and is written as .tif")
    unit = model.signature.target_unit(scene.unit)
    plain = {n for n in extra if n not in ("NDVI", "NDWI", "GNDVI")}
    if plain and unit != REFLECTANCE:
        raise CrossbandError(
            f"index {', '.join(sorted(plain))} has constants that mean reflectance; "
            f"the source is {unit}"
        )
