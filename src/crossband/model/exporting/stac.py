"""Describe a model as a STAC item with the Machine Learning Model extension (MLM).

The item lies beside its assets: the model folder's files or an ONNX file, and card and evaluation.
Each has its SHA-256 (extension file). `model.stac_item` reads it again.
"""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crossband.core.atomic import atomic_folder, check_file, write_text_atomically
from crossband.core.file_hash import sha256
from crossband.core.python_words import public
from crossband.core.sensors import VALID_RANGE
from crossband.core.signature import Signature
from crossband.errors import ModelError, OutputError
from crossband.model.exporting.onnx_file import export_onnx, one_unit
from crossband.model.files import CALIBRATION, CARD, DESCRIPTION, OWN, TRAINING, WEIGHTS
from crossband.model.model import Model
from crossband.model.stac_item import DESCRIPTION_ROLE

MLM = "https://stac-extensions.github.io/mlm/v{}/schema.json"
#: The newest published version; 1.4 has the same fields.
VERSION = "1.5.2"
FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
#: Role of the assets by which `model.stac_item` finds a model.
MODEL_ROLE = "mlm:model"
_ONNX = "model.onnx"
_MULTIHASH = "1220"  # of SHA-256, 32 bytes
#: What MLM calls a task; all others are regressions of each pixel.
_TASKS = {"super-resolution": "super-resolution"}
_MEDIA = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".md": "text/markdown",
    ".onnx": "application/onnx",
}


