"""Which samples make up which batch: a pure function of seed, batch number and process.

Samples are addressed as `Draw(epoch, item)`. A data set derives the randomness of a sample from
its draw alone (`generator`), so a sample looks the same whichever worker makes it, and a training
that is taken up again at batch n meets the batches it would have met.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import cache
from typing import NamedTuple

import numpy as np

from data.errors import SettingError


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
    SettingError
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
        _check(samples, batch_size, size)
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.rank, self.size, self.start = rank, size, start

    @property
    def batches_per_epoch(self) -> int:
        return self.samples // (self.batch_size * self.size)

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch, first = divmod(self.start, self.batches_per_epoch)
        while True:
            order = _permutation(self.samples, self.seed, epoch)
            for number in range(first, self.batches_per_epoch):
                begin = (number * self.size + self.rank) * self.batch_size
                yield [Draw(epoch, int(i)) for i in order[begin : begin + self.batch_size]]
            epoch, first = epoch + 1, 0


def grouped_batches(
    samples: int,
    batch_size: int,
    *,
    group: Callable[[int], Hashable],
    seed: int,
    rank: int = 0,
    size: int = 1,
    start: int = 0,
) -> Iterator[list[Draw]]:
    """Endless batches of draws of one group each, handed out as they fill.

    A process takes every `size`-th draw of the permutations, puts it with those of its group that
    wait, and hands these out when they are `batch_size`. No draw is left out, and a batch may hold
    draws of two epochs. So detectron2 batches photos of one orientation (aspect ratio grouping).

    Parameters
    ----------
    group : item -> its group
        Asked once an item, when it is first drawn.
    samples, batch_size, seed, rank, size, start
        As of `BatchSampler`.

    Raises
    ------
    SettingError
        As from `BatchSampler`.
    """
    _check(samples, batch_size, size)
    epochs = (
        (Draw(epoch, int(item)) for item in _permutation(samples, seed, epoch))
        for epoch in itertools.count()
    )
    own = itertools.islice(itertools.chain.from_iterable(epochs), rank, None, size)
    return itertools.islice(_filled(own, batch_size, cache(group)), start, None)


def _filled(
    draws: Iterable[Draw], batch_size: int, group: Callable[[int], Hashable]
) -> Iterator[list[Draw]]:
    waiting = defaultdict[Hashable, list[Draw]](list)
    for draw in draws:
        own = waiting[group(draw.item)]
        own.append(draw)
        if len(own) == batch_size:
            yield own.copy()
            own.clear()


def _permutation(samples: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(samples)


def _check(samples: int, batch_size: int, size: int) -> None:
    if samples < batch_size * size:
        raise SettingError(
            f"{samples} samples do not fill one batch of {batch_size} x {size} processes; "
            "use a smaller batch or more data"
        )
