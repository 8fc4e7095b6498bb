"""The pairs that a model was trained on, by name and by a hash of their target.

A model folder may have a table of them, so that an evaluation on one of these pairs can say so. The
hash is of physical values and not of a file: one file may hold many pairs, and a copy in another
format is the same pair.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossband.core.atomic import write_text_atomically
from crossband.core.regular_file import read_text
from crossband.core.signature import Signature
from crossband.errors import ModelError
from crossband.model.files import TRAINING

COLUMNS = ("pair", "hash")
#: Values are rounded to this step before they are hashed, far finer than any sensor.
STEP = 1e-4
_HASH = re.compile(r"[0-9a-f]{16}")


def target_hash(values: NDArray[np.float32], mask: NDArray[np.bool_]) -> str:
    """Return a hash of a target, of 16 hexadecimal digits.

    Args:
        values: float [C, H, W] in physical units.
        mask: bool [H, W], True where valid.
    """
    numbers = np.rint(np.where(mask, values, 0).astype(np.float64) / STEP).astype("<i8")
    text = f"{numbers.shape}".encode()
    return hashlib.sha256(text + numbers.tobytes() + np.packbits(mask).tobytes()).hexdigest()[:16]


def read_training_data(folder: Path | None) -> dict[str, str]:
    """Return hash -> name of the pairs that a model was trained on, as far as its folder has them.

    Raises:
        ModelError: the table is not one.
    """
    path = folder / TRAINING if folder is not None else None
    if path is None or not path.exists():
        return {}
    rows = list(csv.reader(io.StringIO(read_text(path, ModelError))))
    if not rows or tuple(rows[0]) != COLUMNS:
        raise ModelError(f"{path}: its columns must be {', '.join(COLUMNS)}")
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(COLUMNS) or not _HASH.fullmatch(row[1]):
            raise ModelError(f"{path}: row {number} is not a name and a hash of 16 digits")
    return {value: name for name, value in rows[1:]}


def trained_units(about: Mapping[str, Any], signature: Signature) -> frozenset[str]:
    """Return the units of the sources that a model was trained on.

    Args:
        about: data for people of a model.json, which nobody has checked.
        signature: of the model; all of its units count where nothing is recorded.
    """
    every = frozenset(signature.units)
    training = _mapping(about.get("training"))
    own = _mapping(training.get("data")).get("units")
    if not isinstance(own, dict):
        return every
    found = frozenset(own)
    if training.get("start") is not None:
        began = _mapping(training["start"]).get("units")
        found |= frozenset(map(str, began)) if isinstance(began, list) else every
    return found & every or every


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def take_over_training_data(
    models: Iterable[Path | None], folder: Path, own: Iterable[tuple[str, str]] = ()
) -> None:
    """Write the pairs of other models into the folder of one that was made of them.

    Args:
        models: folders of the others.
        folder: of the model.
        own: names and hashes of further pairs, that the model itself was trained on.
    """
    known: dict[str, str] = {}
    for model in models:
        known |= read_training_data(model)
    known |= {value: name for name, value in own}
    if known:
        write_training_data(folder, [(name, value) for value, name in known.items()])


def write_training_data(folder: Path, pairs: list[tuple[str, str]]) -> None:
    """Write the table of names and hashes into a model folder."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *pairs])
    write_text_atomically(folder / TRAINING, text.getvalue())
