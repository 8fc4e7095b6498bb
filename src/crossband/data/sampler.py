"""Which samples come next: the sampler's whole state is one integer, counted at consumption."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch.utils.data import Sampler


class Positions(Sampler[list[int]]):
    """Yield batches of positions, one epoch at a time.

    A sample is a pure function of (seed, position), and the positions of a run are 0, 1, 2, ...
    over all epochs. `consumed` says how many samples the training step has consumed on all ranks
    together; it is asked when an epoch starts, so workers and prefetching do not matter, and a
    run that is resumed inside an epoch goes on with the next sample.

    Args:
        batch: samples of a batch on this rank.
        length: batches of an epoch.
        consumed: samples consumed so far, on all ranks.
        rank: this process.
        world: number of processes; together they draw what one process would with `world` times
            the batch.
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
