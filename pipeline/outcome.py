"""What became of a photo in a stage: a value, or quarantine with the reason."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from data.errors import GraphError, ImageError
from eigen.solvers.solution import ConvergenceError

FAULTS_OF_A_PHOTO = (ImageError, GraphError, ConvergenceError)
"""What quarantines a photo. Everything else is a fault of the run and ends it."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Outcome(Generic[Value]):
    """Result of a stage for one photo.

    Attributes
    ----------
    id : str
    value : object or None
        None where the photo was quarantined.
    reason : str
        Why it was; "" where it was not.
    seconds : float
        Time it took in its worker.
    """

    id: str
    value: Value | None
    reason: str
    seconds: float


def quarantined(task: Callable[..., Value]) -> Callable[..., Outcome[Value]]:
    """Make a task over items with an `id` answer with an `Outcome`, the photo's faults caught."""

    @functools.wraps(task)
    def guarded(self: object, item: Any) -> Outcome[Value]:
        started = time.perf_counter()
        value, reason = None, ""
        try:
            value = task(self, item)
        except FAULTS_OF_A_PHOTO as error:
            reason = str(error)
        return Outcome(item.id, value, reason, time.perf_counter() - started)

    return guarded
