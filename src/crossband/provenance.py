"""Where a result comes from: the tags that say so, and the facts on which its pixels depend."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from crossband import __version__

if TYPE_CHECKING:
    from crossband.model import Model
    from crossband.raster.scene import Scene

#: Parts of a source file that are looked at, and their size: a change that leaves size and
#: modification time alone is found unless it lies between them.
_PARTS, _PART_BYTES = 32, 2**16


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


def facts(model: Model, scene: Scene, options: Mapping[str, Any]) -> dict[str, str]:
    """Return all that the pixels of a result depend on, by the name under which it is reported.

    Args:
        model: weights, architecture and signature count, not the name.
        scene: the files that it is read from, by size, modification time and samples of their
            content (what GDAL reads from elsewhere: by the grid alone), and how they are read.
        options: whatever else there is.
    """
    r = scene.radiometry
    return {
        "the source": _sources(scene),
        "how the source is read": json.dumps(
            [scene.bands, scene.numbers, scene.dtype, r.unit, r.scale, r.offset, r.nodata, r.power]
        ),
        "the model": _model(model),
        **{name: str(value) for name, value in options.items()},
        "the version of Crossband": __version__,
    }


def _sources(scene: Scene) -> str:
    """Return a line for people and a hash for what it leaves out."""
    digest = hashlib.blake2b(digest_size=12)
    size, modified = 0, 0
    for name in scene.files or (scene.path,):
        digest.update(Path(name).name.encode())
        path = Path(name)
        if not path.is_file():
            continue
        state = path.stat()
        size, modified = size + state.st_size, max(modified, state.st_mtime_ns)
        digest.update(f"{state.st_size} {state.st_mtime_ns} ".encode())
        with open(path, "rb") as file:
            for part in range(_PARTS):
                file.seek(max(state.st_size - _PART_BYTES, 0) * part // (_PARTS - 1))
                digest.update(file.read(_PART_BYTES))
    grid = scene.grid
    digest.update(repr((grid.height, grid.width, grid.transform)).encode())
    return f"{size} bytes of {modified // 10**9}, {digest.hexdigest()}"


def _model(model: Model) -> str:
    network = model.network
    digest = hashlib.blake2b(digest_size=12)
    about = [type(network).__name__, network.arguments, model.signature.to_json()]
    digest.update(json.dumps(about, sort_keys=True, default=str).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        plain = tensor.detach().cpu().contiguous().flatten()
        digest.update(memoryview(plain.view(torch.uint8).numpy()))
    return f"{model.name}, {digest.hexdigest()}"
