"""What `compare_commits.py` compares of two files or two texts, and what it leaves out of sight."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio


@dataclass(frozen=True)
class Rule:
    """Text that may differ between two runs.

    Args:
        pattern: what is replaced, a regular expression.
        by: what stands there instead.
        reason: why a user does not care.
        where: in which files, a regular expression.
    """

    pattern: str
    by: str
    reason: str
    where: str = ""


#: Why results have a fingerprint now.
MADE_FROM = (
    "the same command on a finished result is done: by a fingerprint of what it was made from"
)
_TIME = r"\d+(?:\.\d+)? (?:s|min|h)\b"
#: Applied in this order to every message, text file and tag of both commits. Paths and the version
#: are replaced before, see `Tidy`.
RULES = (
    Rule(r"(?m)^.*\d% of [\d.]+ MPix, .* left\n", "", "a line of progress every 15 seconds"),
    Rule(
        r"(?m)^crossband: .*data index.*data manifest.*\n",
        "",
        "`data index` may say that it is called `data manifest` now",
    ),
    Rule("crossband data manifest", "crossband data index", "the same command under a newer name"),
    Rule(r"\d+(?:\.\d+)? MPix/s", "<rate> MPix/s", "how fast the machine was"),
    Rule(rf"\bin {_TIME}", "in <time>", "how long it took"),
    Rule(rf"{_TIME} \(\d+ rows/s\)", "<time>", "how long it took"),
    Rule(rf"<dt>time</dt><dd>{_TIME}", "<dt>time</dt><dd><time>", "how long it took"),
    Rule(
        r"bytes of \d+, [0-9a-f]{24}",
        "bytes of <when>",
        "the demo writes its scene anew, and the time of that is part of what tells it",
        where="/demo/",
    ),
    Rule(rf"about {_TIME} left", "about <time> left", "how long the rest takes"),
    Rule(r'"(seconds|time)": ?("[^"]*"|[\d.e+-]+)', r'"\1": <time>', "when, and how long"),
    Rule(
        r"\bcrossband(?:\.\w+)+\.([A-Z]\w+)",
        r"\1",
        "a class is found by its name, wherever its module lies",
    ),
    Rule(r"(?m)^ *blend_by: share\n", "", "a new key of recipes, with what was done before it"),
    Rule(r',\s*"blend_by": "share"', "", "the same in JSON"),
    Rule(r"(?m)^rgb2nir/local-pyramid .*\n.*\n", "", "a new recipe"),
    Rule(r"--(allow-local-references|guide(-\w+)?|match(-\w+)?) ", "", "options added, renamed"),
    Rule(r', "guide(_datetime)?": null', "", "the summary of a fleet says which guide a scene got"),
    Rule(
        r"(Turn|Write the manifest of) a dataset as it lies on a disk( into a manifest)?;",
        "Write a manifest;",
        "a sentence of --help, in other words",
    ),
    Rule(
        r"; the others are written \((\S+) says which\)",
        r"; \1 says which and why",
        "a fleet said that the others were written also where all had failed",
    ),
    Rule(
        r"\.scenes-of-stacks/|\.series(\.csv)?\.crossband/new/",
        "<hidden>/",
        "where the dates of a stack lie until the series is done",
    ),
    Rule(r'\s*"made_from": "[0-9a-f]{32}",', "", MADE_FROM),
    Rule(r',\s*"made_from": "[0-9a-f]{32}"', "", MADE_FROM),
    Rule(r'<meta name="crossband-made-from"[^>]*>\n', "", MADE_FROM),
    Rule(r"tcp://[\w.]+:\d+", "<scheduler>", "the port of a scheduler is drawn at random"),
)
#: Numbers of a training's log and checkpoints that are left out.
SPEED = "images_per_second"  # how fast the machine was
#: Files whose content is not compared, only that they are there.
UNSEEN = (
    Rule(r"/\.[^/]+\.crossband/", "", "unfinished windows: what becomes of them is compared"),
    Rule(r"events\.out\.tfevents", "", "the log of TensorBoard has times and a host in it"),
)

#: Files that one of the commits may lack: `series.json` has the fingerprint of a series.
NEW_FILES = r"/series\.json$"


class Tidy:
    """Makes texts of one commit comparable.

    Args:
        paths: folder -> the word that stands for it.
        version: of Crossband in this commit.
    """

    def __init__(self, paths: Mapping[Path, str], version: str) -> None:
        longest = sorted(paths.items(), key=lambda p: -len(str(p[0])))
        self.paths = [(str(path), word) for path, word in longest]
        self.version = re.compile(rf"(?<![\w.]){re.escape(version)}(?![\w.]\d)")

    def __call__(self, text: str, where: str = "") -> str:
        """Return a text without paths, version, and what `RULES` say; `where` names its file."""
        for path, word in self.paths:
            text = text.replace(path, word)
        text = self.version.sub("<version>", text)
        for rule in (r for r in RULES if re.search(r.where, where)):
            text = re.sub(rule.pattern, rule.by, text)
        return text


Facts = dict[str, Any]
Clean = Callable[[str], str]


def read(path: Path, tidy: Tidy) -> Facts:
    """Return all that is compared of a file, by name: arrays and plain values."""
    if any(re.search(rule.pattern, str(path)) for rule in UNSEEN):
        return {}
    clean = partial(tidy, where=str(path))
    for endings, reader in READERS:
        if path.name.endswith(endings):
            return reader(path, clean)
    content = path.read_bytes()
    try:
        return lines(clean(content.decode()))
    except UnicodeDecodeError:
        return {"bytes": np.frombuffer(content, np.uint8)}


def lines(text: str) -> Facts:
    """Return the lines of a text by their number."""
    return {f"line {n}": line for n, line in enumerate(text.splitlines(), 1)}


def raster(path: Path, clean: Clean) -> Facts:
    """Read pixels, masks, overviews, and all that the file says of itself."""
    with rasterio.open(path) as file:
        out: Facts = {
            "driver": file.driver,
            "data types": file.dtypes,
            "CRS": file.crs.to_wkt() if file.crs else None,
            "grid": (file.shape, tuple(file.transform)),
            "control points": [p.asdict() for p in file.gcps[0]],
            "CRS of the control points": str(file.gcps[1]),
            "nodata": [repr(n) for n in file.nodatavals],
            "scale": file.scales,
            "offset": file.offsets,
            "unit": file.units,
            "descriptions": [clean(d or "") for d in file.descriptions],
            "colours": [c.name for c in file.colorinterp],
            "kinds of mask": [[flag.name for flag in flags] for flags in file.mask_flag_enums],
            "layout": (file.block_shapes, str(file.compression), str(file.interleaving)),
        }
        for number in range(file.count + 1):
            domains = set(file.tag_namespaces(number)) - {"DERIVED_SUBDATASETS"}  # GDAL's own
            for domain in ("", *sorted(domains)):
                for key, value in file.tags(number, ns=domain or None).items():
                    if key == "CROSSBAND_MADE_FROM":
                        continue  # see MADE_FROM
                    name = " ".join(filter(None, (f"tag {key}", domain, f"of band {number}")))
                    out |= _tag(name.removesuffix(" of band 0"), value, clean)
        levels = file.overviews(1)
        out["overviews"] = [file.overviews(n) for n in file.indexes]
        out["pixels"], out["mask"] = file.read(), file.read_masks()
    for level in range(len(levels)):
        with rasterio.open(path, overview_level=level) as file:
            out[f"overview {levels[level]}"] = file.read()
            out[f"mask of overview {levels[level]}"] = file.read_masks()
    return out


def _tag(name: str, text: str, clean: Clean) -> Facts:
    """Return a tag; one that holds several facts as JSON is taken apart."""
    try:
        facts = json.loads(text)
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        return {name: clean(text)}
    return {f"{name}, {key}": clean(str(value)) for key, value in facts.items()}


def weights(path: Path, clean: Clean) -> Facts:
    """Read the tensors and the metadata of a safetensors file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    out: Facts = {f"metadata {k}": clean(str(v)) for k, v in header.pop("__metadata__", {}).items()}
    for name, entry in header.items():
        start, end = (8 + length + at for at in entry["data_offsets"])
        out[f"type of {name}"] = (entry["dtype"], entry["shape"])
        out[name] = np.frombuffer(content[start:end], np.uint8)
    return out


