"""A network with its signature: physical values in, physical values out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from crossband.core.atomic import atomic_folder
from crossband.core.file_hash import sha256
from crossband.core.messages import printable
from crossband.core.python_words import public
from crossband.core.sensors import VALID_RANGE
from crossband.core.signature import Signature
from crossband.core.tensor_hash import hash_tensors
from crossband.core.version import __version__
from crossband.core.warned import warn
from crossband.errors import CrossbandError, ModelError, OutputError
from crossband.model.calibration import Calibration
from crossband.model.card import make_card
from crossband.model.description import DTYPES, check_line, check_name
from crossband.model.files import BASELINES, CARD, DESCRIPTION, FORMAT, OWN, WEIGHTS
from crossband.model.training_data import take_over_training_data
from crossband.networks import Generator, parameter_count
from crossband.networks.conditions import Conditions

_DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in DTYPES}
#: How far beyond the valid range of its unit, as a share of it, values pass without a warning.
_ROOM = 0.25


class Model(nn.Module):
    """A network with its signature: physical values in, physical values out.

    Args:
        network: the generator, working on normalised values.
        signature: bands, units and ranges.
        name: name of the model, as in `rgb2nir`.
        task: task of the model, as in `rgb2nir`, `sar2optical`, `super-resolution`.
        about: plain data for people: `description`, `sensors`, `gsd`, `licence`, `metrics`,
            `training`.

    Attributes:
        baselines: trivial models fitted on the same pairs, by name (`mean`, `linear`, `mlp`).
        folder: folder it was loaded from.
        address: argument of `load`; None for a model that was not loaded.
    """

    def __init__(
        self,
        network: Generator,
        signature: Signature,
        *,
        name: str,
        task: str,
        about: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_name(name)
        check_line("the task of a model", task)
        fault = network.fault(len(signature.source), len(signature.target), len(signature.guide))
        if fault is not None:
            raise ModelError(f"{name}: the network {fault}")
        self.network, self.signature = network, signature
        self.name, self.task, self.about = printable(name), printable(task), about or {}
        self.baselines: dict[str, Model] = {}
        self._file_hash = self._hash_then = ""
        self.folder: Path | None = None
        self.address: str | None = None
        self._calibration: Calibration | None = None
        self._range_warned = False

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the weights file; empty for weights never saved, or changed since then.

        The tensors are hashed each time, as weights can be changed without the model's knowledge.
        """
        known = self._file_hash
        return known if not known or self._hash_now() == self._hash_then else ""

    @weights_hash.setter
    def weights_hash(self, found: str) -> None:
        self._file_hash, self._hash_then = found, self._hash_now()

    def _hash_now(self) -> str:
        return hash_tensors(self.network.state_dict())

    @property
    def calibration(self) -> Calibration | None:
        """What is known of the model's errors; None where nothing is known of these weights.

        A model that was trained further, or changed in another way, has none.
        """
        known = self._calibration
        return known if known is not None and known.weights == self.weights_hash else None

    @calibration.setter
    def calibration(self, found: Calibration | None) -> None:
        if found is not None and found.weights != self.weights_hash:
            raise ModelError(f"{self.name}: the calibration is of other weights")
        self._calibration = found

    @property
    def parameters_total(self) -> int:
        """Number of parameters of the network."""
        return parameter_count(self.network)

    def check_unguided(self, what: str) -> None:
        """Raise CrossbandError if the network takes a guide, and `what` can give none."""
        if self.signature.guide:
            raise CrossbandError(
                f"{self.name} takes a guide, and {what} none: translate a file with --guide"
            )

    def forward(
        self, source: Tensor, unit: str | None = None, conditions: Conditions | None = None
    ) -> Tensor:
        """Translate physical values.

        Args:
            source: [B, Cs, H, W] or [Cs, H, W], bands in the signature's order, finite.
            unit: physical unit of the source; by default the signature's first.
            conditions: noise and places, for a network that takes them; if None, the noise is 0
                and the place unknown.

        Returns:
            float32 [B, Ct, H * scale, W * scale], clipped to the unit's valid range.

        Raises:
            UnitError: a unit that the model was not trained on.
            CrossbandError: a source of another shape or with other bands; weights that are not
                float32.
        """
        unit = unit or next(iter(self.signature.units))
        self.signature.check_unit(unit)
        if (what := _unfit(source)) is not None:
            raise CrossbandError(f"{self.name} takes a tensor of real numbers, not {what}")
        source = source.float() if source.dtype == torch.float64 else source
        batch = source if source.ndim == 4 else source[None]
        if batch.ndim != 4 or batch.shape[1] != len(self.signature.source):
            raise CrossbandError(
                f"{self.name} takes [B, {len(self.signature.source)}, H, W] "
                f"({', '.join(self.signature.source)}), not {list(source.shape)}"
            )
        kind = next((p.dtype for p in self.network.parameters()), torch.float32)
        if kind != torch.float32:
            raise CrossbandError(
                f"{self.name}: its weights are {kind}, and it computes with float32: model.float() "
                f"makes them so"
            )
        self._check_range(batch, unit)
        normal = self.signature.normalise(batch, [unit], "source")
        if conditions is not None and self.network.conditioned:
            answer = self.network.forward_conditioned(normal, conditions)
        else:
            answer = self.network(normal)
        out = self.signature.denormalise(answer, [unit], "target")
        out = out.clamp(*VALID_RANGE[self.signature.target_unit(unit)])
        return out if source.ndim == 4 else out[0]

    def _check_range(self, batch: Tensor, unit: str) -> None:
        """Warn once of values that are no physical values of their unit, as stored numbers."""
        if self._range_warned or not batch.numel() or torch.compiler.is_compiling():
            return
        low, high = VALID_RANGE[unit]
        least, most = (float(v) for v in torch.aminmax(batch.detach()))
        room = (high - low) * _ROOM
        if least < low - room or most > high + room:
            self._range_warned = True
            warn(
                f"{self.name} takes {unit} from {low:g} to {high:g}, and these values reach from "
                f"{least:.4g} to {most:.4g}: convert stored numbers (physical = stored x scale + "
                f"offset), or let model.translate(path) do it",
            )

    @public()
    def save(
        self,
        folder: str | Path,
        *,
        dtype: str = "float32",
        card: str | None = None,
        overwrite: bool = True,
    ) -> Path:
        """Write the model folder, baselines included.

        The calibration is written where the file holds the weights that were calibrated, and not
        rounded ones; else a warning says so, and the model has none any more.

        Args:
            folder: the folder to write; it appears when it is complete.
            dtype: data type of the weights: float32, bfloat16, float16.
            card: text of README.md; by default generated from `about`.
            overwrite: replace an existing model folder.

        Raises:
            OutputError: the folder exists, is no model, or cannot be written.
            ModelError: an unknown data type.
        """
        if dtype not in _DTYPES:
            raise ModelError(f"dtype={dtype!r}: weights are stored as {', '.join(_DTYPES)}")
        if self.network.runtime is not None:
            raise ModelError(f"{self.name}: a model in ONNX has no weights for a model folder")
        folder = Path(folder)
        with atomic_folder(folder, overwrite, DESCRIPTION, names=OWN) as temporary:
            self._save_into(temporary, dtype, card)
            take_over_training_data([self.folder], temporary)
        self.folder, self.address = folder, str(folder)
        return folder

    def _save_into(self, folder: Path, dtype: str, card: str | None) -> None:
        calibrated, own = self.calibration, self.network.state_dict()
        tensors = {
            k: (v.to(_DTYPES[dtype]) if v.is_floating_point() else v).contiguous().cpu()
            for k, v in own.items()
        }
        # Only one key: the order of several keys, and so the file's hash, would be random.
        try:
            save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        except SafetensorError as error:  # for a full disk, too
            raise OutputError(f"{folder / WEIGHTS}: cannot be written: {error}") from error
        (folder / WEIGHTS).chmod(0o644)  # safetensors makes it readable by its owner only
        self.weights_hash = sha256(folder / WEIGHTS)
        (folder / DESCRIPTION).write_text(
            json.dumps(self.describe(dtype), indent=2) + "\n", encoding="utf-8"
        )
        (folder / CARD).write_text(card or make_card(self.describe(dtype)), encoding="utf-8")
        kept = all(torch.equal(tensors[k].to(v.dtype), v.cpu()) for k, v in own.items())
        if self._calibration is not None and (calibrated is None or not kept):
            warn(
                f"{self.name}: the weights are not those that were calibrated, so the calibration "
                f"is left out; crossband calibrate makes a new one",
            )
            calibrated = None
        self._calibration = calibrated and replace(calibrated, weights=self.weights_hash)
        if self._calibration is not None:
            self._calibration.save(folder)
        for name, baseline in self.baselines.items():
            inner = folder / BASELINES / name
            inner.mkdir(parents=True)
            baseline._save_into(inner, "float32", None)

    def describe(self, dtype: str = "float32") -> dict[str, Any]:
        """Return the content of model.json."""
        n = self.network
        return {
            "format": FORMAT,
            "name": self.name,
            "task": self.task,
            "crossband": __version__,
            "network": {
                "class": type(n).__name__,
                "arguments": n.arguments,
                "margin": n.margin,
                "stride": n.stride,
                "scale": n.scale,
                "parameters": self.parameters_total,
            },
            "signature": self.signature.to_json(),
            "weights": {"file": WEIGHTS, "sha256": self.weights_hash, "dtype": dtype},
            "about": self.about,
        }


def _unfit(source: Any) -> str | None:
    """Return why an argument is no tensor of real numbers; None where it is one."""
    if not isinstance(source, Tensor):
        return type(source).__name__
    if not source.numel():
        return "an empty one"
    if source.layout != torch.strided:
        return "a sparse one"
    return str(source.dtype) if source.is_complex() or source.dtype == torch.bool else None
