"""The model folder: `model.safetensors` + `model.json` + `README.md`, all that is needed.

A folder is data. Loading runs no pickle and imports nothing that the JSON names: the network is
found by its class name among the registered generators and built from the stored arguments.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from crossband import __version__
from crossband.errors import CrossbandError, ModelError, OutputError, nearest
from crossband.networks import Generator, parameter_count
from crossband.networks.conditions import Conditions
from crossband.registry import build
from crossband.sensors import VALID_RANGE
from crossband.signature import Signature

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

FORMAT = 1
WEIGHTS, DESCRIPTION, CARD, BASELINES = "model.safetensors", "model.json", "README.md", "baselines"
_PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_KEYS = ("format", "name", "task", "crossband", "network", "signature", "weights", "about")


class Model(nn.Module):
    """A network with its signature: physical values in, physical values out.

    Args:
        network: the generator, working on normalised values.
        signature: bands, units and ranges.
        name: what it is called, as in `rgb2nir`.
        task: what it does, as in `rgb2nir`, `sar2optical`, `super-resolution`.
        about: plain data for people: `description`, `sensors`, `gsd`, `licence`, `metrics`,
            `training`.

    Attributes:
        baselines: trivial models fitted on the same pairs, by name (`mean`, `linear`, `mlp`).
        weights_hash: SHA-256 of the weights file; empty for a model that was never saved.
        folder: where it was loaded from.
        address: what `load` was given; None for a model that was not loaded.
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
        if (network.in_channels, network.out_channels) != (
            len(signature.source),
            len(signature.target),
        ):
            raise ModelError(
                f"{name}: the network takes {network.in_channels} bands and gives "
                f"{network.out_channels}, the signature says {len(signature.source)} and "
                f"{len(signature.target)}"
            )
        self.network, self.signature = network, signature
        self.name, self.task, self.about = name, task, about or {}
        self.baselines: dict[str, Model] = {}
        self.weights_hash = ""
        self.folder: Path | None = None
        self.address: str | None = None

    @property
    def parameters_total(self) -> int:
        """Number of parameters of the network."""
        return parameter_count(self.network)

    def forward(
        self, source: Tensor, unit: str | None = None, conditions: Conditions | None = None
    ) -> Tensor:
        """Translate physical values.

        Args:
            source: [B, Cs, H, W] or [Cs, H, W], bands in the signature's order, finite.
            unit: physical unit of the source; the signature's first where None.
            conditions: noise and places, for a network that takes them; where None the noise is 0
                and the place unknown.

        Returns:
            float32 [B, Ct, H * scale, W * scale], clipped to the unit's valid range.
        """
        unit = unit or next(iter(self.signature.units))
        self.signature.check_unit(unit)
        batch = source if source.ndim == 4 else source[None]
        if batch.ndim != 4 or batch.shape[1] != len(self.signature.source):
            raise CrossbandError(
                f"{self.name} takes [B, {len(self.signature.source)}, H, W] "
                f"({', '.join(self.signature.source)}), not {list(source.shape)}"
            )
        normal = self.signature.normalise(batch, [unit], "source")
        if conditions is not None and self.network.conditioned:
            answer = self.network.given(normal, conditions)
        else:
            answer = self.network(normal)
        out = self.signature.denormalise(answer, [unit], "target")
        out = out.clamp(*VALID_RANGE[self.signature.target_unit(unit)])
        return out if source.ndim == 4 else out[0]

    def translate(
        self,
        source: str | Path | xr.DataArray,
        output: str | Path | None = None,
        **options: Any,
    ) -> xr.DataArray | Path:
        """Translate a scene; see `crossband.translator.translate` for the options.

        Args:
            source: any raster that GDAL reads, or a DataArray; see `crossband.lazy`.
            output: the file; of a DataArray none.
            **options: see there.

        Returns:
            The path written, or without `output` a rioxarray-compatible DataArray
            (band, y, x) in physical units with CRS and nodata. Of a DataArray one like it, lazy
            where it is.
        """
        if not isinstance(source, str | Path):
            from crossband import lazy

            if output is not None:
                raise CrossbandError(
                    "a DataArray gives a DataArray: leave the output out, and write the result "
                    "with result.rio.to_raster"
                )
            return lazy.translate_array(self, source, **options)
        from crossband import translator

        if output is None:
            return translator.translate_to_array(self, source, **options)
        return translator.translate(self, source, output, **options)

    def series(
        self,
        scenes: Sequence[str | Path] | str | Path | xr.DataArray,
        index: str | Sequence[str] = "NDVI",
        *,
        places: Any = None,
        **options: Any,
    ) -> xr.Dataset | pd.DataFrame:
        """Return an index through time, of dated scenes; see docs/series.md.

        Args:
            scenes: files, patterns, lists, manifests, STAC items, NetCDF or Zarr stacks; or a
                DataArray with dimensions of time, bands, rows and columns.
            index: one spectral index, or several.
            places: GeoJSON file of points and polygons, or a list of `series.places.Place`.
            **options: `place_name`; of a DataArray those of `translate`. Of scenes those of
                `series.run.series` (`dates`, `date_pattern`, `align`, ...) and of `translate`, and
                `output`: a folder that keeps the files.

        Returns:
            Without places a Dataset (time, y, x): `NDVI`, and where bands were measured `NDVI_true`
            and `NDVI_difference`. It is lazy where the DataArray is, and of scenes with `output`.
            With places a table of their statistics on each date.

        Raises:
            CrossbandError: see `series.run.series` and `series.arrays.dataset`.
        """
        from crossband.series.answer import answer

        return answer(self, scenes, index, places=places, **options)

    def save(self, folder: str | Path, *, dtype: str = "float32", card: str | None = None) -> Path:
        """Write the model folder, baselines included.

        Args:
            folder: made anew; an existing model folder is replaced at the end.
            dtype: data type of the weights: float32, bfloat16, float16.
            card: text of README.md; one is made from `about` where None.
        """
        folder = Path(folder)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        except OSError as error:
            raise OutputError(f"{folder}: cannot write there: {error.strerror}") from error
        try:
            self._save_into(temporary, dtype, card)
            if folder.exists():
                if not (folder / DESCRIPTION).exists() and any(folder.iterdir()):
                    raise OutputError(f"{folder}: a folder that is no model is in the way")
                shutil.rmtree(folder)
            os.replace(temporary, folder)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written: {error.strerror}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        folder.chmod(0o755)
        self.folder, self.address = folder, str(folder)
        return folder

    def _save_into(self, folder: Path, dtype: str, card: str | None) -> None:
        tensors = {
            k: (v.to(_DTYPES[dtype]) if v.is_floating_point() else v).contiguous().cpu()
            for k, v in self.network.state_dict().items()
        }
        # One key: with two, their order in the file, and so the hash, would change by chance.
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / WEIGHTS).chmod(0o644)  # safetensors makes it readable by its owner only
        self.weights_hash = _sha256(folder / WEIGHTS)
        (folder / DESCRIPTION).write_text(json.dumps(self.describe(dtype), indent=2) + "\n")
        (folder / CARD).write_text(card or make_card(self))
        for name, baseline in self.baselines.items():
            (folder / BASELINES).mkdir(exist_ok=True)
            baseline.save(folder / BASELINES / name, dtype="float32")

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


