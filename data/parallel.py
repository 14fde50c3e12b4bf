"""Run one function over many small tasks, in this process or in several."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    workers: int | None = None,
    chunk: int = 1,
) -> Iterator[Result]:
    """Yield `function(task)` for each task, in the order of the tasks.

    Parameters
    ----------
    workers
        Processes; by default one per core that this process may use. With 1, or with one chunk of
        tasks, everything runs in this process. Otherwise function and tasks must be picklable.
    chunk
        Tasks sent to a process at a time.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = min(workers or cores or 1, -(-len(tasks) // chunk))
    if workers <= 1:
        yield from map(function, tasks)
        return
    # A forked copy of a process with threads (OpenCV, BLAS) may hang; a spawned one starts clean.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(function, tasks, chunksize=chunk)
