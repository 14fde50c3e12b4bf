"""Run a task over items, in order: in this process, in several, or on a dask cluster.

Every worker computes with one thread, so an image's result does not depend on how many
workers there are or which of them computes it. Parallelism is over images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

from data.errors import RunError
from data.lifetime import Pool
from pipeline.single_threaded import hold_for_life, single_threaded

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
        A worker process ended without a result; or no scheduler answers, or it has no workers.
    """
    if scheduler:
        from pipeline.dask_cluster import run_on

        yield from run_on(scheduler, task, items, _in_flight)
    elif workers > 1:
        yield from _in_processes(task, items, workers)
    else:
        with single_threaded():
            yield from map(task, items)


def _in_processes(
    task: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    with Pool(workers, hold_for_life) as pool:
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


def _in_flight(submit: Callable[[Item], Any], items: Iterable[Item], workers: int) -> Iterator[Any]:
    """Results in order, with a bounded number of items in flight, so that memory is bounded."""
    source = iter(items)
    pending = [submit(item) for item in islice(source, workers * AHEAD)]
    while pending:
        yield pending.pop(0).result()
        pending += [submit(item) for item in islice(source, 1)]
