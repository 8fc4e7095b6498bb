"""Find the model that a STAC item with the Machine Learning Model extension names.

The item may come from anyone. Its assets are files beside it or in folders below it; their hashes
must be those that it states.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from crossband.core.file_hash import sha256
from crossband.core.json_text import read_strict_json
from crossband.core.regular_file import check_regular_file
from crossband.errors import ModelError
from crossband.model.files import CALIBRATION, DESCRIPTION, TRAINING, WEIGHTS

SUFFIX = ".json"
#: Role of the asset that is a `model.json`.
DESCRIPTION_ROLE = "crossband:description"
_MODEL_ROLE, _MULTIHASH = "mlm:model", "1220"


def model_of_item(path: Path) -> Path:
    """Return the model folder, or else the ONNX file, that an item names.

    Raises:
        ModelError: no such item, an asset that is missing, lies elsewhere or has another hash.
    """
    data = read_strict_json(path, ModelError)
    assets = data.get("assets") if isinstance(data, dict) else None
    if not isinstance(assets, dict) or not all(isinstance(a, dict) for a in assets.values()):
        raise ModelError(f"{path}: no STAC item: it has no assets")
    if not isinstance(data.get("properties"), dict):
        raise ModelError(f"{path}: no STAC item: it has no properties")
    described = [a for a in assets.values() if DESCRIPTION_ROLE in _roles(a)]
    models = [a for a in assets.values() if _MODEL_ROLE in _roles(a)]
    if not models:
        raise ModelError(f"{path}: none of its assets has the role {_MODEL_ROLE}")
    if described:
        folder = _checked(path, described[0]).parent
        weights = [f for a in models if _name(a) == WEIGHTS for f in [_checked(path, a)]]
        if weights and weights[0].parent == folder and (folder / DESCRIPTION).is_file():
            for asset in assets.values():
                if _name(asset) in (CALIBRATION, TRAINING):
                    _checked(path, asset)
            return folder
    for asset in models:
        _place(path, asset)  # of all, whichever is used
    for asset in models:
        if _name(asset).endswith(".onnx"):
            return _checked(path, asset)
    raise ModelError(
        f"{path}: a model of Crossband is {WEIGHTS} beside {DESCRIPTION}, or an ONNX file; none is "
        "among its assets"
    )


def _roles(asset: dict[str, Any]) -> list[Any]:
    roles = asset.get("roles")
    return roles if isinstance(roles, list) else []


def _name(asset: dict[str, Any]) -> str:
    return str(asset.get("href", "")).rpartition("/")[2]


def _place(item: Path, asset: dict[str, Any]) -> Path:
    """Return where an asset lies: in the folder of the item, or below it."""
    href = asset.get("href")
    if not isinstance(href, str) or not href or "\0" in href:
        raise ModelError(f"{item}: an asset has no address")
    if urlsplit(href).scheme or href.startswith("//"):
        raise ModelError(
            f"{item}: its asset {href!r:.80} lies elsewhere; download it beside the item"
        )
    base = Path(os.path.realpath(item.parent))
    file = Path(os.path.realpath(base / unquote(href)))
    if not file.is_relative_to(base):
        raise ModelError(f"{item}: its asset {href!r:.80} lies outside of the folder of the item")
    return file


def _checked(item: Path, asset: dict[str, Any]) -> Path:
    """Return the file of an asset, whose hash is the one that the item states."""
    file, href = _place(item, asset), asset["href"]
    check_regular_file(file, ModelError)
    if not file.is_file():
        raise ModelError(f"{item}: its asset {href!r:.80} is missing")
    stated = asset.get("file:checksum")
    if not isinstance(stated, str) or not stated.startswith(_MULTIHASH):
        raise ModelError(f"{item}: its asset {href!r:.80} states no SHA-256 (file:checksum)")
    if stated != _MULTIHASH + sha256(file):
        raise ModelError(f"{item}: its asset {href!r:.80} has another SHA-256 than the item states")
    return file
