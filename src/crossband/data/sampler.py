"""A resumable sampler, whose whole state is the number of samples that were trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch.utils.data import Sampler


class PositionSampler(Sampler[list[int]]):
    """Yields batches of positions, one epoch at a time.

    A sample is a pure function of (seed, position), and the positions of a run are 0, 1, 2, ...
    over all epochs. `consumed` returns how many samples the training steps of all ranks have used.
    It is called when an epoch starts, so the number of workers and of prefetched batches does not
    matter, and a run that is resumed inside an epoch continues with the next sample.

    Args:
        batch: samples of a batch on this rank.
        length: batches of an epoch.
        consumed: samples consumed so far, on all ranks.
        rank: number of this process.
        world: number of processes. Together they draw what one process would draw with a batch
            `world` times larger.
    """

    def __init__(
        self,
        batch: int,
        length: int,
        consumed: Callable[[], int],
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.batch, self.length, self.consumed = batch, length, consumed
        self.rank, self.world = rank, world

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[list[int]]:
        start = self.consumed() + self.rank * self.batch
        for step in range(self.length):
            first = start + step * self.batch * self.world
            yield list(range(first, first + self.batch))
