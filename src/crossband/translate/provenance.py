"""The provenance of a result: its tags, and the facts on which its pixels depend."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import RasterioError

from crossband.core.version import __version__
from crossband.errors import ChangedError, InputError
from crossband.model import Model
from crossband.raster import remote
from crossband.raster.gdal import gdal
from crossband.raster.journal import changed_fact
from crossband.raster.members import member_files
from crossband.raster.scene import Scene

#: Number and size in bytes of the samples that are hashed of a source file. They detect most
#: changes that leave size and modification time as they were.
_PARTS, _PART_BYTES = 32, 2**16
#: Tag of a finished file that holds its facts as JSON.
FACTS_TAG = "CROSSBAND_FACTS"
#: Tag of a file that a model made.
SYNTHETIC_TAG = "CROSSBAND_SYNTHETIC"
#: Tag that any program shows as the description of a file.
DESCRIPTION_TAG = "TIFFTAG_IMAGEDESCRIPTION"
#: Requests to servers at a time.
_AT_ONCE = 8


def synthetic_tags(model: Model, source: str) -> dict[str, str]:
    """Return the tags that name a result's model and source, and mark it as synthetic."""
    weights = model.weights_hash
    name = model.name if weights else f"{model.name} (weights that are in no file)"
    return {
        SYNTHETIC_TAG: "YES",
        "CROSSBAND_MODEL": name,
        "CROSSBAND_WEIGHTS_SHA256": weights,
        "CROSSBAND_VERSION": __version__,
        "CROSSBAND_SOURCE": remote.name_of(source),
        "TIFFTAG_SOFTWARE": f"Crossband {__version__}",
        DESCRIPTION_TAG: synthetic_description(model.signature.target, name),
    }


def synthetic_description(bands: Sequence[str], model: str) -> str:
    """Return the description of a file with these bands, for readers that know no other tag."""
    return f"SYNTHETIC {', '.join(bands)}: translated by the model {model}, not measured"


def tags_beside(tags: Mapping[str, str], bands: Sequence[str]) -> dict[str, str]:
    """Return a result's tags for a file with other bands that is written beside it."""
    return {**tags, DESCRIPTION_TAG: synthetic_description(bands, tags["CROSSBAND_MODEL"])}


def translation_tags(model: Model, source: str, *, exact: bool, seed: int | None) -> dict[str, str]:
    """Return the tags of a translated scene.

    Args:
        model: that translated it.
        source: path of the scene.
        exact: the tiled result equals that of the whole scene at once.
        seed: of a network that draws random numbers; None for others.
    """
    tags = synthetic_tags(model, source)
    tags["CROSSBAND_EXACT"] = "YES" if exact else "NO"
    if seed is not None:
        tags["CROSSBAND_SEED"] = str(seed)
    return tags


def scene_facts(model: str, scene: Scene, options: Mapping[str, Any]) -> dict[str, str]:
    """Return everything that the pixels of a result depend on, as name -> value.

    Messages report a changed fact by its name.

    Args:
        model: from `identity`.
        scene: the source. Its files count by size, modification time and samples of their content,
            those behind nested VRTs included; remote files by the size, ETag and modification time
            that the server states, see `undetectable_changes`.
        options: all other facts.
    """
    r = scene.radiometry
    return {
        "the source": source_fingerprint(scene),
        "how the source is read": json.dumps(
            [
                *(scene.bands, scene.numbers, scene.dtype, scene.window.srcwin()),
                *(r.unit, r.scale, r.offset, r.nodata, r.power),
            ]
        ),
        "the model": model,
        **{name: str(value) for name, value in options.items()},
        "the version of Crossband": __version__,
    }


def read_facts(path: Path) -> dict[str, str] | None:
    """Return the facts that a finished file was made from; None where it has no such tag."""
    if not path.is_file():  # GDAL would wait for the other end of a FIFO
        return None
    try:
        with gdal(), rasterio.open(path) as file:
            tags = file.tags()
        # A PNG keeps all its tags in one text.
        text = tags.get(FACTS_TAG) or tags.get("Description", "").partition(f"{FACTS_TAG}=")[2]
        found = json.JSONDecoder().raw_decode(text)[0]
    except (RasterioError, OSError, ValueError, RecursionError):
        return None
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else None


