"""Baselines of a run, fitted on the same data, and the blend of a model with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crossband.data.module import Pairs
from crossband.errors import RecipeError, nearest
from crossband.model import Model
from crossband.networks.generators.blend import Blend
from crossband.training import recipe
from crossband.training.callbacks.stopping import StopRequest
from crossband.training.run import TrainingRun, trained_model

#: Data options that a baseline takes from the main run: which pairs it uses, not their crops.
SHARED_DATA_OPTIONS = (
    "manifest",
    "shares",
    "balance",
    "min_valid",
    "degradation",
    "resize",
    "on_error",
    "val_fraction",
    "stratify",
    "fold",
    "folds",
    "scale",
    "cache_mb",
    "workers",
    "seed",
)


def fit_baseline(
    name: str, config: dict[str, Any], settings: Any, fast_run: bool, stop_request: StopRequest
) -> Model:
    """Fit a baseline on the same pairs, with the same inputs, normalisation and seed."""
    own = recipe.load(name)
    arguments = own["method"].setdefault("init_args", {})
    signature = settings.method.init_args.signature
    arguments["signature"] = config["method"]["init_args"]["signature"]
    recipe.set_option(own, "method.generator.in_channels", len(signature.source))
    recipe.set_option(own, "method.generator.out_channels", len(signature.target))
    if "scale" in (own["method"]["init_args"]["generator"].get("init_args") or {}):
        recipe.set_option(own, "method.generator.scale", _scale(config))
    theirs = config["data"]
    if theirs["class_path"].rpartition(".")[2] == Pairs.__name__:
        same = {
            k: v for k, v in (theirs.get("init_args") or {}).items() if k in SHARED_DATA_OPTIONS
        }
        own["data"]["init_args"] = (own["data"].get("init_args") or {}) | same
    else:
        own["data"] = theirs
    for key in ("seed", "device", "precision"):
        if key in config:
            own[key] = config[key]
    if fast_run:
        shorten(own)
    parsed = recipe.parse(own)
    run = TrainingRun(parsed, f"baseline {Path(name).stem}", None, stop_request)
    run.prepare()
    return trained_model(run, parsed, run.train())


def _scale(config: dict[str, Any]) -> int:
    """Return the scale of a recipe's data."""
    return int((config["data"].get("init_args") or {}).get("scale", 1))


def shorten(config: dict[str, Any]) -> None:
    """Set a recipe to two steps and one small validation window, for a fast run."""
    recipe.set_option(config, "method.max_steps", 2)
    if "class_path" not in config.get("data", {}) or "Pairs" in config["data"]["class_path"]:
        for key, value in (("steps", 2), ("val_windows", 1), ("val_tile", 64)):
            recipe.set_option(config, f"data.{key}", value)


def check_blend(settings: Any) -> None:
    """Check that a blend names baselines of the recipe and leaves a share for the network."""
    shares = settings.blend or {}
    known = [Path(b).stem for b in settings.baselines or []]
    for name in shares:
        if name not in known:
            raise RecipeError(
                f"--blend: {name!r} is no baseline of this run: {nearest(name, known)}"
            )
    if shares and not (min(shares.values()) > 0 and sum(shares.values()) < 1):
        raise RecipeError(f"--blend: shares must be above 0 and sum to less than 1, not {shares}")


def blended_model(model: Model, shares: dict[str, float]) -> Model:
    """Return a model whose output is the weighted mean of the model's and its baselines'."""
    networks = [model.network, *(model.baselines[name].network for name in shares)]
    weights = [1.0 - sum(shares.values()), *shares.values()]
    network = Blend.of(networks, weights).eval().requires_grad_(False)
    blended = Model(network, model.signature, name=model.name, task=model.task, about=model.about)
    blended.baselines = model.baselines
    return blended
