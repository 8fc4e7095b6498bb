"""Read a public checkpoint and write a model folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossband.core.atomic import check_folder
from crossband.core.file_hash import sha256
from crossband.core.made_from import make_fingerprint
from crossband.core.python_words import public
from crossband.core.sensors import DISPLAY, VALID_RANGE
from crossband.core.signature import Signature, UnitRange
from crossband.core.tensor_files import NamedTensors, state_dicts, with_prefix
from crossband.errors import CrossbandError, ModelError, UnitError, nearest
from crossband.model import Model
from crossband.model.card import make_card
from crossband.model.description import check_line
from crossband.model.files import DESCRIPTION
from crossband.model.importing.convert import Conversion, ImportOptions, convert
from crossband.model.importing.formats import FORMATS, CheckpointFormat, is_discriminator, known


@dataclass(frozen=True)
class BandSpec:
    """Bands, unit and ranges of the source or the target, as the user gives them.

    Attributes:
        bands: common names, in the order of the public network's channels. A source band may be
            named more than once; each of these channels then gets this band.
        unit: physical unit.
        ranges: (low, high) in that unit that are -1 and 1 for the public network: one for all
            bands, or one for each different band. Empty means 0 and 1, for the unit `display` only.
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
    """Where a checkpoint comes from, for the model card; what it says is not checked.

    Attributes:
        licence: of the weights.
        url: where they are published.
    """

    licence: str | None = None
    url: str | None = None

    def __post_init__(self) -> None:
        """Raise ModelError for a text of several lines."""
        for what, text in (("--licence", self.licence), ("--source-url", self.url)):
            if text is not None:
                check_line(what, text)


@public()
def import_checkpoint(
    path: str | Path,
    output: str | Path,
    *,
    task: str,
    source: BandSpec,
    target: BandSpec,
    name: str | None = None,
    part: str | None = None,
    options: ImportOptions | None = None,
    origin: Origin | None = None,
    overwrite: bool = False,
) -> tuple[Path, list[str]]:
    """Convert the checkpoint of a public generator to a model folder.

    Args:
        path: file that `torch.save` wrote (opened with `weights_only`), or `.safetensors`.
        output: the new model folder.
        task: what the model does, as in `sar2optical`.
        source: bands, unit and ranges of the source.
        target: bands, unit and ranges of the target.
        name: name of the model; by default the name of the folder.
        part: which generator, where the file holds several.
        options: what the file does not say about the network.
        origin: licence and address.
        overwrite: replace an existing model folder.

    Returns:
        The folder, and lines that describe what was found.

    Raises:
        ModelError: the file is no such checkpoint, or contradicts the arguments.
        UnitError: an unknown unit, or missing ranges.
        OutputError: `output` exists already.
        UpToDate: it was made of this file in the same way.
    """
    path, output = Path(path), Path(output)
    origin = origin or Origin()
    options = options or ImportOptions()
    given = {"task": task, "name": name, "part": part, "sides": (source, target)}
    made_from = make_fingerprint({**given, "options": options, "origin": origin}, [path])
    check_folder(output, overwrite, DESCRIPTION, made_from)
    signature = _signature(source, target)
    format_, tensors = _find(path, part)
    conversion = format_.read(tensors, options)
    network = convert(tensors, conversion, source.bands, target.bands)
    about: dict[str, Any] = {
        "description": f"{', '.join(signature.source)} to {', '.join(signature.target)}; weights "
        f"of {path.name}, trained elsewhere",
        "imported": {
            "file": path.name,
            "sha256": _sha256(path),
            "part": tensors.part,
            "code": format_.code,
            "url": origin.url,
        },
        "made_from": made_from,
    }
    if origin.licence is not None:
        about["licence"] = origin.licence
    model = Model(network, signature, name=name or output.name, task=task, about=about)
    lines = _lines(format_, tensors, conversion, model)
    folder = model.save(output, card=_card(model, source, conversion, origin), overwrite=overwrite)
    return folder, lines


def _signature(source: BandSpec, target: BandSpec) -> Signature:
    if len(set(target.bands)) < len(target.bands):
        raise ModelError(f"--target-bands {','.join(target.bands)}: a band is named twice")
    other = None if target.unit == source.unit else target.unit
    ranges = UnitRange(_ranges(source, "source"), _ranges(target, "target"), other)
    return Signature(source.different, list(target.bands), {source.unit: ranges})


def _ranges(side: BandSpec, what: str) -> list[tuple[float, float]]:
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


def _find(path: Path, part: str | None) -> tuple[CheckpointFormat, NamedTensors]:
    """Return the only generator of a file, or the generator with the name `part`."""
    found: dict[str, tuple[CheckpointFormat, NamedTensors]] = {}
    everything = state_dicts(path)
    for at, state in everything:
        for format_ in FORMATS:
            anchor = format_.anchor
            for key in (k for k in state if k == anchor or k.endswith(f".{anchor}")):
                tensors = with_prefix(path, at, state, key.removesuffix(anchor))
                shape = tensors.shape(format_.anchor)
                marked = not format_.mark or any(format_.mark in k for k in tensors.unused())
                if len(shape) == 4 and shape[-1] == format_.kernel and marked:
                    found[tensors.part] = format_, tensors
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


def _lines(
    format_: CheckpointFormat, tensors: NamedTensors, conversion: Conversion, model: Model
) -> list[str]:
    part = f" ({tensors.part})" if tensors.part else ""
    network = model.network
    size = ", ".join(
        f"{key} {conversion.arguments[key]}"
        for key in ("width", "levels", "blocks", "enhancers", "upsample")
        if key in conversion.arguments
    )
    margin = "unbounded" if network.margin is None else f"{network.margin} px"
    bands = len(model.signature.source)
    added = f"; {conversion.in_channels} channels of {bands} band{'s' * (bands > 1)} became {bands}"
    lines = [
        f"found{part}: {format_.title} of {format_.code}",
        f"made: {conversion.network}, {size}; {'; '.join(conversion.notes)}",
        f"{model.parameters_total:,} parameters, margin {margin}, stride {network.stride}"
        + added * (conversion.in_channels > bands),
    ]
    if tensors.others:
        names = dict.fromkeys(k.partition(".")[0] for k in tensors.others)
        lines.append(f"not read: {len(tensors.others)} tensors of {', '.join(names)}")
    return lines


def _card(model: Model, source: BandSpec, conversion: Conversion, origin: Origin) -> str:
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
        f"- Norms: {'; '.join(conversion.notes)}",
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
        return sha256(path)
    except OSError as error:
        raise CrossbandError(f"{path}: cannot be read: {error.strerror}") from error