def is_up_to_date(
    paths: Sequence[Path],
    facts: Mapping[str, str],
    ignored: Collection[str],
    *,
    overwrite: bool,
    placed: Container[Path] = (),
) -> bool:
    """Return whether all files exist and were made from these facts.

    Args:
        paths: the result and its indices.
        facts: see `scene_facts`.
        ignored: names of facts that were left to the machine, which may be another one now.
        overwrite: a file that was made from other facts counts as missing.
        placed: files that an interrupted run has put there, which count as missing in this way.

    Raises:
        ChangedError: a file exists that was made from other facts.
    """
    missing = False
    for path in paths:
        before = read_facts(path)
        why: str | None = "it does not say what it was made from"
        if before is not None:
            why = changed_fact(before, facts, ignored)
        if os.path.lexists(path) and why is not None and not (overwrite or path in placed):
            raise ChangedError(f"{path}: exists already, and {why}; --overwrite makes it anew")
        missing |= why is not None
    return not missing


def undetectable_changes(scene: Scene) -> str | None:
    """Describe the files of a scene whose changes `scene_facts` may not detect; None if none."""
    far = [name for name in _files(scene) if _file(name) is None]
    names = [
        name for name, state in zip(far, _states(far), strict=True) if not state.detects_changes
    ]
    if not names:
        return None
    first, more = remote.name_of(names[0]), len(names) - 1
    return (
        f"{first}{f' and {more} other files' if more else ''}: nobody says ETag or time of change, "
        f"so that a change which leaves the size alone goes unnoticed"
    )


def source_fingerprint(scene: Scene) -> str:
    """Return size, age and a hash of the files of a scene, as one line."""
    digest = hashlib.blake2b(digest_size=12)
    size, modified = 0, 0
    names = _files(scene) or (scene.path,)
    far = [name for name in names if _file(name) is None]
    for name, known in zip(far, _states(far), strict=True):
        size += known.size or 0
        # A signed address differs at each use; the address without its query names the file.
        label = name.split("?")[0] if known.detects_changes else name
        digest.update(f"{label} {known}".encode())
    for name in names:
        path = _file(name)
        if path is None or not path.is_file():
            continue
        state = path.stat()
        size, modified = size + state.st_size, max(modified, state.st_mtime_ns)
        label = name if remote.is_remote(name) else path.name
        digest.update(f"{label} {state.st_size} {state.st_mtime_ns} ".encode())
        try:
            with open(path, "rb") as file:
                for part in range(_PARTS):
                    file.seek(max(state.st_size - _PART_BYTES, 0) * part // (_PARTS - 1))
                    digest.update(file.read(_PART_BYTES))
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    grid = scene.grid
    digest.update(repr((grid.height, grid.width, grid.transform)).encode())
    age = f"of {modified // 10**9}" if modified else "elsewhere"
    return f"{size} bytes {age}, {digest.hexdigest()}"


def _files(scene: Scene) -> tuple[str, ...]:
    with gdal():
        return member_files(scene.files)


def _file(name: str) -> Path | None:
    """Return the local file of a name, the archive for a member of one; None for remote files."""
    if not remote.is_remote(name):
        return Path(name)
    inside = re.match(r"/vsi(?:zip|tar|gzip|7z|rar)/\{?(.*)", name)
    if inside is None:
        return None
    path = Path(inside[1].replace("}", ""))
    return next((p for p in (path, *path.parents) if p.is_file()), None)


def _states(names: Sequence[str]) -> list[remote.State]:
    """Ask servers for the state of files, several at a time: a mosaic may have hundreds."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(_state, names))


def _state(name: str) -> remote.State:
    try:
        with gdal():
            return remote.state(name)
    except InputError:
        # A member of a remote archive can be read, but has no time of its last change.
        return remote.State(None, None, None)
