"""Scenes and models whose answers are known.

A model here is a line for each pixel: near infrared from red, green and blue. The answer is
computed in float64 from the physical values, stored x scale + offset, and held against the file
that the command wrote, as the file itself says how its numbers are to be read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import struct
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags

from fuzzing import tiff
from fuzzing.case import Case, Draw, Files, dumped

Array = NDArray[Any]
NAMES = ("red", "green", "blue")
#: Values that a unit may have; results are clipped to them (README, "How good it is": units).
CLIPPED = {"reflectance": (0.0, 2.0), "display": (0.0, 1.0), "kelvin": (0.0, 500.0)}
CLIPPED["db"] = (-60.0, 40.0)
EPSILON = 2.0**-23
#: Options with which a command prints nothing but what is wrong, and computes in float32.
QUIET = ["--model", "model", "--quiet", "--precision", "fp32"]


@dataclass(frozen=True)
class Line:
    """A model: normalised values times weights, plus a bias.

    Attributes:
        weights: of red, green and blue.
        bias: of the sum.
        low: of each source band, which becomes 0.
        high: of each source band, which becomes 1.
        target: low and high of the answer.
        units: that it takes.
    """

    weights: tuple[float, ...] = (0.5, 0.3, -0.2)
    bias: float = 0.1
    low: tuple[float, ...] = (0.0, -0.1, 0.05)
    high: tuple[float, ...] = (0.5, 0.9, 1.05)
    target: tuple[float, float] = (-0.1, 0.9)
    units: tuple[str, ...] = ("reflectance", "display")

    def answer(self, source: Array, unit: str) -> tuple[Array, Array]:
        """Return the answer [H, W] to physical values [3, H, W], and how far off it may be."""
        low, high, weights = (
            np.array(part, np.float32).astype(np.float64)[:, None, None]
            for part in (self.low, self.high, self.weights)
        )
        with np.errstate(over="ignore", invalid="ignore"):
            parts = weights * (source.astype(np.float64) - low) / (high - low)
            bottom, top = (float(np.float32(end)) for end in self.target)
            answer = (parts.sum(0) + np.float32(self.bias)) * (top - bottom) + bottom
            sizes = np.abs(parts).sum(0) + np.abs(weights * low / (high - low)).sum() + 1.0
            error = 16 * EPSILON * (sizes * (top - bottom) + abs(bottom))
        return np.clip(answer, *CLIPPED[unit]), error

    def description(self) -> dict[str, Any]:
        """Return what its `model.json` holds; the hash of the weights is filled in later."""
        ranges = [[a, b] for a, b in zip(self.low, self.high, strict=True)]
        unit = {"source": ranges, "target": [list(self.target)], "target_unit": None}
        units = {name: dict(unit) for name in self.units}
        network = {"class": "PerPixelLinear", "arguments": {"in_channels": 3, "out_channels": 1}}
        return {
            **{"format": 1, "name": "line", "task": "rgb2nir", "crossband": "0.1.0", "about": {}},
            "network": {**network, "margin": 0, "stride": 1, "scale": 1, "parameters": 4},
            "signature": {"source": list(NAMES), "target": ["nir"], "units": units},
            "weights": {"file": "model.safetensors", "sha256": "", "dtype": "float32"},
        }

    def tensors(self) -> dict[str, Array]:
        """Return the weights by their names."""
        with np.errstate(over="ignore"):
            weight = np.array(self.weights).astype(np.float32).reshape(1, 3, 1, 1)
        return {"line.weight": weight, "line.bias": np.array([self.bias], np.float32)}

    def files(self) -> Files:
        """Return the files of its folder."""
        return model_files(self.description(), safetensors(self.tensors()))


#: The model of most cases.
LINE = Line()


def model_files(description: Any, weights: bytes) -> Files:
    """Return the files of a model folder; the hash of the weights is filled in."""
    description["weights"]["sha256"] = hashlib.sha256(weights).hexdigest()
    return {
        "model/model.json": dumped(description),
        "model/model.safetensors": weights,
        "model/README.md": b"# A line\n",
    }


def safetensors(tensors: Mapping[str, Array]) -> bytes:
    """Return a file of tensors, by the specification."""
    names = {"float32": "F32", "float64": "F64", "float16": "F16"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, values in tensors.items():
        offsets = [len(data), len(data) + values.nbytes]
        data += values.tobytes()
        header[name] = {"dtype": names[values.dtype.name], "shape": list(values.shape)}
        header[name]["data_offsets"] = offsets
    return joined(json.dumps(header).encode(), data)


def joined(header: bytes, data: bytes) -> bytes:
    """Return a file of tensors of its parts."""
    return struct.pack("<Q", len(header)) + header + data


def parts(file: bytes) -> tuple[Any, bytes]:
    """Return header and data of a file of tensors."""
    end = 8 + int(struct.unpack("<Q", file[:8])[0])
    return json.loads(file[8:end]), file[end:]


@dataclass(frozen=True)
class Scene:
    """Stored numbers, and what they mean.

    Attributes:
        stored: [3, H, W], red, green and blue.
        unit: of the physical values.
        scale: of each band.
        offset: of each band.
        nodata: of each band; None without.
        mask: alpha or a mask, True where valid; None without.
        power: numbers are linear backscatter.
    """

    stored: Array
    unit: str = "reflectance"
    scale: tuple[float, ...] = (1.0, 1.0, 1.0)
    offset: tuple[float, ...] = (0.0, 0.0, 0.0)
    nodata: tuple[float | None, ...] = (None, None, None)
    mask: NDArray[np.bool_] | None = None

    def physical(self) -> tuple[Array, NDArray[np.bool_]]:
        """Return physical values float32 [3, H, W], and which pixels are valid [H, W].

        By docs/translating.md: beside alpha or a mask, a nodata number is ignored.
        """
        valid = np.ones(self.stored.shape[1:], bool) if self.mask is None else self.mask.copy()
        out = []
        with np.errstate(all="ignore"):
            for band, scale, offset, nodata in zip(
                self.stored, self.scale, self.offset, self.nodata, strict=True
            ):
                if band.dtype.kind == "f":
                    valid &= np.isfinite(band)
                if self.mask is None and nodata is not None and not math.isnan(nodata):
                    valid &= band != nodata
                out.append((band.astype(np.float64) * scale + offset).astype(np.float32))
                valid &= np.isfinite(out[-1])
        return np.stack(out), valid

    def file(
        self,
        draw: Draw,
        layout: tiff.Layout | None = None,
        *,
        said: bool = True,
    ) -> bytes:
        """Return it as TIFF; unit, scale and offset as metadata where `said`."""
        items = []
        for n, name in enumerate(NAMES):
            items.append(item("DESCRIPTION", n, "description", name))
            if said:
                items.append(item("UNITTYPE", n, "unittype", self.unit))
                items.append(item("OFFSET", n, "offset", repr(self.offset[n])))
                items.append(item("SCALE", n, "scale", repr(self.scale[n])))
        tags: tiff.Entries = {tiff.METADATA: (2, metadata(items))}
        mark = self.nodata[0]
        if mark is not None:
            whole = float(mark).is_integer() and abs(mark) < 2**53
            tags[tiff.NODATA] = (2, f"{mark:.0f}" if whole else repr(mark))
        if draw.chance(0.8):
            tags |= georeference()
        return tiff.write(self.stored, layout, tags, mask=self.mask)


def item(name: str, sample: int, role: str, text: str) -> str:
    """Return one item of GDAL's metadata."""
    return f'<Item name="{name}" sample="{sample}" role="{role}">{escape(text)}</Item>'


