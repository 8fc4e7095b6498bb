"""Notices a training that runs but learns nothing, and says it once, with what to try."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning
from tqdm import tqdm

from crossband.training.callbacks.watcher import Watcher, method_of
from crossband.training.methods.base import Method

Line = Mapping[str, float]

#: Lines of the log that are remembered: enough for a median that one bad line does not move.
MEMORY = 50
#: Lines in a row before most alarms: adversarial training swings over one or two, and comes back.
PATIENCE = 5
#: Lines before a median means something.
ENOUGH = 8
#: The discriminator has won where its own loss is this near to 0 (all three objectives are of order
#: 1 where it guesses, 0 where it is certain), ...
CERTAIN = 0.05
#: ... the scores of targets and outputs are this far apart (lsgan asks for 1, hinge for 2, but a
#: line has the scores of one batch), ...
APART = 0.5
#: ... and the generator's loss is this high: lsgan's is 0.25 where the discriminator guesses and 1
#: where it is never deceived, hinge's 0 and 1, bce's 0.7 and above 3.
BEATEN = 0.5
#: Scores as near to each other as this, relative to their size, tell nothing apart ...
SAME = 1e-3
#: ... and a gradient norm below this moves nothing: a living one is about 1e-2 to 1e2.
STILL = 1e-6
#: A gradient this many times its median is no noise: batches differ by less than 10 times.
EXPLODED = 100.0
#: Share of the target's standard deviation below which an output is flat. A blurred one has half.
FLAT = 0.05


def has_won(lines: Sequence[Line]) -> bool:
    """Say whether the discriminator wins everything: it teaches the generator nothing more."""
    return _in_a_row(lines, _wins)


def _wins(line: Line) -> bool:
    return (
        line["loss/discriminator"] < CERTAIN
        and line["score/target"] - line["score/output"] > APART
        and line["loss/adversarial"] > BEATEN
    )


def is_blind(lines: Sequence[Line]) -> bool:
    """Say whether the discriminator is dead: equal scores, and no gradient that would mend it."""
    return _in_a_row(lines, _sees_nothing)


def _sees_nothing(line: Line) -> bool:
    true, made = line["score/target"], line["score/output"]
    return (
        abs(true - made) <= SAME * max(abs(true), abs(made), 1.0)
        and line["gradient/discriminator"] < STILL
    )


def is_stuck(lines: Sequence[Line]) -> bool:
    """Say whether the generator has no gradient."""
    return _in_a_row(lines, lambda line: line["gradient/generator"] < STILL)


def explodes(lines: Sequence[Line]) -> bool:
    """Say whether the generator's gradient is far above its own median over the lines before."""
    norms = [line["gradient/generator"] for line in lines if "gradient/generator" in line]
    if len(norms) <= ENOUGH or "gradient/generator" not in lines[-1]:
        return False
    usual = statistics.median(norms[:-1])
    return usual > 0 and norms[-1] > EXPLODED * usual


def is_flat(lines: Sequence[Line]) -> bool:
    """Say whether the output hardly varies over the pixels where the target does."""
    return _in_a_row(lines, lambda line: line["spread/output"] < FLAT * line["spread/target"])


def _in_a_row(lines: Sequence[Line], holds: Callable[[Line], bool]) -> bool:
    """Say whether something holds for the last lines; what a line does not say does not hold."""
    if len(lines) < PATIENCE:
        return False
    try:
        return all(holds(line) for line in lines[-PATIENCE:])
    except KeyError:
        return False


@dataclass(frozen=True)
class Alarm:
    """What may go wrong.

    Attributes:
        is_on: looks at the last lines of the log.
        text: what has happened, and what to try.
    """

    is_on: Callable[[Sequence[Line]], bool]
    text: str


#: The scalar `health/<name>` is 1 while it lasts.
ALARMS = {
    "discriminator_won": Alarm(
        has_won,
        "the discriminator tells every output from the target, and the generator learns nothing "
        "from it: lower the discriminator's learning rate (method.discriminator_optimizer.lr), or "
        "make it smaller",
    ),
    "discriminator_dead": Alarm(
        is_blind,
        "the discriminator scores outputs and targets alike and has no gradient: start again with "
        "a lower method.discriminator_optimizer.lr, or with another adversarial objective",
    ),
    "generator_stuck": Alarm(
        is_stuck,
        "the generator gets no gradient: its units are dead or its output is saturated; start "
        "again with a lower method.optimizer.lr",
    ),
    "generator_explodes": Alarm(
        explodes,
        f"the generator's gradient is more than {EXPLODED:.0f} times its median: set method.clip, "
        "or lower method.optimizer.lr",
    ),
    "output_flat": Alarm(
        is_flat,
        f"the output varies less than {FLAT:.0%} as much as the target: the generator gives one "
        "value everywhere; lower method.optimizer.lr, or the adversarial weight",
    ),
}


class Health(Watcher):
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
        for name in self.look(method.latest):
            if trainer.is_global_zero:
                # Above the bar where there is one.
                tqdm.write(f"step {method.step}: {ALARMS[name].text}", file=sys.stderr)
        flags = {f"health/{name}": float(name in self.on) for name in ALARMS}
        for logger in trainer.loggers:
            logger.log_metrics(flags, step=method.step)

    def look(self, line: Line) -> list[str]:
        """Add a line of the log; return the alarms that begin with it."""
        self.lines = [*self.lines[1 - MEMORY :], dict(line)]
        before, self.on = self.on, {n for n, a in ALARMS.items() if a.is_on(self.lines)}
        return [name for name in ALARMS if name in self.on - before]

    def state_dict(self) -> dict[str, Any]:
        """The lines remembered, so that a resumed run sounds the same alarms."""
        return {"lines": self.lines, "on": sorted(self.on)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`."""
        self.lines, self.on = state_dict["lines"], set(state_dict["on"])
