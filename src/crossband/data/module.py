"""The data module of a recipe: manifests, split into training and validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pandas as pd
import torch
from torch.utils.data import DataLoader

from crossband.core.memory import total_memory
from crossband.core.signals import ignore_signals
from crossband.core.signature import Signature
from crossband.data import manifest as manifests
from crossband.data import splits
from crossband.data.degrade import Degradation
from crossband.data.made_guide import MadeGuide
from crossband.data.mixture import mixture, with_shares
from crossband.data.packed.read import Packs
from crossband.data.reader import PairReader
from crossband.data.sampler import PositionSampler
from crossband.data.samples import OnError, PairDataset, WindowDataset
from crossband.data.transforms import Transform
from crossband.errors import ManifestError, RecipeError
from crossband.networks.base import LARGEST_SCALE

#: Largest side of a crop, a window or a picture, in pixels, and largest number of other things.
LARGEST, MANY = 2**16, 2**40


class Pairs(lightning.LightningDataModule):
    """Pairs from a manifest.

    The signature of the method in training decides which bands are read and which units are
    accepted.

    Args:
        manifest: CSV, parquet or a pack; see `crossband.data.manifest`. Several are mixed.
        shares: relative frequency at which each of several manifests is drawn from.
        crop: side of a training crop, in source pixels.
        context: source pixels around a crop that the network also sees, without a loss there.
        batch: crops of a batch, on each device.
        steps: batches between two validations (an epoch).
        balance: columns of the manifest to balance over, outermost first.
        transforms: augmentations, in this order.
        resolution: range of a random factor that makes crops coarser (above 1) or finer (below 1).
        gsd: the same as a range of pixel sizes in metres; never finer than the scene's own.
        resolution_probability: share of the crops that this is done to.
        mix: share of the crops that are mixed with another one; see `PairDataset`.
        min_valid: share of valid pixels that a crop should have.
        pixels: compute the loss at this many random valid pixels of a crop; 0 means all.
        guide: makes guides for a network that takes one, from the target or from the manifest's
            column `guide`.
        paired: False draws source and target independently, for unpaired methods; a row then needs
            only one of them. Rows with both are used for validation.
        degradation: makes every source from its target, whatever the manifest states.
        resize: height and width that every picture is resized to as a whole before it is cropped,
            whatever its shape, as some published systems do; None leaves pixels as they are.
        on_error: `skip` continues without a file that cannot be read, and counts it; `raise` saves
            the state and ends the training with an error that names the file.
        val_fraction: share of the groups that is held out where the manifest has no `split`; 0
            trains on everything and validates nothing.
        stratify: columns, as terrain or sensor; each of their values is held out separately.
        fold: hold out this fold of `folds`, whatever the manifest's split; rows of split `test`
            are not used.
        folds: number of folds.
        val_tile: largest side of a validation window, in source pixels.
        val_windows: largest number of validation windows of a pair.
        scale: target pixels per source pixel along one side.
        cache_mb: memory for decoded scenes, in MiB; with workers, for each of them.
        pack_cache: folder for shards of packs in an object store; see `ShardCache`.
        pack_cache_gb: largest size of this folder, in GiB.
        workers: loading processes; 0 loads in the training process, which is best if scenes fit
            the cache.
        seed: of the split, the crops and the augmentation; by default the seed of the run.
    """

    def __init__(
        self,
        manifest: Path | list[Path],
        *,
        shares: list[float] | None = None,
        crop: int = 128,
        context: int = 0,
        batch: int = 16,
        steps: int = 250,
        balance: list[str] | None = None,
        transforms: list[Transform] | None = None,
        resolution: tuple[float, float] = (1.0, 1.0),
        gsd: tuple[float, float] | None = None,
        resolution_probability: float = 0.5,
        mix: float = 0.0,
        min_valid: float = 0.3,
        pixels: int = 0,
        guide: MadeGuide | None = None,
        paired: bool = True,
        degradation: Degradation | None = None,
        resize: tuple[int, int] | None = None,
        on_error: OnError = "raise",
        val_fraction: float = 0.15,
        stratify: list[str] | None = None,
        fold: int | None = None,
        folds: int = 4,
        val_tile: int = 512,
        val_windows: int = 4,
        scale: int = 1,
        cache_mb: int = 2048,
        pack_cache: Path | None = None,
        pack_cache_gb: float = 32.0,
        workers: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        ranges: dict[str, tuple[float | None, float, float]] = {
            "crop": (crop, 1, LARGEST),
            "context": (context, 0, LARGEST),
            "batch": (batch, 1, MANY),
            "steps": (steps, 1, MANY),
            "resolution_probability": (resolution_probability, 0, 1),
            "mix": (mix, 0, 1),
            "min_valid": (min_valid, 0, 1),
            "pixels": (pixels, 0, MANY),
            "val_fraction": (val_fraction, 0, 1),
            "folds": (folds, 2, MANY),
            "val_tile": (val_tile, 1, LARGEST),
            "val_windows": (val_windows, 0, MANY),
            "scale": (scale, 1, LARGEST_SCALE),
            "cache_mb": (cache_mb, 0, MANY),
            "pack_cache_gb": (pack_cache_gb, 0, MANY),
            "workers": (workers, 0, 1024),
            "seed": (seed, 0, 2**32 - 1),
        }
        for name, (value, least, most) in ranges.items():
            if value is not None and not least <= value <= most:
                words = f"at least {least}" if value < least else f"at most {most}"
                raise RecipeError(f"data.{name} must be {words}, not {value}")
        memory, width = total_memory(), crop + 2 * context
        needed = 4 * batch * width**2 * (1 + scale**2)  # float32, a band of source and of target
        if memory is not None and needed > memory:
            raise RecipeError(
                f"data.batch {batch}: crops of {width} pixels take {needed / 2**30:,.0f} GiB or "
                f"more, and this machine has {memory / 2**30:,.0f}: give a smaller data.batch"
            )
        if resize is not None and not all(1 <= side <= LARGEST for side in resize):
            raise RecipeError(f"data.resize must be two sides of 1 to {LARGEST}")
        if fold is not None and not 0 <= fold < folds:
            raise RecipeError(f"data.fold must be 0 to {folds - 1}, not {fold}")
        self.manifest, self.crop, self.batch, self.steps = manifest, crop, batch, steps
        self.shares, self.context = shares, context
        self.balance = ["group"] if balance is None else balance
        self.transforms = transforms or []
        self.resolution, self.resolution_probability = resolution, resolution_probability
        self.gsd, self.degradation, self.on_error = gsd, degradation, on_error
        self.resize = resize
        self.mix, self.min_valid, self.paired = mix, min_valid, paired
        self.pixels, self.guide = pixels, guide
        self.val_fraction, self.fold, self.folds = val_fraction, fold, folds
        self.stratify = stratify or []
        self.val_tile, self.val_windows = val_tile, val_windows
        self.scale, self.cache_mb, self.workers = scale, cache_mb, workers
        self.seed = seed
        self.packs = Packs(pack_cache, pack_cache_gb)
        self._rows: pd.DataFrame | None = None
        self._train: PairDataset | None = None
        self._val: WindowDataset | None = None

    def split(self, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the training and the validation rows; no group is in both."""
        table = self._table()
        if self.fold is None:
            split = splits.assign(table, self.val_fraction, seed, self.stratify)
            return self._weighed(table[split == "train"]), table[split == "val"]
        if "split" in table.columns:
            table = table[table["split"] != "test"]
        held_out = splits.assign_folds(table, self.folds, seed) == self.fold
        if held_out.all() or not held_out.any():
            raise ManifestError(f"{self.manifests[0]}: fold {self.fold} holds out all rows or none")
        return self._weighed(table[~held_out]), table[held_out]

    def _weighed(self, train: pd.DataFrame) -> pd.DataFrame:
        if len(self.manifests) == 1 and self.shares is None:
            return train
        return with_shares(train, self.manifests, self.shares)

    @property
    def manifests(self) -> list[Path]:
        """The manifests, one or several."""
        return self.manifest if isinstance(self.manifest, list) else [self.manifest]

    def _table(self) -> pd.DataFrame:
        # Read once: the manifest must not change while a training runs.
        if self._rows is None:
            if len(self.manifests) == 1 and self.shares is None:
                self._rows = manifests.read(self.manifests[0])
            else:
                self._rows = mixture(self.manifests, self.shares)
        return self._rows

    def leaks(self, run_seed: int) -> list[str]:
        """Return the leakage of a given split in lines; none if it cuts no group."""
        leaks = splits.leakage(self.manifest_with_split(run_seed))
        return [f"the given split leaks: {leak}" for leak in leaks if leak.cut]

    def manifest_with_split(self, run_seed: int) -> pd.DataFrame:
        """Return all rows with a column `split`: those of `test` are kept for judging."""
        train, val = self.split(self.seed_of(run_seed))
        parts = [train.assign(split="train"), val.assign(split="val")]
        table = self._table()
        if "split" in table.columns:
            parts.append(table[table["split"] == "test"])
        return pd.concat(parts).sort_values("row").drop(columns=["row"])

    def seed_of(self, run: int) -> int:
        """Return the seed of the split and the crops: of this module, or of the run."""
        return run if self.seed is None else self.seed

    def load(self, signature: Signature, run_seed: int) -> None:
        """Read the manifest and open the pairs, once.

        Args:
            signature: which bands to read, which units to accept.
            run_seed: used if `seed` is None.
        """
        if self._train is not None:
            return
        seed = self.seed_of(run_seed)
        train, val = self.split(seed)
        reader = self._reader(train, signature, paired=self.paired)
        reader.check(skip=self.on_error == "skip")
        self._train = PairDataset(
            reader,
            train,
            crop=self.crop,
            context=self.context,
            seed=seed,
            balance=["manifest", *self.balance] if "manifest" in train else self.balance,
            transforms=self.transforms,
            resolution=self.resolution,
            gsd=self.gsd,
            resolution_probability=self.resolution_probability,
            mix=self.mix,
            min_valid=self.min_valid,
            pixels=self.pixels,
            guide=self.guide,
            on_error=self.on_error,
        )
        validated = val if self.degradation is not None else val[manifests.is_paired(val)]
        reader = self._reader(validated, signature, paired=True)
        self._val = WindowDataset(
            reader, self.val_tile, self.val_windows, self.on_error, self.guide
        )

    def _reader(
        self,
        table: pd.DataFrame,
        signature: Signature,
        *,
        paired: bool,
        cache_mb: int | None = None,
    ) -> PairReader:
        return PairReader(
            table,
            signature,
            self.scale,
            self.cache_mb if cache_mb is None else cache_mb,
            degradation=self.degradation,
            resize=self.resize,
            paired=paired,
            packs=self.packs,
        )

    def setup(self, stage: str) -> None:
        """Load the data for the method in training."""
        assert self.trainer is not None
        method: Any = self.trainer.lightning_module
        self.load(method.signature, method.seed)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return batches that continue after the last sample that the method was trained on."""
        assert self.trainer is not None
        assert self._train is not None
        method: Any = self.trainer.lightning_module
        sampler = PositionSampler(
            self.batch,
            self.steps,
            lambda: int(method.consumed),
            self.trainer.global_rank,
            self.trainer.world_size,
        )
        return self._loader(self._train, batch_sampler=sampler)

    def training_reader(self, signature: Signature, run_seed: int) -> PairReader:
        """Return a reader of the training rows that keeps nothing in memory."""
        train, _ = self.split(self.seed_of(run_seed))
        return self._reader(train, signature, paired=self.paired, cache_mb=0)

    def first_batches(self, count: int) -> DataLoader[Any]:
        """Return the first batches of a training, whatever was drawn since; after `load`."""
        assert self._train is not None
        return self._loader(self._train, PositionSampler(self.batch, count, lambda: 0, 0, 1))

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return the validation windows of this rank, one a batch."""
        assert self.trainer is not None
        assert self._val is not None
        if len(self._val) == 0:
            return []
        # All ranks get equally many; Validation.finish counts repeated windows once.
        world, rank = self.trainer.world_size, self.trainer.global_rank
        rounds = -(-len(self._val) // world)
        mine = [(rank + i * world) % len(self._val) for i in range(rounds)]
        return self._loader(self._val, batch_sampler=[[i] for i in mine])

    @property
    def has_validation(self) -> bool:
        """Whether there are windows to validate on; after `load`."""
        assert self._val is not None
        return len(self._val) > 0

    def validation_batches(self) -> DataLoader[Any]:
        """Return all validation windows, one a batch; after `load`."""
        assert self._val is not None
        return self._loader(self._val, [[i] for i in range(len(self._val))])

    def _loader(self, dataset: Any, batch_sampler: Any) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_sampler=batch_sampler,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            worker_init_fn=ignore_signals,
            pin_memory=torch.cuda.is_available(),
            # An own generator: making an iterator must not draw from the global one.
            generator=torch.Generator(),
        )
