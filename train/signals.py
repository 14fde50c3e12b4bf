"""The end of a training run on request, and of its reading processes with it.

A cluster sends SIGTERM before it takes a node away, and SIGKILL some time later. A run then has
`DEADLINE_S` seconds to finish its step and save; its readers end when it does, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

import numpy as np

from data.lifetime import end_with

if TYPE_CHECKING:
    from train.distributed import World

DEADLINE_S = 8.0


class Interrupted(BaseException):
    """Raised by the handler where work may be broken off; no `except Exception` may stop it."""


class Termination:
    """Notice SIGTERM while a training run is in this context.

    The signal sets `requested`, for the loop to stop between two steps; inside `at_once` it raises
    `Interrupted`. Whatever the run is doing `DEADLINE_S` later, its process ends: files are written
    atomically, so the last checkpoint stays whole. A request that the run left unanswered takes its
    usual effect at the end of the context. In a thread other than the main one, where Python allows
    no handler, SIGTERM keeps its usual effect throughout.

    Parameters
    ----------
    farewell : what to print if the deadline passes, asked for then
    """

    def __init__(self, farewell: Callable[[], str]) -> None:
        self.requested = False
        self._farewell = farewell
        self._raises = False
        self._deadline: threading.Timer | None = None
        self._is_main = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> Termination:
        if self._is_main:
            self._previous = signal.signal(signal.SIGTERM, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._is_main:
            signal.signal(signal.SIGTERM, self._previous)
            if self.requested and error is None:
                os.kill(os.getpid(), signal.SIGTERM)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested = True
            self._deadline = threading.Timer(DEADLINE_S, self._end)
            self._deadline.daemon = True
            self._deadline.start()
        if self._raises:
            self._raises = False
            raise Interrupted

    def _end(self) -> None:
        os.write(sys.stderr.fileno(), f"{self._farewell()}\n".encode())
        os._exit(128 + signal.SIGTERM)

    def agreed(self, world: World) -> bool:
        """Whether any process of the run received a signal; every process must call this."""
        return bool(world.sum(np.array([self.requested], np.int64))[0])

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Work that changes no state of the run: a request raises `Interrupted` in its midst."""
        if self.requested:
            raise Interrupted
        self._raises = True
        try:
            yield
        finally:
            self._raises = False


def start_reader(parent: int) -> None:
    """Prepare a reading process: it ends when process `parent` does, and outlives its SIGTERM.

    A signal to the whole process group must not take the batches from a run that is about to save,
    so the reader waits out the run's deadline before it obeys.
    """
    end_with(parent)
    signal.signal(signal.SIGTERM, _end_later)


def _end_later(number: int, frame: FrameType | None) -> None:
    timer = threading.Timer(DEADLINE_S + 1, os._exit, (128 + number,))
    timer.daemon = True
    timer.start()