def metadata(items: list[str]) -> bytes:
    """Return GDAL's metadata of a TIFF."""
    text = f"<GDALMetadata>{''.join(items)}</GDALMetadata>"
    return text.encode("utf-8", "surrogateescape") + b"\0"


def georeference() -> tiff.Entries:
    """Return tags for 10 m pixels in UTM zone 33."""
    keys = [1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633]
    return {
        33550: (12, [10.0, 10.0, 0.0]),
        33922: (12, [0.0, 0.0, 0.0, 5e5, 5e6, 0.0]),
        34735: (3, keys),
    }


def translate(name: str = "in.tif", *more: str, output: str = "out.tif") -> list[str]:
    """Return the arguments of a translation with the model of the case."""
    return ["translate", name, "-o", output, *QUIET, *more]


def translation(
    draw: Draw,
    scene: Scene,
    files: Files,
    must: str | None,
    meant: Callable[[Path], Line | None],
) -> Case:
    """Return a case that translates a scene with a model.

    Args:
        draw: how the scene is stored.
        scene: the input.
        files: of the model.
        must: what the case has to end in.
        meant: says by the folder of the case which model its files describe; None for none.
    """

    def check(folder: Path) -> str | None:
        line = meant(folder)
        if line is None:
            return "answered, though the files of the model describe none that is known"
        return compare(folder / "out.tif", scene, line)

    return Case(translate(), {**files, "in.tif": scene.file(draw)}, must, check)


