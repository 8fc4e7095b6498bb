"""The keys of a recipe, with the type, the default and the meaning of each."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Literal

import lightning

from crossband.core.devices import DEVICES, PRECISIONS
from crossband.errors import RecipeError
from crossband.training.loggers import LoggerName
from crossband.training.methods import Method

#: Processes on a machine, and machines, at most.
MOST_PROCESSES = 4096


@dataclasses.dataclass(frozen=True)
class TrainerOptions:
    """The options of the Trainer that a recipe may set.

    Attributes:
        devices: processes on one machine; more than one trains with DDP.
        num_nodes: number of machines.
        max_time: stop after days, hours, minutes and seconds: `00:00:01:00` is one minute.
        logger: logger of metrics and images; one name or a list.
        checkpoint_every: generator steps between two checkpoints.
        keep_last: number of checkpoints kept under the name of their step, beside the last one.
        monitor: the validation metric that selects the best checkpoint.
        mode: whether lower (`min`) or higher (`max`) values of it are better.
    """

    devices: int = 1
    num_nodes: int = 1
    max_time: str | None = None
    logger: LoggerName | list[LoggerName] = "tensorboard"
    checkpoint_every: int = 500
    keep_last: int = 0
    monitor: str = "val/score"
    mode: Literal["min", "max"] = "min"

    def __post_init__(self) -> None:
        """Check what Lightning would refuse in its own way, or take for something else."""
        for name, value in (("devices", self.devices), ("num_nodes", self.num_nodes)):
            if not 1 <= value <= MOST_PROCESSES:
                raise RecipeError(f"trainer.{name} must be 1 to {MOST_PROCESSES}, not {value}")
        if self.max_time is not None and not re.fullmatch(r"\d+(:[0-5]?\d){3}", self.max_time):
            raise RecipeError(f"trainer.max_time must be DD:HH:MM:SS, not {self.max_time!r:.60}")


#: The keys of a recipe: key -> type, default, help text.
KEYS: dict[str, tuple[Any, Any, str]] = {
    "name": (str, "model", "name of the model"),
    "task": (str, "", "task of the model, as in rgb2nir"),
    "licence": (str | None, None, "licence of the weights, as in CC-BY-4.0; sharing needs one"),
    "source": (str, "", "paper or system that it follows, cited in one line"),
    "differs": (list[str] | None, None, "what differs from that paper or system, in sentences"),
    "reference": (
        dict[str, Any] | None,
        None,
        "options of its reference run, which is smaller than the publication's, as in "
        "{method.generator.width: 32}",
    ),
    "seed": (int, 0, "seed of all random numbers"),
    "device": (Literal[DEVICES], "auto", "where to compute"),
    "precision": (Literal[PRECISIONS], "auto", "auto uses bf16 if the device supports it"),
    "weights": (Literal["last", "best"], "last", "which checkpoint becomes the model"),
    "start": (str | None, None, "model whose weights training starts from: name, folder, hf://"),
    "unguided": (
        str | None,
        None,
        "model whose network, unchanged, is the one that a GuidedDetail or GuidedResidual corrects",
    ),
    "method": (Method, None, "the training method and its networks"),
    "data": (lightning.LightningDataModule, None, "the pairs"),
    "trainer": (TrainerOptions, None, "a few options of the Trainer"),
    "baselines": (list[str] | None, None, "recipes of the baselines that are fitted too"),
    "blend": (
        dict[str, float] | None,
        None,
        "share of each baseline in the output, as in {mlp: 0.5}",
    ),
    "blend_by": (
        Literal["share", "familiarity"],
        "share",
        "blend everywhere, or only where the surroundings are unlike those of training",
    ),
}
