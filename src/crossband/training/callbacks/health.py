"""Notices a training that runs but learns nothing, and says it once, with what to try."""

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

#: Lines of the log that are remembered: enough for a median that one bad line does not move.
HISTORY = 50
#: Lines in a row before most alarms: adversarial training swings over one or two, and comes back.
PATIENCE = 5
#: Lines before a median means something.
MIN_LINES = 8
#: The discriminator has won where its own loss is this near to 0 (all three objectives are of order
#: 1 where it guesses, 0 where it is certain), ...
DISCRIMINATOR_CERTAIN = 0.05
#: ... the scores of targets and outputs are this far apart (lsgan asks for 1, hinge for 2, but a
#: line has the scores of one batch), ...
SCORES_APART = 0.5
#: ... and the generator's loss is this high: lsgan's is 0.25 where the discriminator guesses and 1
#: where it is never deceived, hinge's 0 and 1, bce's 0.7 and above 3.
GENERATOR_BEATEN = 0.5
#: Scores as near to each other as this, relative to their size, tell nothing apart ...
SCORES_EQUAL = 1e-3
#: ... and a gradient norm below this moves nothing: a living one is about 1e-2 to 1e2.
GRADIENT_VANISHED = 1e-6
#: A gradient this many times its median is no noise: batches differ by less than 10 times.
GRADIENT_EXPLODED = 100.0
#: Share of the target's standard deviation below which an output is flat. A blurred one has half.
OUTPUT_FLAT = 0.05


def discriminator_won(lines: Sequence[LogLine]) -> bool:
    """Say whether the discriminator wins everything: it teaches the generator nothing more."""
    return _in_a_row(lines, _line_shows_won)


def _line_shows_won(line: LogLine) -> bool:
    return (
        line["loss/discriminator"] < DISCRIMINATOR_CERTAIN
        and line["score/target"] - line["score/output"] > SCORES_APART
        and line["loss/adversarial"] > GENERATOR_BEATEN
    )


def discriminator_dead(lines: Sequence[LogLine]) -> bool:
    """Say whether the discriminator is dead: equal scores, and no gradient that would mend it."""
    return _in_a_row(lines, _line_shows_dead)


def _line_shows_dead(line: LogLine) -> bool:
    true, made = line["score/target"], line["score/output"]
    return (
        abs(true - made) <= SCORES_EQUAL * max(abs(true), abs(made), 1.0)
        and line["gradient/discriminator"] < GRADIENT_VANISHED
    )


def generator_stuck(lines: Sequence[LogLine]) -> bool:
    """Say whether the generator has no gradient."""
    return _in_a_row(lines, lambda line: line["gradient/generator"] < GRADIENT_VANISHED)


def generator_explodes(lines: Sequence[LogLine]) -> bool:
    """Say whether the generator's gradient is far above its own median over the lines before."""
    norms = [line["gradient/generator"] for line in lines if "gradient/generator" in line]
    if len(norms) <= MIN_LINES or "gradient/generator" not in lines[-1]:
        return False
    usual = statistics.median(norms[:-1])
    return usual > 0 and norms[-1] > GRADIENT_EXPLODED * usual


def output_flat(lines: Sequence[LogLine]) -> bool:
    """Say whether the output hardly varies over the pixels where the target does."""
    return _in_a_row(
        lines, lambda line: line["spread/output"] < OUTPUT_FLAT * line["spread/target"]
    )


def _in_a_row(lines: Sequence[LogLine], holds: Callable[[LogLine], bool]) -> bool:
    """Say whether something holds for the last lines; what a line does not say does not hold."""
    if len(lines) < PATIENCE:
        return False
    try:
        return all(holds(line) for line in lines[-PATIENCE:])
    except KeyError:
        return False


@dataclass(frozen=True)
class HealthCheck:
    """What may go wrong.

    Attributes:
        fires: looks at the last lines of the log.
        text: what has happened, and what to try.
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
        f"the generator's gradient is more than {GRADIENT_EXPLODED:.0f} times its median: set "
        "method.clip, or lower method.optimizer.lr",
    ),
    "output_flat": HealthCheck(
        output_flat,
        f"the output varies less than {OUTPUT_FLAT:.0%} as much as the target: the generator gives "
        "one value everywhere; lower method.optimizer.lr, or the adversarial weight",
    ),
}


class Health(MethodCallback):
    """Looks at each line of the log; an alarm is one line on stderr, once an episode."""

    def __init__(self) -> None:
        self.lines: list[dict[str, float]] = []
        self.on: set[str] = set()
        self._seen = 0

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Begin with the next line."""
        self._seen = method_of(pl_module).log_lines

    def after_batch(self, trainer: lightning.Trainer, method: Method) -> None:
        """Look at a line that is new, of a method that goes by gradients."""
        if method.log_lines == self._seen:
            return
        self._seen = method.log_lines
        if "gradient/generator" not in method.latest:
            return
        for name in self.update(method.latest):
            if trainer.is_global_zero:
                # Above the bar where there is one.
                tqdm.write(f"step {method.step}: {HEALTH_CHECKS[name].text}", file=sys.stderr)
        flags = {f"health/{name}": float(name in self.on) for name in HEALTH_CHECKS}
        for logger in trainer.loggers:
            logger.log_metrics(flags, step=method.step)

    def update(self, line: LogLine) -> list[str]:
        """Add a line of the log; return the alarms that begin with it."""
        self.lines = [*self.lines[1 - HISTORY :], dict(line)]
        before, self.on = self.on, {n for n, a in HEALTH_CHECKS.items() if a.fires(self.lines)}
        return [name for name in HEALTH_CHECKS if name in self.on - before]

    def state_dict(self) -> dict[str, Any]:
        """The lines remembered, so that a resumed run sounds the same alarms."""
        return {"lines": self.lines, "on": sorted(self.on)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`."""
        self.lines, self.on = state_dict["lines"], set(state_dict["on"])