def draw_layout(draw: Draw, dtype: str) -> tiff.Layout:
    """Return any layout that a data type allows."""
    kind = np.dtype(dtype)
    compression = draw.choice((tiff.NONE, tiff.ADOBE_DEFLATE, tiff.DEFLATE, tiff.PACKBITS))
    predictor = 1
    if compression in (tiff.ADOBE_DEFLATE, tiff.DEFLATE) and draw.chance(0.5):
        predictor = 3 if kind.kind == "f" else 2 if kind.itemsize <= 4 else 1
    return tiff.Layout(
        order="<" if draw.chance(0.5) else ">",
        big=draw.chance(0.2),
        planar=draw.chance(0.4),
        tile=16 if draw.chance(0.3) else None,
        rows=draw.choice((1, 3, 8, 1000)),
        compression=compression,
        predictor=predictor,
    )


def draw_size(draw: Draw) -> tuple[int, int]:
    """Return height and width, mostly a few pixels."""
    most = draw.choices((3, 20, 60, 140), (2, 6, 3, 1))[0]
    return draw.randint(1, most), draw.randint(1, most)


def draw_scene(draw: Draw, dtypes: tuple[str, ...] = ()) -> Scene:
    """Return a scene of reflectance with valid and invalid pixels; at least one is valid."""
    kinds = ("uint8", "uint16", "uint16", "int16", "float32", "float32", "float64", "int32")
    dtype = np.dtype(draw.choice(dtypes or (*kinds, "uint32", "int8")))
    height, width = draw_size(draw)
    rng = np.random.default_rng(draw.randrange(2**32))
    odd: tuple[float, ...]
    if dtype.kind == "f":
        stored = rng.uniform(-0.2, 1.5, (3, height, width)).astype(dtype)
        scene = Scene(stored)
        odd = (np.nan, np.inf, -np.inf, -0.0, 1e30, -9999.0)
    else:
        top = min(int(np.iinfo(dtype).max), 12000)
        stored = rng.integers(0, top + 1, (3, height, width)).astype(dtype)
        scale = draw.choice((1.0 / top, 1e-4, 2.75e-5, 0.001, -1e-4, 1.0))
        scene = Scene(stored, scale=(scale,) * 3, offset=(draw.choice((0.0, -0.1, 0.5)),) * 3)
        odd = (0, int(np.iinfo(dtype).max), int(np.iinfo(dtype).min))
    for _ in range(draw.randint(0, 6)):
        stored[:, rng.integers(height), rng.integers(width)] = draw.choice(odd)
    marks = (0.0, 255.0, -9999.0, 1.0, 7.0, float("nan"))
    if draw.chance(0.4):
        fits = [m for m in marks if _fits(dtype, m)]
        mark = draw.choice(fits)
        stored[:, rng.random((height, width)) < 0.2] = mark
        scene = replace(scene, nodata=(mark,) * 3)
    if draw.chance(0.2):
        scene = replace(scene, mask=rng.random((height, width)) < 0.7)
    if not scene.physical()[1].any():
        return Scene(np.full_like(stored, 1), scale=scene.scale, offset=scene.offset)
    return scene


def _fits(dtype: np.dtype[Any], mark: float) -> bool:
    if dtype.kind == "f":
        return True
    return not math.isnan(mark) and np.iinfo(dtype).min <= mark <= np.iinfo(dtype).max


@dataclass(frozen=True)
class Result:
    """A band of a file that a command wrote: numbers and how they are read."""

    stored: Array
    valid: NDArray[np.bool_]
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None


def read_result(path: Path, band: int = 1) -> Result:
    """Read a band of a result by GDAL."""
    with opened(path) as file:
        valid, scale = file.read_masks(band) > 0, file.scales[band - 1]
        stored = file.read(band)
        if path.suffix == ".png":  # which says nothing of its numbers
            scale = 1.0 / np.iinfo(stored.dtype).max
        return Result(stored, valid, scale, file.offsets[band - 1], file.nodatavals[band - 1])


