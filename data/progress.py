"""Rate and remaining time of long work, as log lines that suit a terminal and a log file."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


class Pace:
    """How fast work proceeds.

    Parameters
    ----------
    total : int
        Units of work from now on.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done, self._start = total, 0, time.monotonic()

    def text(self, *, unit: str, per_step: float = 1.0) -> str:
        """Such as "12.3 images/s, 4 min left"; each unit of work counts as `per_step` of `unit`."""
        seconds = max(time.monotonic() - self._start, 1e-9)
        rate = self.done / seconds
        left = (self.total - self.done) / rate if rate else float("inf")
        return f"{rate * per_step:.3g} {unit}/s, {duration(left)} left"


def duration(seconds: float) -> str:
    """A duration in a suitable unit: "40 s", "12 min", "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def logged(
    items: Iterable[Item], total: int, what: str, log: logging.Logger, *, every: float = 10.0
) -> Iterator[Item]:
    """Pass items through, and log every so many seconds how many of `total` are done."""
    pace, last = Pace(total), time.monotonic()
    for item in items:
        yield item
        pace.done += 1
        if time.monotonic() - last >= every:
            last = time.monotonic()
            log.info("%s: %d of %d, %s", what, pace.done, total, pace.text(unit="images"))