def checkpoint(path: Path, clean: Clean) -> Facts:
    """Read all that a checkpoint of a training holds."""
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    return {k: v for k, v in _leaves(state, "", clean) if not k.endswith(SPEED)}


def _leaves(node: Any, name: str, clean: Clean) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, f"{name}.{key}", clean)
    elif isinstance(node, list | tuple):
        for number, value in enumerate(node):
            yield from _leaves(value, f"{name}.{number}", clean)
    elif hasattr(node, "numpy"):
        yield name, node.detach().numpy()
    else:
        yield name, clean(repr(node))


def table(path: Path, clean: Clean) -> Facts:
    """Read a parquet table."""
    import pandas as pd

    rows = pd.read_parquet(path)
    return {"types": str(rows.dtypes)} | lines(clean(rows.to_csv()))


def log(path: Path, clean: Clean) -> Facts:
    """Read the log of a training."""
    import pandas as pd

    rows = pd.read_csv(path, dtype=str)
    return lines(clean(rows.drop(columns=SPEED, errors="ignore").to_csv()))


def array(path: Path, clean: Clean) -> Facts:
    """Read an array of NumPy."""
    return {"pixels": np.load(path)}


READERS: tuple[tuple[tuple[str, ...], Callable[[Path, Clean], Facts]], ...] = (
    ((".tif", ".tiff", ".png", ".jpg"), raster),
    ((".safetensors",), weights),
    ((".ckpt",), checkpoint),
    ((".parquet",), table),
    ((".npy",), array),
    (("metrics.csv",), log),
)