def opened(path: Path) -> Any:
    """Open a raster by GDAL without words on stderr."""
    logging.getLogger("rasterio").setLevel(logging.CRITICAL)
    with warnings.catch_warnings(action="ignore"):
        return rasterio.open(path)


def compare(path: Path, scene: Scene, line: Line = LINE, *, dtype: str | None = None) -> str | None:
    """Say what is wrong with the result of a translation; None where it is right.

    Args:
        path: of the result.
        scene: that was translated.
        line: the model.
        dtype: that the result must have.
    """
    values, valid = scene.physical()
    answer, error = line.answer(values, scene.unit)
    result = read_result(path)
    if result.valid.shape == valid.shape:  # a sum that float32 does not hold may be masked
        valid &= result.valid | (np.abs(values) < 1e36).all(0)
    return compare_values(result, answer, error, valid, dtype)


def compare_values(
    result: Result, answer: Array, error: Array, valid: NDArray[np.bool_], dtype: str | None = None
) -> str | None:
    """Say what is wrong with the numbers of a result; see `compare`."""
    kind = result.stored.dtype
    if dtype is not None and kind != np.dtype(dtype):
        return f"data type {kind}, not {dtype}"
    if result.stored.shape != answer.shape:
        return f"shape {result.stored.shape}, not {answer.shape}"
    if (result.valid != valid).any():
        at = np.argwhere(result.valid != valid)[0]
        said = "valid" if result.valid[tuple(at)] else "masked"
        return f"pixel {at.tolist()} is {said}: {result.stored[tuple(at)]!r}"
    wanted = (answer - result.offset) / result.scale
    allowed = error / abs(result.scale) + 1e-12
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        wanted = np.clip(wanted, float(limits.min), float(limits.max))
        allowed = allowed + 0.5 + 1e-9 * np.abs(wanted)
        if result.nodata is not None:  # a value that would be the nodata number is the next one
            allowed = allowed + (np.abs(wanted - result.nodata) <= 1.0)
    else:
        allowed = allowed + np.finfo(kind).eps * np.abs(wanted) * 2
    off = np.abs(result.stored.astype(np.float64) - wanted) - allowed
    off = np.where(valid, off, -1.0)
    if not (off <= 0).all():
        at = tuple(np.argwhere(~(off <= 0))[0])
        return f"pixel {[int(n) for n in at]} is {result.stored[at]!r}, not {wanted[at]!r}"
    return None


def read_by_gdal(
    path: Path, sensor: str | None = None, bands: tuple[int, ...] | None = None
) -> Scene | None:
    """Return what GDAL reads from a changed file, where it means red, green and blue.

    None where the file says too little or too much to tell what the numbers mean.
    """
    with opened(path) as file:
        numbers = bands or tuple(_numbered(file))
        if len(numbers) != 3:
            return None
        used = [n - 1 for n in numbers]
        unit = {(file.units[n] or "").strip().lower() for n in used}
        scale, offset = ([part[n] for n in used] for part in (file.scales, file.offsets))
        stored = np.stack([file.read(n) for n in numbers])
        if sensor is not None:
            unit = {sensor}
            if all(s == 1 for s in scale) and not any(offset):
                top = 1.0 if stored.dtype.kind == "f" else float(np.iinfo(stored.dtype).max)
                scale = [1 / top] * 3
        if len(unit) != 1 or not unit <= set(CLIPPED):
            return None
        flags = file.mask_flag_enums[numbers[0] - 1]
        mask = None
        if ColorInterp.alpha in file.colorinterp or (
            MaskFlags.per_dataset in flags and MaskFlags.nodata not in flags
        ):
            mask = file.read_masks(numbers[0]) > 0
        nodata = tuple(file.nodatavals[n] for n in used)
        return Scene(stored, unit.pop(), tuple(scale), tuple(offset), nodata, mask)


def _numbered(file: Any) -> list[int]:
    """Return the bands of red, green and blue, by description or colour; empty where unclear."""
    out = []
    for name in NAMES:
        said = [(d or "").strip().lower() for d in file.descriptions]
        found = [n for n, d in enumerate(said, start=1) if d == name]
        if not found:
            found = [n for n, c in enumerate(file.colorinterp, start=1) if c.name == name]
        if len(found) != 1:
            return []
        out.append(found[0])
    return out
