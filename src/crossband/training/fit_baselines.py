"""Baselines of a run, fitted on the same data, and the blend of a model with them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from crossband.core.messages import say
from crossband.data.module import Pairs
from crossband.errors import RecipeError, nearest
from crossband.model import Model
from crossband.model import folder as models
from crossband.model.files import DESCRIPTION
from crossband.networks.generators.blend import Blend
from crossband.networks.generators.familiar_blend import FamiliarBlend
from crossband.networks.generators.local_pyramid import LocalPyramid
from crossband.training import recipe, recipe_parser
from crossband.training.callbacks.stopping import StopRequest
from crossband.training.methods.batches import normalise_batch
from crossband.training.recipe_keys import KEYS
from crossband.training.run import TrainingRun, describe, trained_model

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

#: Value of `blend_by` for a blend that applies only in unfamiliar surroundings.
FAMILIARITY = "familiarity"
#: Number of training pixels whose surroundings define what is familiar, in all and in each crop.
SAMPLES, PIXELS = 16_384, 4


def leave_out(config: dict[str, Any], given: Collection[str]) -> None:
    """Remove the baselines of a recipe, and its own blend with them.

    Args:
        config: a checked recipe; changed in place.
        given: dotted names of the options that the user has given; a blend among them is refused
            later, as it names no baseline.
    """
    config["baselines"] = None
    if (
        config.get("blend")
        and "blend" not in given
        and not any(g.startswith("blend.") for g in given)
    ):
        config["blend"] = None
        say(
            "--no-baselines: the recipe's blend needs them: the model is the network alone",
            error=True,
        )


def fit_baselines(
    settings: Any, fast_run: bool, stop_request: StopRequest, kept: Path
) -> dict[str, Model]:
    """Return the baselines of a recipe by name, each fitted in a phase of its own.

    Args:
        settings: the parsed recipe.
        fast_run: two steps each.
        stop_request: made by signals.
        kept: folder that keeps each one when it is finished, for a resumed run.
    """
    names = list(settings.baselines or [])
    fitted = {}
    for number, name in enumerate(names, start=1):
        title = f"fitting baseline {Path(name).stem} ({number} of {len(names)})"
        fitted[Path(name).stem] = _fit_baseline(
            name, title, settings, fast_run, stop_request, kept / Path(name).stem
        )
    return fitted


def _fit_baseline(
    name: str, title: str, settings: Any, fast_run: bool, stop_request: StopRequest, kept: Path
) -> Model:
    """Fit a baseline on the same pairs, with the same inputs, normalisation and seed.

    Its recipe has a precision and a balance of its own, unless those of the run are stated: they
    are not their defaults, as a run's `config.yaml` states these, too. One that lies in `kept` and
    was fitted with the same options on the same pairs is taken.
    """
    config = yaml.safe_load(recipe_parser.dump(settings))
    own = recipe.load(name)
    arguments = own["method"].setdefault("init_args", {})
    signature = settings.method.init_args.signature
    arguments["signature"] = _without_guide(config["method"]["init_args"]["signature"])
    recipe.set_option(own, "method.generator.in_channels", len(signature.source))
    recipe.set_option(own, "method.generator.out_channels", len(signature.target))
    if "scale" in (own["method"]["init_args"]["generator"].get("init_args") or {}):
        recipe.set_option(own, "method.generator.scale", _scale(config))
    data = config["data"]
    if data["class_path"].rpartition(".")[2] == Pairs.__name__:
        same = {k: v for k, v in data["init_args"].items() if k in SHARED_DATA_OPTIONS}
        if same["balance"] is None:
            del same["balance"]
        own["data"]["init_args"] = (own["data"].get("init_args") or {}) | same
    else:
        own["data"] = data
    for key in ("seed", "device", "precision"):
        if config[key] != KEYS[key][1]:
            own[key] = config[key]
    if fast_run:
        shorten(own)
    parsed = recipe_parser.parse(own)
    run = TrainingRun(parsed, title, None, stop_request)
    run.prepare()
    made_from = describe(run, parsed)
    known = {key: made_from.get(key) for key in ("config", "data", "versions")}
    about = {"fitted_from": json.loads(json.dumps(known))}
    if (kept / DESCRIPTION).is_file():
        fitted = models.load(kept)
        if fitted.about == about:
            fitted.about = {}
            return fitted
    fitted = trained_model(run, parsed, run.train())
    fitted.about = about
    fitted.save(kept)
    fitted.about = {}
    return fitted


def _without_guide(signature: dict[str, Any]) -> dict[str, Any]:
    """Return the signature of a network that takes only the source, as data of a recipe."""
    plain = {key: value for key, value in signature.items() if key != "guide"}
    units = {
        unit: {key: value for key, value in ranges.items() if key != "guide"}
        for unit, ranges in signature["units"].items()
    }
    return {**plain, "units": units}


def _scale(config: dict[str, Any]) -> int:
    """Return the scale of a recipe's data."""
    return int((config["data"].get("init_args") or {}).get("scale", 1))


