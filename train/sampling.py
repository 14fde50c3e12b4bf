"""Which samples make up which batch: a pure function of seed, batch number and process.

Samples are addressed as `Draw(epoch, item)`. A data set derives the randomness of a sample from
its draw alone (`generator`), so a sample looks the same whichever worker makes it, and a training
that is taken up again at batch n meets the batches it would have met.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class SamplingError(ValueError):
    """Too few samples for one batch."""


class Draw(NamedTuple):
    """Sample number `item`, as it appears in `epoch`."""

    epoch: int
    item: int


def generator(seed: int, draw: Draw) -> np.random.Generator:
    """The generator of a sample's augmentations."""
    return np.random.default_rng([seed, *draw])


class BatchSampler:
    """Endless batches of draws; every epoch is one permutation, its incomplete batch left out.

    Parameters
    ----------
    samples : int
        Length of the data set.
    batch_size : int
        Samples per batch and process.
    seed : int
    rank, size : int
        This process and the number of processes, which share every permutation.
    start : int
        Number of the first batch to give.

    Raises
    ------
    SamplingError
        Fewer samples than one batch of all processes takes.
    """

    def __init__(
        self,
        samples: int,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        size: int = 1,
        start: int = 0,
    ) -> None:
        if samples < batch_size * size:
            raise SamplingError(
                f"{samples} samples do not fill one batch of {batch_size} x {size} processes; "
                "use a smaller batch or more data"
            )
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.rank, self.size, self.start = rank, size, start

    @property
    def batches_per_epoch(self) -> int:
        return self.samples // (self.batch_size * self.size)

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch, first = divmod(self.start, self.batches_per_epoch)
        while True:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.samples)
            for number in range(first, self.batches_per_epoch):
                begin = (number * self.size + self.rank) * self.batch_size
                yield [Draw(epoch, int(i)) for i in order[begin : begin + self.batch_size]]
            epoch, first = epoch + 1, 0
