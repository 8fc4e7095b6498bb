"""Report and count files that could not be read in training; the counts survive a resume."""

from __future__ import annotations

from collections import Counter
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from crossband.core.messages import say

#: Key of a batch under which each sample lists the unreadable files that it replaces.
KEY = "skipped"


class SkippedFiles(Callback):
    """Counts samples that were replaced because their file could not be read.

    Attributes:
        counts: error message with the file's name -> how often it occurred.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    @property
    def state_key(self) -> str:
        """The key of the state in checkpoints, which is older than the name of this class."""
        return "Skipped"

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the files that a batch's samples replace; print each file once."""
        for line in _lines(batch):
            if line not in self.counts:
                say(f"crossband: skipped: {line}", error=True)
            self.counts[line] += 1

    def on_train_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Print the number of replaced samples."""
        if self.counts:
            say(
                f"crossband: {self.counts.total():,} draws of {len(self.counts):,} files were "
                f"replaced because they could not be read",
                error=True,
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return dict(self.counts)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`."""
        self.counts = Counter(state_dict)


def _lines(batch: Any) -> list[str]:
    found = batch.get(KEY) if isinstance(batch, dict) else None
    return [line for text in found or [] for line in str(text).splitlines()]
