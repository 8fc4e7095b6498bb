"""Detect trainings that run but do not learn, and print one line with advice."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning
from tqdm import tqdm

from crossband.training.callbacks.base import MethodCallback, method_of
from crossband.training.methods.base import Method

LogLine = Mapping[str, float]

#: Lines of the log that are kept: enough for a median that one outlier does not change.
HISTORY = 50
#: Consecutive lines before most checks fire: adversarial training may swing over one or two lines.
PATIENCE = 5
#: Lines needed for a meaningful median.
MIN_LINES = 8
#: The discriminator has won if its loss is below this (lsgan, bce and hinge are about 1 when it
#: guesses, and 0 when it is certain), ...
DISCRIMINATOR_CERTAIN = 0.05
#: ... the difference between the scores of targets and outputs is above this (the optimum is 1 for
#: lsgan and 2 for hinge; a line has the scores of one batch), ...
SCORES_APART = 0.5
#: ... and the generator's loss is above this: with a guessing and with a perfect discriminator,
#: lsgan is 0.25 and 1, hinge 0 and 1, bce 0.7 and above 3.
GENERATOR_BEATEN = 0.5
#: The discriminator is dead if the relative difference of its scores is below this ...
SCORES_EQUAL = 1e-3
#: ... and its gradient norm is below this. A normal gradient norm is about 1e-2 to 1e2.
GRADIENT_VANISHED = 1e-6
#: A gradient exploded if it is this many times its median: batches differ by less than 10 times.
GRADIENT_EXPLODED = 100.0
#: Share of the target's standard deviation below which an output is flat. A blurred one has half.
OUTPUT_FLAT = 0.05


def discriminator_won(lines: Sequence[LogLine]) -> bool:
    """Return whether the discriminator separates everything: the generator no longer learns."""
    return _in_a_row(lines, _line_shows_won)


def _line_shows_won(line: LogLine) -> bool:
    return (
        line["loss/discriminator"] < DISCRIMINATOR_CERTAIN
        and line["score/target"] - line["score/output"] > SCORES_APART
        and line["loss/adversarial"] > GENERATOR_BEATEN
    )


def discriminator_dead(lines: Sequence[LogLine]) -> bool:
    """Return whether the discriminator is dead: equal scores and no gradient."""
    return _in_a_row(lines, _line_shows_dead)


def _line_shows_dead(line: LogLine) -> bool:
    true, made = line["score/target"], line["score/output"]
    return (
        abs(true - made) <= SCORES_EQUAL * max(abs(true), abs(made), 1.0)
        and line["gradient/discriminator"] < GRADIENT_VANISHED
    )


def generator_stuck(lines: Sequence[LogLine]) -> bool:
    """Return whether the generator has no gradient."""
    return _in_a_row(lines, lambda line: line["gradient/generator"] < GRADIENT_VANISHED)


def generator_explodes(lines: Sequence[LogLine]) -> bool:
    """Return whether the generator's gradient is far above its median over earlier lines."""
    norms = [line["gradient/generator"] for line in lines if "gradient/generator" in line]
    if len(norms) <= MIN_LINES or "gradient/generator" not in lines[-1]:
        return False
    usual = statistics.median(norms[:-1])
    return usual > 0 and norms[-1] > GRADIENT_EXPLODED * usual


def output_flat(lines: Sequence[LogLine]) -> bool:
    """Return whether the output is nearly constant while the target is not."""
    return _in_a_row(
        lines, lambda line: line["spread/output"] < OUTPUT_FLAT * line["spread/target"]
    )


def _in_a_row(lines: Sequence[LogLine], holds: Callable[[LogLine], bool]) -> bool:
    """Return whether a condition holds for the last lines; it fails where a value is missing."""
    if len(lines) < PATIENCE:
        return False
    try:
        return all(holds(line) for line in lines[-PATIENCE:])
    except KeyError:
        return False


@dataclass(frozen=True)
class HealthCheck:
    """One check of the log.

    Attributes:
        fires: last lines of the log -> whether the problem occurs.
        text: description of the problem, and advice.
    """

    fires: Callable[[Sequence[LogLine]], bool]
    text: str


#: The scalar `health/<name>` is 1 as long as the check fires.
HEALTH_CHECKS = {
    "discriminator_won": HealthCheck(
        discriminator_won,
        "the discriminator tells every output from the target, and the generator learns nothing "
        "from it: lower the discriminator's learning rate (method.discriminator_optimizer.lr), or "
        "make it smaller",
    ),
    "discriminator_dead": HealthCheck(
        discriminator_dead,
        "the discriminator scores outputs and targets alike and has no gradient: start again with "
        "a lower method.discriminator_optimizer.lr, or with another adversarial objective",
    ),
    "generator_stuck": HealthCheck(
        generator_stuck,
        "the generator gets no gradient: its units are dead or its output is saturated; start "
        "again with a lower method.optimizer.lr",
    ),
    "generator_explodes": HealthCheck(
        generator_explodes,
        f"the generator's gradient is more than {GRADIENT_EXPLODED:.0f} times its median: "
        "lower method.optimizer.lr, or set method.clip, or a lower one",
    ),
    "output_flat": HealthCheck(
        output_flat,
        f"the output varies less than {OUTPUT_FLAT:.0%} as much as the target: the generator gives "
        "one value everywhere; lower method.optimizer.lr, or the adversarial weight",
    ),
}


class Health(MethodCallback):
    """Runs all health checks on each line of the log; prints a line when a check starts to fire."""

    def __init__(self) -> None:
        self.lines: list[dict[str, float]] = []
        self.on: set[str] = set()
        self._seen = 0

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Skip the lines that were logged before."""
        self._seen = method_of(pl_module).log_lines

    def after_batch(self, trainer: lightning.Trainer, method: Method) -> None:
        """Check a new line of the log, if the method trains with gradients."""
        if method.log_lines == self._seen:
            return
        self._seen = method.log_lines
        if "gradient/generator" not in method.latest:
            return
        for name in self.update(method.latest):
            if trainer.is_global_zero:
                # Above the progress bar, if there is one.
                tqdm.write(f"step {method.step}: {HEALTH_CHECKS[name].text}", file=sys.stderr)
        flags = {f"health/{name}": float(name in self.on) for name in HEALTH_CHECKS}
        for logger in trainer.loggers:
            logger.log_metrics(flags, step=method.step)

    def update(self, line: LogLine) -> list[str]:
        """Add a line of the log; return the names of the checks that start to fire."""
        self.lines = [*self.lines[1 - HISTORY :], dict(line)]
        before, self.on = self.on, {n for n, a in HEALTH_CHECKS.items() if a.fires(self.lines)}
        return [name for name in HEALTH_CHECKS if name in self.on - before]

    def state_dict(self) -> dict[str, Any]:
        """Return the lines, so that the checks of a resumed run fire at the same steps."""
        return {"lines": self.lines, "on": sorted(self.on)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`."""
        self.lines, self.on = state_dict["lines"], set(state_dict["on"])
