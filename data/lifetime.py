"""Processes that end with the one that started them, and leave Ctrl-C to it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

_POLL_S = 1.0


class Pool(ProcessPoolExecutor):
    """Worker processes that end when this one does, however it ends.

    Those of `ProcessPoolExecutor` hold the pipe from which they read open themselves, and so wait
    for ever for a process that was killed. A terminal sends Ctrl-C to all of them: the traceback of
    each would follow the line of the first.

    Parameters
    ----------
    workers : int
    prepare : callable, optional
        Called in each worker before its first task.
    """

    def __init__(self, workers: int, prepare: Callable[[], object] | None = None) -> None:
        # Spawned, not forked: HDF5, CUDA and the threads of BLAS and OpenCV do not survive a fork.
        super().__init__(workers, get_context("spawn"), _start, (os.getpid(), prepare))

    def submit(self, *arguments: Any, **named: Any) -> Future[Any]:
        """As `ProcessPoolExecutor.submit`, which starts a worker where it has too few."""
        with _uninterrupted():
            return super().submit(*arguments, **named)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Processes that are started in this block ignore Ctrl-C from their first instruction on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _start(parent: int, prepare: Callable[[], object] | None) -> None:
    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if prepare is not None:
        prepare()


def end_with(process: int) -> None:
    """End this process as soon as another one ends."""
    threading.Thread(target=_end_with, args=(process,), daemon=True).start()


def _end_with(process: int) -> None:
    # Not prctl's PR_SET_PDEATHSIG: the parent of a reader is the fork server.
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        os._exit(1)
    except (AttributeError, OSError):  # not Linux, or one that does not allow it
        _poll(process)
    else:
        select.select([descriptor], [], [])
    os._exit(1)


def _poll(process: int) -> None:
    while True:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        except PermissionError:
            pass
        time.sleep(_POLL_S)
