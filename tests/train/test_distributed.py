"""Devices and worlds of a single process."""

from __future__ import annotations

import numpy as np

from train import distributed


def test_a_single_process_is_a_world():
    with distributed.start("cpu") as world:
        assert (world.rank, world.size, world.is_first) == (0, 1, True)
        counts = np.array([3, 4])
        assert world.sum(counts) is counts
        world.barrier()