def load(name: str | Path) -> Model:
    """Load a model.

    Args:
        name: a bundled name (`rgb2nir`), a model folder, or `hf://owner/name`.

    Raises:
        ModelError: unknown name; a missing or wrong key; weights whose hash differs or that are in
            pickle form, which is never opened.
    """
    model = _load_folder(_resolve(name))
    model.address = str(name)
    return model


def bundled() -> dict[str, Path]:
    """Return the models inside the package: name -> folder."""
    root = Path(str(resources.files("crossband") / "weights"))
    return {p.parent.name: p.parent for p in sorted(root.glob(f"*/{DESCRIPTION}"))}


def _resolve(name: str | Path) -> Path:
    text = str(name)
    if text.startswith("hf://"):
        return _from_hub(text)
    if text in bundled() and not isinstance(name, Path):
        return bundled()[text]
    path = Path(text)
    if path.is_file():
        if path.suffix in _PICKLES:
            raise ModelError(f"{path}: pickle files are never loaded; a model is a folder")
        raise ModelError(f"{path}: a file, but a model is a folder with {DESCRIPTION}")
    if not path.is_dir():
        raise ModelError(f"unknown model {text!r}: no such folder; {nearest(text, bundled())}")
    return path


def _from_hub(address: str) -> Path:
    parts = address.removeprefix("hf://").split("/")
    if len(parts) != 2 or not all(parts):
        raise ModelError(f"{address}: a model on the hub is named hf://owner/name")
    from huggingface_hub import snapshot_download

    try:
        # Only what a model folder holds: nothing executable or pickled is even fetched.
        wanted = [WEIGHTS, DESCRIPTION, CARD, f"{BASELINES}/*"]
        return Path(snapshot_download("/".join(parts), allow_patterns=wanted))
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{address}: cannot be fetched: {first}") from error