def shorten(config: dict[str, Any]) -> None:
    """Set a recipe to two steps and one small validation window, for a fast run."""
    recipe.set_option(config, "method.max_steps", 2)
    if "class_path" not in config.get("data", {}) or "Pairs" in config["data"]["class_path"]:
        for key, value in (("steps", 2), ("val_windows", 1), ("val_tile", 64)):
            recipe.set_option(config, f"data.{key}", value)


def check_names(names: Any) -> None:
    """Raise RecipeError for a baseline that is unknown, or called as another one is.

    Args:
        names: as the recipe states them; what is no list of names is left to its parser.
    """
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return
    twice = [name for name, count in Counter(Path(n).stem for n in names).items() if count > 1]
    if twice:
        raise RecipeError(f"--baselines: two are called {twice[0]}; the model stores one")
    for name in names:
        recipe.load(name)


def check_blend(settings: Any) -> None:
    """Check that a blend names baselines of the recipe and leaves a share for the network.

    A blend by familiarity may leave none: in familiar surroundings only the network is used.
    """
    shares = settings.blend or {}
    familiar = bool(shares) and settings.blend_by == FAMILIARITY
    known = [Path(b).stem for b in settings.baselines or []]
    for name in shares:
        if name not in known:
            raise RecipeError(
                f"--blend: {name!r} is no baseline of this run: {nearest(name, known)}"
            )
    whole = sum(shares.values())
    fits = whole < 1 or (familiar and math.isclose(whole, 1))
    if shares and not (min(shares.values()) > 0 and fits):
        most = "at most" if familiar else "less than"
        raise RecipeError(f"--blend: shares must be above 0 and sum to {most} 1, not {shares}")
    if familiar:
        for key, part, wanted in (
            ("method.generator", settings.method.init_args.generator, LocalPyramid),
            ("data", settings.data, Pairs),
        ):
            if part.class_path.rpartition(".")[2] != wanted.__name__:
                raise RecipeError(
                    f"--blend_by familiarity needs {wanted.__name__} as --{key}, not "
                    f"{part.class_path.rpartition('.')[2]}"
                )


def blended_model(model: Model, settings: Any, data: Any, seed: int) -> Model:
    """Return a model whose output is the weighted mean of those of a model and its baselines.

    Args:
        model: the trained model with its baselines.
        settings: the parsed recipe: `blend` has the weights, `blend_by` says where they apply.
        data: the training data; with `familiarity`, its first batches define what is familiar.
        seed: seed of the run.
    """
    shares = settings.blend
    networks = [model.network, *(model.baselines[name].network for name in shares)]
    weights = [max(1.0 - sum(shares.values()), 0.0), *shares.values()]
    blend = Blend.of(networks, weights)
    if settings.blend_by == FAMILIARITY:
        blend = familiar = FamiliarBlend.of(networks, weights)
        familiar.fit_centres(_surroundings(model, data, seed), seed)
    network = blend.eval().requires_grad_(False)
    blended = Model(network, model.signature, name=model.name, task=model.task, about=model.about)
    blended.baselines = model.baselines
    return blended


@torch.no_grad()
def _surroundings(model: Model, data: Pairs, seed: int) -> Tensor:
    """Return the features of the surroundings of random training pixels: [N, F].

    Each crop gives the same number of pixels, so that places are weighted as in training.
    """
    network = model.network
    assert isinstance(network, LocalPyramid)
    random, features = torch.Generator().manual_seed(seed), []
    for batch in data.first_batches(min(data.steps, -(-SAMPLES // (data.batch * PIXELS)))):
        source, target, mask, _ = normalise_batch(model.signature, batch)
        cells = network.description(network.surroundings(source))
        context = (source.shape[-1] - target.shape[-1]) // 2
        for sample, where in enumerate(mask[:, 0]):
            pixels = where.nonzero()
            pixels = pixels[torch.randperm(len(pixels), generator=random)[:PIXELS]]
            rows, columns = (pixels.T + context) // network.stride
            features.append(cells[sample][rows, columns])
    return torch.cat(features)
