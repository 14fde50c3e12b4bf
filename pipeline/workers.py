"""Run a task over items, in order: in this process, in several, or on a dask cluster.

Every worker computes with one thread, so an image's result does not depend on how many
workers there are or which of them computes it. Parallelism is over images.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from typing import Any, TypeVar

from data.errors import RunError

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 4
"""Items sent to each worker before their results are taken: enough to keep it busy."""


def run_ordered(
    task: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int = 1,
    scheduler: str | None = None,
) -> Iterator[Result]:
    """Yield `task(item)` for each item, in the order of the items.

    Parameters
    ----------
    task : callable
        Picklable if `workers` > 1 or there is a scheduler; an exception in it ends the run.
    workers : int
        Processes of this machine.
    scheduler : str, optional
        Address of a dask.distributed scheduler ("tcp://host:8786"), which is used instead.

    Raises
    ------
    RunError
        A worker process ended without a result.
    """
    if scheduler:
        yield from _on_dask(task, items, scheduler)
    elif workers > 1:
        yield from _in_processes(task, items, workers)
    else:
        with single_threaded():
            yield from map(task, items)


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Limit BLAS, OpenMP and OpenCV, and torch if imported, to one thread in this process."""
    import cv2
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    opencv_threads, torch_threads = cv2.getNumThreads(), torch and torch.get_num_threads()
    try:
        cv2.setNumThreads(1)
        if torch:
            torch.set_num_threads(1)
        with threadpool_limits(1):
            yield
    finally:
        cv2.setNumThreads(opencv_threads)
        if torch:
            torch.set_num_threads(torch_threads)


_for_life = contextlib.ExitStack()


def _start_worker() -> None:
    # Libraries read these when they are loaded, which may be in the middle of the first task.
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    # Libraries that are loaded already are limited for the life of the process.
    _for_life.enter_context(single_threaded())


def _in_processes(
    task: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    # Spawned, not forked: HDF5, CUDA and BLAS threads do not survive a fork.
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker) as pool:
        try:
            yield from _in_flight(lambda item: pool.submit(task, item), items, workers)
        except BrokenProcessPool as error:
            raise RunError(
                f"one of {workers} worker processes was killed, usually because it ran out of "
                "memory; run the same command again with fewer workers"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _on_dask(
    task: Callable[[Item], Result], items: Iterable[Item], scheduler: str
) -> Iterator[Result]:
    from distributed import Client

    with Client(scheduler, timeout="30s") as client:
        client.run(_start_worker)
        cores = sum(client.ncores().values()) or 1
        # dask caches pure tasks by their arguments: it would not read a changed image again.
        submit = lambda item: client.submit(task, item, pure=False)  # noqa: E731
        yield from _in_flight(submit, items, cores)


def _in_flight(submit: Callable[[Item], Any], items: Iterable[Item], workers: int) -> Iterator[Any]:
    """Results in order, with a bounded number of items in flight, so that memory is bounded."""
    source = iter(items)
    pending = [submit(item) for item in islice(source, workers * AHEAD)]
    while pending:
        yield pending.pop(0).result()
        pending += [submit(item) for item in islice(source, 1)]
