"""Put a model folder on the Hugging Face Hub, with a card that has a header of YAML."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from crossband.core.regular_file import read_text
from crossband.errors import ModelError
from crossband.model.card import make_card
from crossband.model.files import BASELINES, CALIBRATION, CARD, DESCRIPTION, TRAINING, WEIGHTS
from crossband.model.hub import PREFIX, WANTED, check_name, endpoint, hub_line
from crossband.model.model import Model

#: Licences as the Hub writes them; others are `other`, with their words.
_LICENCES = ("apache-2.0", "mit", "cc-by-4.0", "cc0-1.0", "bsd-3-clause", "gpl-3.0")


def push(model: Model, name: str, *, private: bool = False) -> str:
    """Upload a model folder.

    Args:
        model: loaded from a folder.
        name: owner and name of the repository, which is made where it is missing.
        private: make a private one.

    Returns:
        The address of the model, with the revision that was made.

    Raises:
        ModelError: no model folder, one without licence or evaluation, or the Hub refuses it.
    """
    check_name(name, PREFIX + name)
    header = card_header(model)
    if model.folder is None or model.network.runtime is not None:
        raise ModelError(f"{model.name}: a model folder is needed, whose files are uploaded")
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint())
    with tempfile.TemporaryDirectory(prefix="crossband-push-") as temporary:
        folder = Path(temporary)
        for part in (WEIGHTS, DESCRIPTION, CALIBRATION, TRAINING):
            if part in (WEIGHTS, DESCRIPTION) or (model.folder / part).is_file():
                shutil.copyfile(model.folder / part, folder / part)
        if (model.folder / BASELINES).is_dir():
            shutil.copytree(model.folder / BASELINES, folder / BASELINES)
        card = model.folder / CARD
        text = read_text(card) if card.is_file() else make_card(model.describe())
        top = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
        (folder / CARD).write_text(f"---\n{top}---\n\n{_body(text)}", encoding="utf-8")
        try:
            api.create_repo(name, private=private, exist_ok=True)
            done: Any = api.upload_folder(
                repo_id=name,
                folder_path=folder,
                allow_patterns=list(WANTED),
                commit_message=f"{model.name}, weights {model.weights_hash[:12]}",
            )
        except Exception as error:
            raise ModelError(f"{PREFIX}{name}: cannot be pushed: {hub_line(error)}") from error
    return f"{PREFIX}{name}@{done.oid}"


def card_header(model: Model) -> dict[str, Any]:
    """Return the header of the card: licence, tags, pipeline tag, and metrics with baselines.

    Raises:
        ModelError: the model states no licence, or no evaluation.
    """
    about = model.about
    licence = str(about.get("licence") or "").strip()
    if not licence:
        raise ModelError(f"{model.name}: it does not state its licence, so it is not pushed")
    metrics = _metrics(about.get("metrics"))
    if not metrics:
        raise ModelError(
            f"{model.name}: it states no evaluation beside baselines (about.metrics), so it is not "
            "pushed"
        )
    known = licence.split(";")[0].strip().lower()
    stated = {"license": known if known in _LICENCES else "other"}
    if known not in _LICENCES or ";" in licence:
        stated["license_name"] = licence
    task = {"type": "image-to-image", "name": model.task}
    places = {"type": "held-out-places", "name": "held-out places"}
    result = {"task": task, "dataset": places, "metrics": metrics}
    return {
        **stated,
        "library_name": "crossband",
        "pipeline_tag": "image-to-image",
        "tags": ["crossband", "remote-sensing", "earth-observation", model.task],
        "model-index": [{"name": model.name, "results": [result]}],
    }


def _metrics(stated: Any) -> list[dict[str, Any]]:
    """Return the ratios to baselines over all places, as the Hub has metrics."""
    found = []
    for rows in stated.values() if isinstance(stated, dict) else ():
        for row in rows if isinstance(rows, list) else ():
            if not isinstance(row, dict) or "baseline" not in row or row.get("places") != "all":
                continue
            value, kind = row.get("value", row.get("ratio")), row.get("metric", "mae")
            count = row.get("count", row.get("n"))
            if isinstance(value, int | float):
                words = f"{kind} / {kind} of the baseline {row['baseline']}, {count} places"
                found.append({"type": f"{kind}_ratio", "name": words, "value": float(value)})
    return found


def _body(card: str) -> str:
    """Return a card without the header that it may have already."""
    if not card.startswith("---\n"):
        return card
    return card.partition("\n---\n")[2].lstrip("\n") or card
