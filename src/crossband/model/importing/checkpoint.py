"""A public checkpoint in, a model folder out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossband.core.atomic import check_folder
from crossband.core.sensors import DISPLAY, VALID_RANGE
from crossband.core.signature import Signature, UnitRange
from crossband.core.tensor_files import Tensors, states, under
from crossband.errors import CrossbandError, ModelError, UnitError, nearest
from crossband.model import Model
from crossband.model.card import make_card
from crossband.model.files import DESCRIPTION
from crossband.model.importing.layouts import LAYOUTS, Layout, is_discriminator, known
from crossband.model.importing.plans import Plan, Wishes, carry


@dataclass(frozen=True)
class Side:
    """What a user says of the source or of the target.

    Attributes:
        bands: common names, in the order of the public network's channels. A source band may be
            named more than once: it is then given to each of these channels.
        unit: physical unit.
        ranges: (low, high) in that unit, which are -1 and 1 for the public network: one for all
            bands, or one for each different band. Empty: 0 and 1, of the unit `display` only.
    """

    bands: Sequence[str]
    unit: str
    ranges: Sequence[tuple[float, float]] = ()

    @property
    def different(self) -> list[str]:
        """The bands, each once."""
        return list(dict.fromkeys(self.bands))


@dataclass(frozen=True)
class Origin:
    """Where a checkpoint comes from, for the model's card; nothing of it is checked or guessed.

    Attributes:
        licence: of the weights.
        url: where they are published.
    """

    licence: str | None = None
    url: str | None = None


def import_checkpoint(
    path: str | Path,
    output: str | Path,
    *,
    task: str,
    source: Side,
    target: Side,
    name: str | None = None,
    part: str | None = None,
    wishes: Wishes | None = None,
    origin: Origin | None = None,
    overwrite: bool = False,
) -> tuple[Path, list[str]]:
    """Make a model folder of a public generator's checkpoint.

    Args:
        path: file that `torch.save` wrote (opened with `weights_only`), or `.safetensors`.
        output: the new model folder.
        task: what the model does, as in `sar2optical`.
        source: what goes in.
        target: what comes out.
        name: of the model; the folder's where None.
        part: which generator, where the file holds several.
        wishes: what the file cannot say of the network.
        origin: licence and address.
        overwrite: replace a model folder that is there.

    Returns:
        The folder, and lines that say what was found.

    Raises:
        ModelError: the file is no such checkpoint, or does not fit what was said of it.
        UnitError: an unknown unit, or ranges that are missing.
        OutputError: there is something at `output`.
    """
    path, output = Path(path), Path(output)
    check_folder(output, overwrite, DESCRIPTION)
    signature = _signature(source, target)
    layout, tensors = _find(path, part)
    plan = layout.read(tensors, wishes or Wishes())
    network = carry(tensors, plan, source.bands, target.bands)
    origin = origin or Origin()
    about: dict[str, Any] = {
        "description": f"{', '.join(signature.source)} to {', '.join(signature.target)}; weights "
        f"of {path.name}, trained elsewhere",
        "imported": {
            "file": path.name,
            "sha256": _sha256(path),
            "part": tensors.part,
            "code": layout.code,
            "url": origin.url,
        },
    }
    if origin.licence is not None:
        about["licence"] = origin.licence
    model = Model(network, signature, name=name or output.name, task=task, about=about)
    lines = _lines(layout, tensors, plan, model)
    folder = model.save(output, card=_card(model, source, plan, origin))
    return folder, lines


def _signature(source: Side, target: Side) -> Signature:
    if len(set(target.bands)) < len(target.bands):
        raise ModelError(f"--target-bands {','.join(target.bands)}: a band is named twice")
    other = None if target.unit == source.unit else target.unit
    ranges = UnitRange(_ranges(source, "source"), _ranges(target, "target"), other)
    return Signature(source.different, list(target.bands), {source.unit: ranges})


def _ranges(side: Side, what: str) -> list[tuple[float, float]]:
    if side.unit not in VALID_RANGE:
        raise UnitError(f"unknown unit {side.unit!r}: {nearest(side.unit, VALID_RANGE)}")
    ranges, bands = list(side.ranges), side.different
    if not ranges:
        if side.unit != DISPLAY:
            raise UnitError(
                f"--{what}-range is missing: which {side.unit} values were -1 and 1 in training?"
            )
        ranges = [(0.0, 1.0)]
    if len(ranges) == 1:
        ranges *= len(bands)
    if len(ranges) != len(bands):
        raise ModelError(
            f"--{what}-range is given {len(ranges)} times for {len(bands)} bands "
            f"({', '.join(bands)}): once for all, or once for each"
        )
    for low, high in ranges:
        if not low < high:
            raise ModelError(f"--{what}-range {low:g} {high:g}: the first must be below the second")
    return ranges


def _find(path: Path, part: str | None) -> tuple[Layout, Tensors]:
    """Return the generator of a file, or the one of its generators that is asked for."""
    found: dict[str, tuple[Layout, Tensors]] = {}
    everything = states(path)
    for at, state in everything:
        for layout in LAYOUTS:
            for key in (k for k in state if k == layout.anchor or k.endswith(f".{layout.anchor}")):
                tensors = under(path, at, state, key.removesuffix(layout.anchor))
                shape = tensors.shape(layout.anchor)
                marked = not layout.mark or any(layout.mark in k for k in tensors.left())
                if len(shape) == 4 and shape[-1] == layout.kernel and marked:
                    found[tensors.part] = layout, tensors
    if part is not None:
        if part not in found:
            raise ModelError(f"{path}: no generator {part!r} in it: {nearest(part, found)}")
        return found[part]
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise ModelError(f"{path}: it holds several generators; give --part {' or '.join(found)}")
    if any(is_discriminator(state) for _, state in everything):
        raise ModelError(
            f"{path}: a generator's checkpoint is needed, and this looks like a discriminator's: a "
            "chain of convolutions that ends in one channel"
        )
    names = ", ".join(list(everything[0][1])[:3])
    raise ModelError(
        f"{path}: its tensors are named as in no code that is known ({known()}): {names}, ..."
    )


def _lines(layout: Layout, tensors: Tensors, plan: Plan, model: Model) -> list[str]:
    part = f" ({tensors.part})" if tensors.part else ""
    network = model.network
    size = ", ".join(
        f"{key} {plan.arguments[key]}"
        for key in ("width", "levels", "blocks", "enhancers", "upsample")
        if key in plan.arguments
    )
    margin = "unbounded" if network.margin is None else f"{network.margin} px"
    bands = len(model.signature.source)
    added = f"; {plan.takes} channels of {bands} band{'s' * (bands > 1)} became {bands}"
    lines = [
        f"found{part}: {layout.title} of {layout.code}",
        f"made: {plan.network}, {size}; {'; '.join(plan.notes)}",
        f"{model.parameters_total:,} parameters, margin {margin}, stride {network.stride}"
        + added * (plan.takes > bands),
    ]
    if tensors.others:
        names = dict.fromkeys(k.partition(".")[0] for k in tensors.others)
        lines.append(f"not read: {len(tensors.others)} tensors of {', '.join(names)}")
    return lines


def _card(model: Model, source: Side, plan: Plan, origin: Origin) -> str:
    """Return the model's README.md: what it is, and where it comes from."""
    about = model.about["imported"]
    part = f", its part `{about['part']}`" if about["part"] else ""
    lines = [
        make_card(model.describe()),
        "## Where it comes from",
        "",
        f"Imported by `crossband import` from `{about['file']}`{part} (SHA-256 "
        f"`{about['sha256']}`), a checkpoint in the form of {about['code']}. The weights were "
        "trained elsewhere; on which data, and how, that page says.",
        "",
        f"- Address: {origin.url or 'not given'}",
        f"- Licence of the weights: {origin.licence or 'not given'}",
        f"- Norms: {'; '.join(plan.notes)}",
        "- Dropout: none, as always when Crossband translates",
    ]
    repeated = [b for b in source.different if list(source.bands).count(b) > 1]
    if repeated:
        lines.append(
            f"- The file's network takes {len(source.bands)} channels, which are "
            f"{', '.join(source.bands)}; the weights of channels that are one band were added up"
        )
    lines += [
        "- Bands, units and ranges are those that were given at the import",
        "",
        "## How good it is",
        "",
        "Nothing was measured, and no baseline was fitted beside it. `crossband evaluate` holds it "
        "against true pairs.",
        "",
    ]
    return "\n".join(lines)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CrossbandError(f"{path}: cannot be read: {error.strerror}") from error
