"""Divide a list of scenes among jobs: `--shard 3/10` is the third of ten parts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from crossband.errors import CrossbandError

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """One of several parts of a list.

    Attributes:
        number: of the part, from 1.
        count: number of parts.
    """

    number: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise CrossbandError(
                f"--shard {self.number}/{self.count}: shards are counted from 1, here "
                f"1/{max(self.count, 1)} to {max(self.count, 1)}/{max(self.count, 1)}"
            )

    def of(self, items: Sequence[T]) -> list[T]:
        """Return this part of a list: every `count`-th item, so that parts differ by one at most.

        >>> Shard(2, 3).of("abcdefgh")
        ['b', 'e', 'h']
        """
        return list(items[self.number - 1 :: self.count])

    def __str__(self) -> str:
        return f"{self.number}-of-{self.count}"


def parse_shard(text: str, environment: Mapping[str, str] = os.environ) -> Shard:
    """Parse `3/10`, counted from 1, or `slurm`.

    >>> parse_shard("3/10")
    Shard(number=3, count=10)

    Raises:
        CrossbandError: another text; `slurm` outside of a SLURM job; a job array of uneven steps.
    """
    if text.strip().lower() == "slurm":
        return _slurm(environment)
    found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
    if found is None:
        raise CrossbandError(f"--shard {text}: give it as 3/10 (the third of ten), or slurm")
    return Shard(int(found[1]), int(found[2]))


def _slurm(environment: Mapping[str, str]) -> Shard:
    """Return the part of this task of a job array, of `srun`, or of both.

    Source: the environment variables in the manuals of sbatch (SLURM_ARRAY_TASK_*) and srun
    (SLURM_PROCID, SLURM_NTASKS, SLURM_STEP_ID).
    """
    read = _Numbers(environment)
    job, jobs = 0, 1
    in_array, in_step = "SLURM_ARRAY_TASK_ID" in environment, "SLURM_PROCID" in environment
    if not in_array and not in_step:
        raise CrossbandError(
            "--shard slurm: neither SLURM_ARRAY_TASK_ID nor SLURM_PROCID is set; outside of a job "
            "give it as 3/10"
        )
    if in_array:
        first, jobs = read("SLURM_ARRAY_TASK_MIN"), read("SLURM_ARRAY_TASK_COUNT")
        step = read("SLURM_ARRAY_TASK_STEP", 1)
        last = read("SLURM_ARRAY_TASK_MAX", first + (jobs - 1) * step)
        job, rest = divmod(read("SLURM_ARRAY_TASK_ID") - first, max(step, 1))
        if step < 1 or rest or first + (jobs - 1) * step != last or not 0 <= job < jobs:
            raise CrossbandError(
                f"--shard slurm: the array's {jobs} numbers, {first} to {last}, are not evenly "
                f"spaced by {step}; give --shard as 3/10"
            )
    task, tasks = 0, 1
    if in_step:
        task, tasks = read("SLURM_PROCID"), read("SLURM_NTASKS", 1)
        started = {"SLURM_STEP_ID", "SLURM_STEPID"} & set(environment)
        if tasks > 1 and "SLURM_JOB_ID" in environment and not started:
            raise CrossbandError(
                f"--shard slurm: the job has {tasks} tasks, but srun did not start this one, so "
                f"that nobody would do the other parts; start it with srun"
            )
        if not 0 <= task < tasks:
            raise CrossbandError(f"--shard slurm: SLURM_PROCID is {task}, but SLURM_NTASKS {tasks}")
    return Shard(job * tasks + task + 1, jobs * tasks)


class _Numbers:
    """Reads whole numbers from environment variables."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def __call__(self, name: str, default: int | None = None) -> int:
        text = self._environment.get(name)
        if text is None and default is not None:
            return default
        try:
            return int(text or "")
        except ValueError:
            state = "is not set" if text is None else f"is {text!r}, no whole number"
            raise CrossbandError(f"--shard slurm: {name} {state}") from None