def _load_folder(folder: Path) -> Model:
    data = _read_description(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        pickles = [p.name for p in folder.iterdir() if p.suffix in _PICKLES]
        hint = f" ({pickles[0]} is in pickle form and is never loaded)" if pickles else ""
        raise ModelError(f"{folder}: {WEIGHTS} is missing{hint}")
    found = _sha256(weights)
    if found != data["weights"]["sha256"]:
        raise ModelError(
            f"{weights}: the weights are not those that {DESCRIPTION} describes "
            f"(SHA-256 {found[:12]}..., expected {data['weights']['sha256'][:12]}...)"
        )
    try:
        network = build(Generator, data["network"]["class"], data["network"]["arguments"])
        tensors = {k: v.float() for k, v in load_file(weights).items()}
        network.load_state_dict(tensors)
    except SafetensorError as error:
        raise ModelError(f"{weights}: not a safetensors file: {error}") from error
    except CrossbandError as error:
        raise ModelError(f"{folder / DESCRIPTION}: {error}") from error
    except RuntimeError as error:
        raise ModelError(f"{weights}: does not fit {data['network']['class']}: {error}") from error
    model = Model(
        network,
        Signature.from_json(data["signature"]),
        name=data["name"],
        task=data["task"],
        about=data["about"],
    )
    model.weights_hash, model.folder = found, folder
    for child in sorted((folder / BASELINES).glob(f"*/{DESCRIPTION}")):
        model.baselines[child.parent.name] = _load_folder(child.parent)
    return model.eval().requires_grad_(False)


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ModelError(f"{folder}: no {DESCRIPTION}, so not a model folder") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not readable JSON: {error}") from error
    if not isinstance(data, dict):
        raise ModelError(f"{path}: must hold one object")
    for key in _KEYS:
        if key not in data:
            raise ModelError(f"{path}: the key {key!r} is missing")
    for key in data:
        if key not in _KEYS:
            raise ModelError(f"{path}: unknown key {key!r}: {nearest(key, _KEYS)}")
    if data["format"] != FORMAT:
        raise ModelError(f"{path}: format {data['format']!r}, this version reads {FORMAT}")
    for key, inner in (("network", ("class", "arguments")), ("weights", ("sha256",))):
        for name in inner:
            if not isinstance(data[key], dict) or name not in data[key]:
                raise ModelError(f"{path}: the key {key}.{name} is missing")
    return data


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_card(model: Model) -> str:
    """Return the text of README.md: what the model takes, gives, and how good it is."""
    s, n, about = model.signature, model.network, model.about
    rows = []
    for unit, r in s.units.items():
        pairs = zip(s.source, r.source, strict=True)
        bounds = ", ".join(f"{b} {lo:g}..{hi:g}" for b, (lo, hi) in pairs)
        rows.append(f"| {unit} | {bounds} | {s.target_unit(unit)} |")
    lines = [
        f"# {model.name}",
        "",
        about.get("description", f"A Crossband model: {model.task}."),
        "",
        f"Takes {', '.join(s.source)}; gives {', '.join(s.target)}.",
        "",
        "| source unit | normalised from | target unit |",
        "|---|---|---|",
        *rows,
        "",
        f"Network: {type(n).__name__}, {model.parameters_total:,} parameters, margin "
        f"{n.margin if n.margin is not None else 'unbounded'}, stride {n.stride}, scale {n.scale}.",
        "",
    ]
    return "\n".join(lines)


def table(folders: dict[str, Path]) -> str:
    """Return the text of `crossband models`: the facts and numbers of each model."""
    out = []
    for name, folder in folders.items():
        d = _read_description(folder)
        n, s, about = d["network"], d["signature"], d["about"]
        size = (folder / WEIGHTS).stat().st_size / 2**20
        margin = "unbounded" if n["margin"] is None else f"{n['margin']} px"
        out += [
            f"{name}: {about.get('description', d['task'])}",
            f"  task      {d['task']}",
            f"  bands     {', '.join(s['source'])} -> {', '.join(s['target'])}",
            f"  units     {', '.join(s['units'])}",
            f"  sensors   {', '.join(about.get('sensors', [])) or 'not stated'}",
            f"  network   {n['class']}, {n['parameters']:,} parameters, margin {margin}, "
            f"stride {n['stride']}, scale {n['scale']}",
            f"  size      {size:.1f} MiB ({d['weights']['dtype']})",
        ]
        out += [f"  measured  {line}" for line in about.get("measured", [])] or [
            "  measured  nothing yet"
        ]
    return "\n".join(out) if out else "no models are bundled"
