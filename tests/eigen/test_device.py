"""Devices by name."""

from __future__ import annotations

import pytest
import torch

from data.errors import DeviceError
from eigen.device import torch_device


def test_no_gpu_is_an_error_with_a_remedy(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(DeviceError, match="--device cpu"):
        torch_device("cuda")


def test_auto_falls_back_to_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert torch_device() == torch.device("cpu")


@pytest.mark.parametrize("name", ["fpga", "gpu", "cpu0", ""])
def test_nonsense_is_refused(name):
    with pytest.raises(DeviceError, match=f"'{name}': expected auto"):
        torch_device(name)