def differences(old: Facts, new: Facts) -> list[str]:
    """Say what differs between two files or two texts, one line each."""
    out = []
    for name in dict.fromkeys([*old, *new]):
        if name not in new or name not in old:
            here = "old" if name in old else "new"
            out.append(f"{name}: only in {here}: {_short({**old, **new}[name])}")
            continue
        a, b = old[name], new[name]
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            if (a.dtype, a.shape) != (b.dtype, b.shape):
                out.append(f"{name}: {a.dtype} {a.shape} became {b.dtype} {b.shape}")
            elif a.tobytes() != b.tobytes():
                out.append(f"{name}: {_how_far(a, b)}")
        elif a != b:
            texts = str(a), str(b)
            pairs = enumerate(zip(*texts, strict=False))
            first = next((n for n, (x, y) in pairs if x != y), min(map(len, texts)))
            one, two = (_short(text, max(first - 60, 0)) for text in texts)
            out.append(f"{name}: {one} became {two}")
    return out


def _how_far(a: np.ndarray, b: np.ndarray) -> str:
    one, two = (np.ascontiguousarray(x).view(np.uint8).reshape(x.size, -1) for x in (a, b))
    changed = (one != two).any(1)
    words = f"{changed.sum()} of {a.size} numbers differ"
    if a.dtype.kind in "iufb":
        with np.errstate(invalid="ignore"):
            far = np.abs(a.astype(np.float64) - b.astype(np.float64)).ravel()[changed]
        words += f", by {np.nanmax(far):.3g} at most" if np.isfinite(far).any() else ""
    return words


def _short(value: Any, start: int = 0) -> str:
    """Return a part of a text that begins near where another differs."""
    text = str(value)[start:]
    text = text if len(text) <= 160 else f"{text[:160]}..."
    return f"...{text}" if start else text
