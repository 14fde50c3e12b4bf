"""Batches as a function of their number."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import SettingError
from train.sampling import BatchSampler, Draw, generator, grouped_batches


@settings(max_examples=60)
@given(
    samples=st.integers(4, 60),
    batch=st.integers(1, 4),
    start=st.integers(0, 40),
    seed=st.integers(0, 9),
)
def test_starting_late_gives_the_later_batches(samples, batch, start, seed):
    whole = list(islice(BatchSampler(samples, batch, seed=seed), start + 5))
    late = list(islice(BatchSampler(samples, batch, seed=seed, start=start), 5))
    assert whole[start:] == late


def test_every_epoch_is_a_permutation_shared_by_all_processes():
    parts = [list(islice(BatchSampler(24, 3, seed=1, rank=rank, size=4), 4)) for rank in range(4)]
    for epoch in range(2):
        draws = [d for part in parts for batch in part[2 * epoch : 2 * epoch + 2] for d in batch]
        assert {d.epoch for d in draws} == {epoch}
        assert sorted(d.item for d in draws) == list(range(24))
    assert parts[0][0] != parts[0][2]


def thirds(item):
    return item % 3 == 0


@settings(max_examples=60)
@given(
    samples=st.integers(8, 60),
    batch=st.integers(1, 4),
    start=st.integers(0, 40),
    seed=st.integers(0, 9),
    size=st.integers(1, 2),
)
def test_groups_fill_in_the_order_of_the_draws(samples, batch, start, seed, size):
    for rank in range(size):
        options = {"group": thirds, "seed": seed, "rank": rank, "size": size}
        whole = list(islice(grouped_batches(samples, batch, **options), start + 5))
        late = list(islice(grouped_batches(samples, batch, **options, start=start), 5))
        assert whole[start:] == late
        assert all(len({thirds(draw.item) for draw in own}) == 1 for own in whole)
        orders = [np.random.default_rng([seed, epoch]).permutation(samples) for epoch in range(400)]
        stream = [Draw(epoch, int(i)) for epoch, order in enumerate(orders) for i in order]
        place = {draw: n for n, draw in enumerate(stream[rank::size])}
        filled = [max(place[draw] for draw in own) for own in whole]
        assert filled == sorted(filled) and len(set(filled)) == len(filled)
        given_out = {draw for own in whole for draw in own}
        waiting = [d for d, n in place.items() if n <= filled[-1] and d not in given_out]
        assert sum(thirds(d.item) for d in waiting) < batch
        assert sum(not thirds(d.item) for d in waiting) < batch


def test_the_group_of_an_item_is_asked_once_and_not_before_its_draw():
    asked = []
    stream = grouped_batches(50, 2, group=lambda item: asked.append(item), seed=0)
    next(stream)
    assert len(asked) == 2
    list(islice(stream, 60))
    assert sorted(asked) == list(range(50))


def test_randomness_of_a_sample_depends_on_seed_epoch_and_item():
    def first(seed, epoch, item):
        return generator(seed, Draw(epoch, item)).integers(1 << 40)

    assert first(0, 1, 2) == first(0, 1, 2)
    assert len({first(0, 1, 2), first(1, 1, 2), first(0, 2, 2), first(0, 1, 3)}) == 4
    assert isinstance(generator(0, Draw(0, 0)), np.random.Generator)


def test_too_few_samples_are_an_error():
    with pytest.raises(SettingError, match="5 samples do not fill one batch of 2 x 3"):
        BatchSampler(5, 2, seed=0, size=3)
    with pytest.raises(SettingError, match="5 samples do not fill one batch of 2 x 3"):
        grouped_batches(5, 2, group=thirds, seed=0, size=3)