@public()
def export_stac(
    model: Model,
    output: str | Path,
    *,
    unit: str | None = None,
    with_onnx: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write the STAC item of a model, and copies of its files beside it.

    Args:
        model: loaded from a folder.
        output: file with the suffix .json; the assets lie in a folder of its name without it.
        unit: of the source, in which bands are scaled; by default the signature's first.
        with_onnx: write the model in ONNX, too, as a further asset.
        overwrite: replace existing files.

    Raises:
        ModelError: the model was not loaded from a folder, or says nothing of its licence.
        OutputError: a file exists or cannot be written.
    """
    path = Path(output)
    if path.suffix != ".json":
        raise OutputError(f"{path}: give the file the suffix .json")
    if model.folder is not None and not model.weights_hash:
        raise ModelError(
            f"{model.name}: its weights are not those of {model.folder} any more; save it first"
        )
    if model.folder is None or model.network.runtime is not None:
        raise ModelError(f"{model.name}: a model folder is needed, whose files the item names")
    if path.resolve().parent == model.folder.resolve():
        raise OutputError(f"{path}: it lies in the model's own folder; choose another one")
    check_file(path, overwrite)
    folder = path.with_suffix("")
    known = (WEIGHTS, DESCRIPTION, CARD, CALIBRATION, TRAINING)
    names = [name for name in known if (model.folder / name).is_file()]
    mlm_item(model, {}, path.parent, unit)  # says what is wrong before anything is written
    with atomic_folder(folder, overwrite, DESCRIPTION, names=(*OWN, _ONNX)) as temporary:
        for name in names:
            shutil.copyfile(model.folder / name, temporary / name)
        if with_onnx:
            export_onnx(model, temporary / _ONNX, unit=unit)
            names.append(_ONNX)
    item = mlm_item(model, {name: folder / name for name in names}, path.parent, unit)
    write_text_atomically(path, json.dumps(item, indent=2) + "\n", overwrite=overwrite)
    return path


def mlm_item(
    model: Model, files: dict[str, Path], base: Path, unit: str | None = None
) -> dict[str, Any]:
    """Return the STAC item of a model.

    Args:
        model: the model.
        files: its files by the names that they have in a model folder.
        base: folder of the item, to which addresses are relative.
        unit: of the source; by default the signature's first.
    """
    signature, licence = one_unit(model.signature, unit), model.about.get("licence")
    if not licence:
        raise ModelError(f"{model.name}: it does not state its licence, which an item needs")
    world = [[-180.0, -90.0], [180.0, -90.0], [180.0, 90.0], [-180.0, 90.0], [-180.0, -90.0]]
    properties = mlm_properties(model, signature, str(licence))
    assets = {name: _asset(model, name, path, base) for name, path in files.items()}
    for asset in assets.values():
        if MODEL_ROLE in asset["roles"]:  # STAC lets an item state bands only where an asset does
            asset["bands"] = properties["bands"]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [MLM.format(VERSION), FILE],
        "id": model.name,
        "geometry": {"type": "Polygon", "coordinates": [world]},
        "bbox": [-180.0, -90.0, 180.0, 90.0],
        "properties": properties,
        "links": [],
        "assets": assets,
    }


def mlm_properties(model: Model, signature: Signature, licence: str) -> dict[str, Any]:
    """Return the properties of the item of a model of one unit."""
    (unit,), network = signature.units, model.network
    architecture, parameters = network.origin or (type(network).__name__, model.parameters_total)
    target_unit = signature.target_unit(unit)
    tasks = [_TASKS.get(model.task, "regression")]
    about = model.about
    kinds = {
        **dict.fromkeys(signature.target, target_unit),
        **dict.fromkeys(signature.source, unit),
    }
    title = about.get("description", model.task)
    return {
        "datetime": None,
        "start_datetime": "1970-01-01T00:00:00Z",
        "end_datetime": "9999-12-31T23:59:59Z",
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "title": title,
        "description": title,
        "license": "other" if len(licence.split()) > 1 else licence,
        "bands": [{"name": band, "unit": kind} for band, kind in kinds.items()],
        "mlm:name": model.name,
        "mlm:architecture": architecture,
        "mlm:tasks": tasks,
        "mlm:framework": "PyTorch" if network.runtime is None else "ONNX",
        # A graph of others does not say it.
        **({"mlm:total_parameters": parameters} if parameters else {}),
        "mlm:pretrained": True,
        "mlm:accelerator": None,
        "mlm:accelerator_constrained": False,
        "mlm:batch_size_suggestion": 1,
        "mlm:input": [
            {
                "name": "source",
                "bands": signature.source,
                "input": _structure(len(signature.source)),
                "value_scaling": _scaling(signature.units[unit].source),
                "description": f"in {unit}; physical values",
            }
        ],
        "mlm:output": [
            {
                "name": "target",
                "tasks": tasks,
                "bands": signature.target,
                "result": _structure(len(signature.target)),
                "value_scaling": [
                    {"type": "clip", "minimum": low, "maximum": high}
                    for low, high in [VALID_RANGE[target_unit]] * len(signature.target)
                ],
                "description": f"in {target_unit}; an estimate, no measurement",
            }
        ],
        "crossband:task": model.task,
        "crossband:licence": licence,
        "crossband:unit": unit,
        "crossband:margin": network.margin,
        "crossband:stride": network.stride,
        "crossband:scale": network.scale,
        "crossband:sensors": about.get("sensors", []),
        "crossband:training_data": about.get("training", {}).get("data", {}),
        "crossband:measured": about.get("measured", []),
    }


def _structure(bands: int) -> dict[str, Any]:
    return {
        "shape": [-1, bands, -1, -1],
        "dim_order": ["batch", "bands", "height", "width"],
        "data_type": "float32",
    }


def _scaling(ranges: list[tuple[float, float]]) -> list[dict[str, Any]]:
    return [{"type": "min-max", "minimum": low, "maximum": high} for low, high in ranges]


def _asset(model: Model, name: str, path: Path, base: Path) -> dict[str, Any]:
    asset: dict[str, Any] = {
        "href": Path(os.path.relpath(path, base)).as_posix(),
        "file:checksum": _MULTIHASH + sha256(path),
        "file:size": path.stat().st_size,
        "type": _MEDIA.get(path.suffix, "application/octet-stream"),
    }
    if name == WEIGHTS:
        return asset | {
            "title": f"weights of {model.name}",
            "roles": [MODEL_ROLE, "mlm:weights"],
            "mlm:artifact_type": "safetensors.torch.save_file",
        }
    if name == _ONNX:
        return asset | {
            "title": f"{model.name} in ONNX, physical values in and out",
            "roles": [MODEL_ROLE],
            "mlm:artifact_type": "onnx",
        }
    if name == DESCRIPTION:
        words = "network, signature, training and evaluation"
        return asset | {"title": words, "roles": ["metadata", DESCRIPTION_ROLE, "evaluation"]}
    if name == CALIBRATION:
        return asset | {"title": "calibration of intervals", "roles": ["metadata"]}
    if name == TRAINING:
        return asset | {"title": "names and hashes of the training pairs", "roles": ["metadata"]}
    return asset | {"title": "card", "roles": ["metadata", "mlm:model-card"]}
