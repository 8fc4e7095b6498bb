"""Fine-tuning: start a training from the weights of a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crossband.core.atomic import write_text_atomically
from crossband.core.messages import say
from crossband.core.signature import Signature
from crossband.errors import ModelError, RecipeError
from crossband.model import Model
from crossband.model import folder as models
from crossband.model.adapt import ModelBands, adapt, architecture_difference
from crossband.model.training_data import take_over_training_data, trained_units
from crossband.networks import Generator
from crossband.networks.generators.blend import Blend
from crossband.training.callbacks.checkpoints import newest
from crossband.training.methods.base import Method
from crossband.training.methods.least_squares import LeastSquares

#: File beside the checkpoints that records the start, for the model of a resumed run.
START_FILE = "start.json"


def load_start(
    method: Method, name: str | None, folder: Path, *, resume: bool = False, quiet: bool = False
) -> dict[str, Any] | None:
    """Copy the weights of a model to the generator of a method and to its running average.

    Args:
        method: the method of the recipe.
        name: a bundled model, a folder or `hf://owner/name`; None keeps the random weights.
        folder: folder of the run's checkpoints.
        resume: the weights come from a checkpoint if there is one, so that none are loaded here.
        quiet: print nothing.

    Returns:
        A record for the model (name, hash of the weights, bands whose weights were copied), or None
        where the run started from random weights.

    Raises:
        RecipeError: the model's generator has another architecture than the recipe's, the method
            cannot start from weights, or the run to resume had another start.
        ModelError: there is no such model.
    """
    if resume and newest(folder, quiet=True) is not None:
        return _resumed(folder, name)
    if resume and name is None:  # killed before the first checkpoint: it begins anew
        name = begun_from(folder)
    if name is None:
        return None
    if isinstance(method, LeastSquares):
        raise RecipeError("--start: LeastSquares solves for its weights, a start changes nothing")
    model = models.load(name)
    generator, member = _choose(model, method.generator, name)
    old = ModelBands(model.signature.source, model.signature.target)
    new = ModelBands(method.signature.source, method.signature.target)
    try:
        weights = adapt(generator, old, method.generator, new)
    except ModelError as error:
        raise RecipeError(f"--start {name}: {error}") from error
    method.generator.load_state_dict(weights)
    if method.average is not None:  # it was copied before the generator got these weights
        method.average.load_state_dict(weights)
    begun: dict[str, Any] = {"name": str(name), "sha256": model.weights_hash}
    if member:
        begun["member"] = member
    begun["source"] = [b for b in new.source if b in old.source]
    begun["target"] = [b for b in new.target if b in old.target]
    begun["units"] = sorted(trained_units(model.about, model.signature))
    if not quiet:
        say(_line(begun, model, method.signature), error=True)
    return begun


def knows_targets(targets: Sequence[str], name: str, folder: Path, *, resume: bool = False) -> bool:
    """Return whether a model makes all target bands of a recipe, so that it can be fine-tuned.

    Args:
        targets: names of the bands.
        name: a bundled model, a folder or `hf://owner/name`.
        folder: folder of the run's checkpoints.
        resume: the record of the run says it if there is one, as the model may be gone.
    """
    begun = _begun(folder) if resume else None
    known = begun["target"] if begun else models.load(name).signature.target
    return set(targets) <= set(known)


def write_start(begun: dict[str, Any] | None, folder: Path) -> None:
    """Write the record of a start beside the checkpoints, for a resumed run."""
    if begun is not None:
        write_text_atomically(folder / START_FILE, json.dumps(begun, indent=2) + "\n")


def keep_training_data(
    begun: dict[str, Any] | None,
    unguided: Model | None,
    own: Sequence[tuple[str, str]],
    folder: Path,
) -> None:
    """Write the pairs that a model was trained on into its folder, with those of its start.

    Args:
        begun: record of the start.
        unguided: model whose network is part of this one.
        own: names and hashes of the pairs of this training.
        folder: of the model.
    """
    known: list[Path | None] = [unguided.folder if unguided else None]
    try:  # the model is whole: nothing here may fail it
        started = [models.find(begun["name"])] if begun else []
        known += [path for path in started if path.is_dir()]  # an ONNX file has no list
        take_over_training_data(known, folder, own)
    except ModelError as error:
        say(f"crossband: pairs that the start was trained on are not known: {error}", error=True)
        take_over_training_data([], folder, own)


def _resumed(folder: Path, name: str | None) -> dict[str, Any] | None:
    begun = _begun(folder)
    before = begun_from(folder)
    if name is not None and name != before:
        raise RecipeError(
            f"--start {name}: the run that --resume goes on with began from "
            f"{before or 'random weights'}; --overwrite begins anew"
        )
    return begun


def _begun(folder: Path) -> dict[str, Any] | None:
    path = folder / START_FILE
    begun: dict[str, Any] | None = json.loads(path.read_bytes()) if path.is_file() else None
    return begun


def begun_from(folder: Path) -> str | None:
    """Return the model that the run with these checkpoints began from."""
    begun = _begun(folder)
    return str(begun["name"]) if begun else None


def _choose(model: Model, wanted: Generator, name: str) -> tuple[Generator, str]:
    """Return the generator with the wanted architecture, and which member of a blend it is."""
    network = model.network
    found = architecture_difference(network, wanted)
    if found is None:
        return network, ""
    if isinstance(network, Blend) and not isinstance(wanted, Blend):
        members = [part for part in network.parts if isinstance(part, Generator)]
        for number, part in enumerate(members, start=1):
            if architecture_difference(part, wanted) is None:
                return part, f"its {type(part).__name__} (member {number} of {len(members)})"
        kinds = [type(part).__name__ for part in members]
        alike = [part for part in members if type(part) is type(wanted)]
        if not alike:
            raise RecipeError(
                f"--start {name}: it is a blend of {', '.join(kinds)}, and the recipe's generator "
                f"is {type(wanted).__name__}"
            )
        found = architecture_difference(alike[0], wanted)
        assert found is not None
    key, there, here = found
    if key == "network":
        raise RecipeError(f"--start {name}: it is a {there}, and the recipe's generator a {here}")
    raise RecipeError(
        f"--start {name}: its {type(wanted).__name__} has {key} {there}, the recipe's has {here}"
    )


def _line(begun: dict[str, Any], model: Model, signature: Signature) -> str:
    """Return one line that says which bands' weights were copied and which were not."""
    parts = []
    for side in ("source", "target"):
        mine, theirs = getattr(signature, side), getattr(model.signature, side)
        kept = begun[side]
        names = f": {', '.join(kept)}" if kept else ""
        parts.append(f"{len(kept)} of {len(mine)} {side} bands taken over{names}")
        fresh = [b for b in mine if b not in kept]
        if fresh:
            weights = "zero" if side == "source" else "fresh"
            parts.append(f"new: {', '.join(fresh)} ({weights} weights)")
        left = [b for b in theirs if b not in kept]
        if left:
            parts.append(f"left out: {', '.join(left)}")
    moved = _other_ranges(model.signature, signature)
    same = f"the recipe's, other than the start's for {', '.join(moved)}" if moved else "the same"
    parts.append(f"normalisation: {same}")
    member = f", {begun['member']}" if "member" in begun else ""
    return f"start: {begun['name']} ({begun['sha256'][:12]}){member}: {'; '.join(parts)}"


def _other_ranges(one: Signature, other: Signature) -> list[str]:
    """Return the bands, with units, that both signatures have but normalise differently."""
    found = []
    for unit in [u for u in other.units if u in one.units]:
        for side in ("source", "target"):
            ranges = [
                dict(zip(getattr(s, side), map(tuple, getattr(s.units[unit], side)), strict=True))
                for s in (one, other)
            ]
            found += [f"{b} ({unit})" for b, r in ranges[1].items() if ranges[0].get(b, r) != r]
    return found
