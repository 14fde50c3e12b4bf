"""The outcome of a stage for one image: a value, or quarantine with the reason."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from data.errors import GraphError, ImageError
from eigen.solvers.solution import ConvergenceError

QUARANTINES = (ImageError, GraphError, ConvergenceError)
"""Errors that quarantine an image; any other ends the run."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Outcome(Generic[Value]):
    """Result of a stage for one image.

    Attributes
    ----------
    id : str
    value : object or None
        None if the image was quarantined.
    reason : str
        Why it was quarantined, else "".
    seconds : float
        Time in its worker.
    """

    id: str
    value: Value | None
    reason: str
    seconds: float


def quarantined(task: Callable[..., Value]) -> Callable[..., Outcome[Value]]:
    """Decorate a task over items with an `id`: it returns an `Outcome`, catching `QUARANTINES`."""

    @functools.wraps(task)
    def guarded(self: object, item: Any) -> Outcome[Value]:
        started = time.perf_counter()
        value, reason = None, ""
        try:
            value = task(self, item)
        except QUARANTINES as error:
            reason = str(error)
        return Outcome(item.id, value, reason, time.perf_counter() - started)

    return guarded
