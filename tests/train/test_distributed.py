"""Devices and worlds of a single process."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from train import distributed
from train.distributed import DeviceError


def test_no_gpu_is_an_error_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(DeviceError, match="--device cpu"):
        distributed.device("cuda")


def test_auto_falls_to_the_cpu_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert distributed.device() == torch.device("cpu")


@pytest.mark.parametrize("name", ["fpga", "gpu", "cpu0", ""])
def test_nonsense_is_refused(name):
    with pytest.raises(DeviceError, match=f"'{name}': expected auto"):
        distributed.device(name)


def test_a_single_process_is_a_world():
    with distributed.start("cpu") as world:
        assert (world.rank, world.size, world.is_first) == (0, 1, True)
        counts = np.array([3, 4])
        assert world.sum(counts) is counts
        world.barrier()
