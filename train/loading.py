"""Batches read ahead of a training by worker processes."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset

from train.distributed import World
from train.sampling import Draw
from train.signals import start_reader


def make_loader(
    samples: Dataset,
    draws: Iterable[list[Draw]],
    *,
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
    world: World,
    workers: int,
) -> Iterator[dict[str, Any]]:
    """A batch for each list of draws: their samples, put `collate`.

    Parameters
    ----------
    workers : int
        Processes that read; 0 reads in this one.
    """
    loader: DataLoader = DataLoader(
        samples,
        batch_sampler=draws,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=world.device.type == "cuda",
        # Forked workers would inherit locks of the decoders' threads.
        multiprocessing_context="forkserver" if workers else None,
        worker_init_fn=functools.partial(_start_reader, os.getpid()),
    )
    return iter(loader)


def _start_reader(parent: int, number: int) -> None:
    start_reader(parent)
