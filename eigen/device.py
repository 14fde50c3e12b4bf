"""Parse the name of a torch device."""

from __future__ import annotations

import torch

from data.errors import DeviceError

_NOT_A_DEVICE = "device {!r}: expected auto, cpu, cuda or cuda:N"


def torch_device(name: str = "auto", *, local_rank: int = 0) -> torch.device:
    """The torch device of that name; "auto" is this process's GPU, or the CPU where there is none.

    Raises
    ------
    DeviceError
        A GPU that this machine does not offer, or a name that is no device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(_NOT_A_DEVICE.format(name)) from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(_NOT_A_DEVICE.format(name))
    if device.type == "cuda":
        index = local_rank if device.index is None else device.index
        if index >= torch.cuda.device_count():
            raise DeviceError(
                f"device {name!r}: this machine offers {torch.cuda.device_count()} CUDA devices to "
                f"torch {torch.__version__}; use --device cpu, or check the driver with nvidia-smi"
            )
        device = torch.device("cuda", index)
    return device
