"""Start-up under torchrun, and what one process must know of the others.

`with distributed.start() as world:` works the same in a single process: then the world has size 1
and nothing is initialised.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from data.errors import RunError, SettingError
from data.lifetime import end_with
from eigen.device import torch_device

OTHERS_ENDED = "as another process of the run ended"


@dataclass(frozen=True)
class World:
    """This process among all: `rank` of `size`, working on `device`."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, counts: np.ndarray) -> np.ndarray:
        """Sum of an int64 array over all processes, the same on each."""
        if self.size == 1:
            return counts
        tensor = torch.from_numpy(np.ascontiguousarray(counts)).to(self.device)
        dist.all_reduce(tensor)
        return tensor.cpu().numpy()

    def gather(self, own: list[Any]) -> list[Any]:
        """The lists of all processes as one, in the order of their ranks; plain values only."""
        if self.size == 1:
            return own
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, own)
        return [entry for part in parts for entry in part]

    def whole(self, own: Tensor) -> Tensor:
        """The tensors of all processes along the first axis, in the order of their ranks.

        Of a loss of the whole, the same on each process, `wrap_ddp` makes the gradients that one
        process with all samples would have: the gradient that reaches `own` is multiplied by the
        number of processes, over which the gradients of weights are averaged.
        """
        if self.size == 1:
            return own
        parts = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(parts, own.detach().contiguous())
        if own.requires_grad:
            own = own.clone()
            own.register_hook(lambda gradient: gradient * self.size)
        parts[self.rank] = own
        return torch.cat(parts)

    def share(self, count: int) -> int:
        """Samples per process of a batch of `count`.

        Raises
        ------
        SettingError
            The batch cannot be divided evenly.
        """
        if count % self.size:
            raise SettingError(
                f"--batch_size {count}: expected a multiple of the {self.size} processes, which "
                f"share a batch; take {-(-count // self.size) * self.size}, or fewer GPUs "
                "(CUDA_VISIBLE_DEVICES)"
            )
        return count // self.size

    def barrier(self) -> None:
        """Wait until every process has come here."""
        if self.size > 1:
            dist.barrier()


@contextlib.contextmanager
def start(device_name: str = "auto") -> Iterator[World]:
    """Join the processes that torchrun started, and leave them at the end.

    Raises
    ------
    DeviceError
        See `eigen.device.torch_device`.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch_device(device_name, local_rank=local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if size == 1:
        yield World(0, 1, device)
        return
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with(os.getppid())  # torchrun, which cannot end its processes once it is killed
    backend = "nccl" if device.type == "cuda" else "gloo"
    # Long enough for the first process to fetch weights while the others wait.
    dist.init_process_group(backend, timeout=datetime.timedelta(hours=1))
    try:
        yield World(dist.get_rank(), size, device)
    finally:
        dist.destroy_process_group()


def average_batch_norm(model: nn.Module, world: World) -> None:
    """Give every process the same running statistics of batch norm, the mean over all of them.

    Without `SyncBatchNorm` each process sees its own images, so its statistics differ; every
    process calls this before the network is evaluated or saved.
    """
    if world.size == 1:
        return
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
            for statistics in (module.running_mean, module.running_var):
                if statistics is not None:
                    dist.all_reduce(statistics)
                    statistics /= world.size


@contextlib.contextmanager
def named_end_of_others(world: World) -> Iterator[None]:
    """Report that another process of the run ended, where torch reports a closed connection.

    gloo raises a bare RuntimeError, from a collective or from a backward pass, and only its message
    tells that the network is the cause.

    Raises
    ------
    RunError
    """
    try:
        yield
    except RuntimeError as error:
        is_network = isinstance(error, dist.DistError) or "gloo" in str(error)
        if world.size == 1 or not is_network:
            raise
        raise RunError(
            f"process {world.rank} of {world.size} stopped, {OTHERS_ENDED}: "
            "see its own message or the system log"
        ) from error


def unwrap_ddp(model: nn.Module) -> nn.Module:
    """The network itself, as it was before `wrap_ddp`."""
    return model.get_submodule("module") if isinstance(model, DistributedDataParallel) else model


def wrap_ddp(
    model: nn.Module, world: World, *, sync_batchnorm: bool = True, find_unused: bool = False
) -> nn.Module:
    """`model` on its device, wrapped so that gradients are averaged over all processes.

    Parameters
    ----------
    sync_batchnorm : bool
        Batch statistics over all GPUs (GPUs only; torch has none for the CPU).
    find_unused : bool
        Some parameters may take no part in the loss.
    """
    model = model.to(world.device)
    if world.size == 1:
        return model
    on_gpu = world.device.type == "cuda"
    if sync_batchnorm and on_gpu:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    with warnings.catch_warnings():
        # Its successor is not known to every torch that we run on.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(
            model,
            device_ids=[world.device.index] if on_gpu else None,
            broadcast_buffers=False,
            find_unused_parameters=find_unused,
        )
