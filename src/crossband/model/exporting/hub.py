"""Put a model folder on the Hugging Face Hub, with a card that has a header of YAML."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from crossband.core.json_text import read_json
from crossband.core.python_words import public
from crossband.core.regular_file import read_text
from crossband.errors import ModelError
from crossband.model.card import make_card, overall_ratios
from crossband.model.description import check_line
from crossband.model.exporting.measured import read_ratios
from crossband.model.files import BASELINES, CALIBRATION, CARD, DESCRIPTION, TRAINING, WEIGHTS
from crossband.model.hub import PREFIX, WANTED, check_name, endpoint, hub_line
from crossband.model.model import Model

#: Licences as the Hub writes them; others are `other`, with their words.
_LICENCES = ("apache-2.0", "mit", "cc-by-4.0", "cc0-1.0", "bsd-3-clause", "gpl-3.0")


@public()
def push(
    model: Model,
    name: str,
    *,
    private: bool = False,
    licence: str | None = None,
    report: str | Path | None = None,
) -> str:
    """Upload a model folder.

    Args:
        model: loaded from a folder.
        name: owner and name of the repository, which is made where it is missing.
        private: make a private one.
        licence: of the weights; by default the one that the model states.
        report: folder of `crossband evaluate`, whose ratios to the baselines are stated in place
            of the model's own.

    Returns:
        The address of the model, with the revision that was made.

    Raises:
        ModelError: no model folder, one without licence or evaluation, a report of other weights,
            or the Hub refuses it.
    """
    check_name(name, PREFIX + name)
    made = make_card(model.describe())
    model = _stating(model, licence, report)
    header = card_header(model)
    if model.folder is not None and not model.weights_hash:
        raise ModelError(
            f"{model.name}: its weights are not those of {model.folder} any more; save it first"
        )
    if model.folder is None or model.network.runtime is not None:
        raise ModelError(f"{model.name}: a model folder is needed, whose files are uploaded")
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint())
    with tempfile.TemporaryDirectory(prefix="crossband-push-") as temporary:
        folder = Path(temporary)
        for part in (WEIGHTS, CALIBRATION, TRAINING):
            if part == WEIGHTS or (model.folder / part).is_file():
                shutil.copyfile(model.folder / part, folder / part)
        described = read_json(model.folder / DESCRIPTION, ModelError) | {"about": model.about}
        (folder / DESCRIPTION).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
        if (model.folder / BASELINES).is_dir():
            shutil.copytree(model.folder / BASELINES, folder / BASELINES)
        card = model.folder / CARD
        text = read_text(card) if card.is_file() else made
        if text == made:  # nobody has written a card by hand
            text = make_card(model.describe())
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


def _stating(model: Model, licence: str | None, report: str | Path | None) -> Model:
    """Return a model that states another licence, and the ratios of a report."""
    about = dict(model.about)
    if licence is not None:
        check_line("--licence", licence)
        about["licence"] = licence
    if report is not None:
        about["metrics"] = read_ratios(report, model)
    stating = copy.copy(model)
    stating.about = about
    return stating


def card_header(model: Model) -> dict[str, Any]:
    """Return the header of the card: licence, tags, pipeline tag, and metrics with baselines.

    Raises:
        ModelError: the model states no licence, or no evaluation.
    """
    about = model.about
    licence = str(about.get("licence") or "").strip()
    if not licence:
        raise ModelError(
            f"{model.name}: it does not state its licence, so it is not pushed: give one"
        )
    metrics = _metrics(about.get("metrics"))
    if not metrics:
        raise ModelError(
            f"{model.name}: it states no evaluation beside baselines, so it is not pushed: give "
            "the report of one"
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
    return [
        {
            "type": f"{r['metric']}_ratio",
            "name": f"{r['metric']} / {r['metric']} of the baseline {r['baseline']}, "
            f"{r['count']} places",
            "value": float(r["value"]),
        }
        for r in overall_ratios(stated)
    ]


def _body(card: str) -> str:
    """Return a card without the header that it may have already."""
    if not card.startswith("---\n"):
        return card
    return card.partition("\n---\n")[2].lstrip("\n") or card
