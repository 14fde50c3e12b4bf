"""Run one function over many small tasks, in this process or in several."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from data.errors import SettingError
from data.lifetime import Pool

Task = TypeVar("Task")
Result = TypeVar("Result")


_MOST, _PER_CORE = 64, 8


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_processes(count: int, setting: str) -> None:
    """Refuse a number of processes that would exhaust the machine before anything is computed.

    Raises
    ------
    SettingError
        More than 64, and more than 8 per core.
    """
    most = max(_MOST, _PER_CORE * cores())
    if count > most:
        raise SettingError(
            f"{setting}: expected at most {most} processes on {cores()} cores, found {count}"
        )


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
    workers = min(workers or cores(), -(-len(tasks) // chunk))
    if workers <= 1:
        yield from map(function, tasks)
        return
    with Pool(workers) as pool:
        yield from pool.map(function, tasks, chunksize=chunk)
