"""Write a model for Deepness, a plugin of QGIS (PUTvision/qgis-plugin-deepness 0.6.5).

What its code does with a file of ONNX, and so what this one has:

- It divides stored numbers by 255, whatever their type is. So the graph multiplies by 255 and then
  has scale, offset and nodata of the sensor.
- Its tiles are squares of one size, which the input states.
- It reads the metadata as JSON: `model_type`, `resolution` (cm per pixel), `tile_size`,
  `tiles_overlap` (percent), `class_names`, `reg_output_scaling`.
- A `Regressor` takes channel 0 of each output, so that each band is an output. It puts NaN to 0.
- A `Superresolution` has one output. Its tiles must not overlap, so they differ at their borders.
- It multiplies results by "Output scaling" (`reg_output_scaling`; of Superresolution it is 255),
  and cuts them to 8 bits. So the outputs are shares of 255: 1 to 255 for a range, 0 for masked.
- It adds rows above the layer until tiles fit. So the rows of tiles count from the last row.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from crossband.core.atomic import atomic_file, check_file
from crossband.core.onnx_session import open_session, run_session
from crossband.core.python_words import public
from crossband.core.sensors import DISPLAY, REFLECTANCE, Sensor, get
from crossband.core.signature import Signature
from crossband.errors import CrossbandError, ModelError, OutputError
from crossband.model.exporting.graph import FARTHEST, check_exportable, trace
from crossband.model.exporting.onnx_file import one_unit, physical
from crossband.model.model import Model
from crossband.model.onnx_file import SUFFIX
from crossband.networks import Generator

TILE = 512
#: Types of stored numbers, in the order in which one is looked for that the sensor has.
STORED = ("uint8", "uint16")
#: Number of 8 bits for the low end of a range, and the numbers of the range; 0 is masked.
_FIRST, _STEPS = 1.0, 254.0
#: "Output scaling" of Deepness, after which results are cut to 8 bits.
SCALING = 255.0
#: Units whose range is 0 to 1; of others it is that of the model.
_SHARES = (REFLECTANCE, DISPLAY)
#: Difference from nodata that dividing by 255 and multiplying again may make, for 16 bits.
_SAME = 0.01
#: Overlaps that are looked at, in percent.
_LARGEST_OVERLAP = 90


def byte_ranges(signature: Signature) -> list[tuple[float, float]]:
    """Return low and high of each target band: the values that become 1 and 255."""
    (unit,) = signature.units
    if signature.target_unit(unit) in _SHARES:
        return [(0.0, 1.0)] * len(signature.target)
    return list(signature.units[unit].target)


def values_of_bytes(model: Model, sensor: str) -> list[str]:
    """Return for each target band how a number that Deepness writes becomes a physical value."""
    signature = one_unit(model.signature, get(sensor).unit)
    unit = signature.target_unit(next(iter(signature.units)))
    return [
        f"{band} ({unit}) = {low:g} + (number - 1) x {(high - low) / _STEPS:.6g}; 0 is masked"
        for band, (low, high) in zip(signature.target, byte_ranges(signature), strict=True)
    ]


class StoredNumbers(nn.Module):
    """A network of physical values for stored numbers divided by 255, whose results are, too.

    Args:
        inner: the network in physical units.
        ranges: low and high of each target band, which become 1 and 255.
        scale: physical = stored x scale + offset.
        offset: see scale.
        nodata: stored number of masked pixels.
        split: give each band as an output.
    """

    def __init__(
        self,
        inner: nn.Module,
        ranges: list[tuple[float, float]],
        scale: float,
        offset: float,
        nodata: float | None,
        split: bool,
    ) -> None:
        super().__init__()
        bounds = torch.tensor(ranges, dtype=torch.float32).T[:, None, :, None, None]
        self.register_buffer("low", bounds[0])
        self.register_buffer("span", bounds[1] - bounds[0])
        self.inner, self.scale, self.offset = inner, scale, offset
        self.nodata, self.split = nodata, split

    low: Tensor
    span: Tensor

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """[1, Cs, T, T] -> [1, 1, T, T] for each band, or [1, Ct, T * scale, T * scale]."""
        stored = x * 255.0
        values = stored * self.scale + self.offset
        if self.nodata is not None:
            values = torch.where((stored - self.nodata).abs() < _SAME, torch.nan, values)
        shares = ((self.inner(values) - self.low) / self.span).clamp(0.0, 1.0)
        # Half a number more, as Deepness cuts and does not round.
        out = (shares * _STEPS + (_FIRST + 0.5)) / SCALING
        return tuple(torch.split(out, 1, dim=1)) if self.split else out


@public()
def export_deepness(
    model: Model,
    output: str | Path,
    *,
    sensor: str,
    gsd: float | None = None,
    tile: int = TILE,
    overwrite: bool = False,
) -> Path:
    """Write a model as an ONNX file for Deepness.

    Args:
        model: loaded model.
        output: file with the suffix .onnx.
        sensor: says how stored numbers become physical ones.
        gsd: metres per pixel, to which Deepness resamples what it reads; by default that of the
            sensor.
        tile: side of a tile in pixels, a multiple of the network's stride.
        overwrite: replace an existing file.

    Raises:
        ModelError: the network is no graph; see `graph.obstacle`.
        CrossbandError: a sensor or tile that does not fit the model.
        OutputError: the file exists or cannot be written.
    """
    path, found, network = Path(output), get(sensor), model.network
    if path.suffix != SUFFIX:
        raise OutputError(f"{path}: give the file the suffix {SUFFIX}")
    check_file(path, overwrite)
    check_exportable(model.name, network)
    gsd = found.gsd if gsd is None else gsd
    if gsd is None:
        raise CrossbandError(f"--sensor {sensor} has pixels of any size: give --gsd METRES")
    if not 0 < gsd < 10_000:
        raise CrossbandError(f"--gsd {gsd:g}: metres per pixel, above 0 and below 10,000")
    if found.power:
        raise CrossbandError(f"--sensor {sensor}: linear power is not stored as whole numbers")
    overlap = _overlap(network, tile)
    signature = one_unit(model.signature, found.unit)
    split = network.scale == 1
    wrapped = StoredNumbers(
        physical(network, signature),
        byte_ranges(signature),
        _scale(found),
        found.offset,
        found.nodata,
        split,
    ).eval()
    names = [f"target_{band}" for band in signature.target] if split else ["target"]
    example = torch.rand(1, network.in_channels, tile, tile, generator=torch.Generator())
    graph = trace(wrapped, network, model.name, example=example, outputs=names)
    values: dict[str, Any] = {
        "model_type": "Regressor" if split else "Superresolution",
        "resolution": gsd * 100,
        "tile_size": tile,
        "tiles_overlap": overlap,
        "class_names": [{"0": band} for band in signature.target],
        "reg_output_scaling": SCALING,
    }
    values["crossband_values"] = values_of_bytes(model, sensor)
    for key, value in values.items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value)
    graph.doc_string = f"{model.name} for {found.name}, for Deepness. Synthetic: no measurement."
    content = graph.SerializeToString(deterministic=True)
    _check_same(model.name, wrapped, content, example)
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)
    return path


def _scale(sensor: Sensor) -> float:
    known = [dtype for dtype in STORED if dtype in sensor.scale]
    return sensor.scale_for(known[0] if known else STORED[0])


def _overlap(network: Generator, tile: int) -> int:
    """Return the percentage by which tiles overlap, so that their seams are exact.

    Deepness keeps a tile without half of the overlap on each side. That must be the margin at
    least, and the distance of tiles a multiple of the stride.
    """
    stride, margin = network.stride, network.margin or 0
    if tile < stride or tile % stride:
        raise CrossbandError(f"--tile {tile}: a multiple of the network's stride, {stride}")
    if network.scale > 1:
        return 0  # Deepness cannot crop enlarged tiles
    for percent in range(_LARGEST_OVERLAP):
        pixels = int(tile * percent / 100 * 2) // 2  # as Deepness computes it
        if pixels % 2 == 0 and pixels // 2 >= margin and (tile - pixels) % stride == 0:
            return percent
    raise CrossbandError(
        f"--tile {tile}: no overlap covers the network's margin of {margin} pixels and fits its "
        f"stride of {stride}; a larger tile, as {stride * 2**6}, has one"
    )


@torch.inference_mode()
def _check_same(name: str, wrapped: StoredNumbers, content: bytes, example: Tensor) -> None:
    """Raise ModelError where the graph gives other numbers than torch."""
    session = open_session(content, name)
    found = run_session(session, {session.get_inputs()[0].name: example.numpy()}, name)
    expected = wrapped(example)
    for one, other in zip(
        found, expected if isinstance(expected, tuple) else (expected,), strict=True
    ):
        worst = float((torch.from_numpy(one) - other).nan_to_num().abs().max())
        if not worst <= FARTHEST * max(1.0, float(other.nan_to_num().abs().max())):
            raise ModelError(f"{name}: the graph differs from torch by {worst:.2g}")
