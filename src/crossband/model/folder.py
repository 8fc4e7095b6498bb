"""Read a model folder: `model.safetensors`, `model.json` and `README.md`.

Loading a folder runs no code from it: nothing is unpickled and nothing that the JSON names is
imported. The network class is looked up among the registered generators by its name and built from
the stored arguments.
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import TypeVar

from crossband.errors import ModelError, nearest
from crossband.model.calibration_file import read_calibration
from crossband.model.description import read_description
from crossband.model.files import BASELINES, DESCRIPTION, WEIGHTS
from crossband.model.hub import PREFIX as HUB
from crossband.model.hub import fetch
from crossband.model.model import Model
from crossband.model.onnx_file import SUFFIX as ONNX
from crossband.model.onnx_file import load_onnx
from crossband.model.stac_item import SUFFIX as ITEM
from crossband.model.stac_item import model_of_item
from crossband.model.weights import load_network

_PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle")
M = TypeVar("M", bound=Model)


def load(name: str | Path) -> Model:
    """Load a model.

    Args:
        name: a bundled name (`rgb2nir`), a model folder, an ONNX file, a STAC item of a model, or
            `hf://owner/name@revision`.

    Raises:
        ModelError: unknown name; a missing or wrong key; weights with another hash, or in a pickle
            file, which is never opened.
    """
    return load_as(Model, name)


def load_as(kind: type[M], name: str | Path) -> M:
    """Load a model as an instance of a subclass of `Model`; see `load`."""
    path = find(name)
    model = load_onnx(path, kind) if os.path.isfile(path) else _load_folder(path, kind)
    model.address = str(name)
    return model


def bundled() -> dict[str, Path]:
    """Return the models inside the package: name -> folder."""
    root = Path(str(resources.files("crossband") / "weights"))
    return {p.parent.name: p.parent for p in sorted(root.glob(f"*/{DESCRIPTION}"))}


def find(name: str | Path) -> Path:
    """Return the folder or ONNX file of a model, which is not read; see `load`."""
    text = str(name)
    if not text:
        raise ModelError("the name of the model is empty")
    if text.startswith(HUB):
        return fetch(text)
    if text in bundled() and not isinstance(name, Path):
        return bundled()[text]
    path = Path(text)
    if os.path.isfile(path):
        if path.suffix == ONNX:
            return path
        if path.suffix == ITEM:
            return model_of_item(path)
        if path.suffix in _PICKLES:
            raise ModelError(f"{path}: pickle files are never loaded; a model is a folder")
        raise ModelError(f"{path}: a file, but a model is a folder with {DESCRIPTION}")
    if not os.path.isdir(path):
        raise ModelError(f"unknown model {text!r}: no such folder; {nearest(text, bundled())}")
    return path


def _load_folder(folder: Path, kind: type[M], *, baselines: bool = True) -> M:
    data, signature = read_description(folder)
    weights = folder / WEIGHTS
    if not os.path.exists(weights):
        pickles = [p.name for p in folder.iterdir() if p.suffix in _PICKLES]
        hint = f" ({pickles[0]} is in pickle form and is never loaded)" if pickles else ""
        raise ModelError(f"{folder}: {WEIGHTS} is missing{hint}")
    found, about = data["weights"]["sha256"], data["network"]
    network = load_network(weights, found, about["class"], about["arguments"])
    model = kind(
        network,
        signature,
        name=data["name"],
        task=data["task"],
        about=data["about"],
    )
    model.weights_hash, model.folder = found, folder
    model.calibration = read_calibration(folder, found)
    for child in sorted((folder / BASELINES).glob(f"*/{DESCRIPTION}")) if baselines else []:
        model.baselines[child.parent.name] = _load_folder(child.parent, kind, baselines=False)
    return model.eval().requires_grad_(False)


def models_table(folders: dict[str, Path]) -> str:
    """Return the text that `crossband models` prints."""
    out = []
    for name, folder in folders.items():
        d, _ = read_description(folder)
        n, s, about = d["network"], d["signature"], d["about"]
        size = (folder / WEIGHTS).stat().st_size / 2**20
        guide = f"; guide: {', '.join(s['guide'])}" if s.get("guide") else ""
        margin = "unbounded" if n["margin"] is None else f"{n['margin']} px"
        out += [
            f"{name}: {about.get('description', d['task'])}",
            f"  task      {d['task']}",
            f"  bands     {', '.join(s['source'])} -> {', '.join(s['target'])}{guide}",
            f"  units     {', '.join(s['units'])}",
            f"  sensors   {', '.join(about.get('sensors', [])) or 'not stated'}",
            f"  network   {n['class']}, {n['parameters']:,} parameters, margin {margin}, "
            f"stride {n['stride']}, scale {n['scale']}",
            f"  size      {size:.1f} MiB ({d['weights']['dtype']})",
        ]
        out += [f"  measured  {line}" for line in about.get("measured", [])] or [
            "  measured  nothing yet"
        ]
    return "\n".join(out) if out else "no models are bundled"
