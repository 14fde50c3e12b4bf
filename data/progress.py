"""Rate and remaining time of long work: a bar on a terminal, a line every half minute in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

EVERY = 30.0
"""Seconds between the lines in a log."""
SHORT = 5.0
"""Seconds of work that needs no line at its end."""


class Pace:
    """How fast work proceeds.

    Parameters
    ----------
    total : int
        Units of work from now on.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done, self._start = total, 0, time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the work began."""
        return time.monotonic() - self._start

    def text(self, *, unit: str, per_step: float = 1.0) -> str:
        """Such as "12.3 images/s, 4 min left"; each unit of work counts as `per_step` of `unit`."""
        rate = self.done / max(self.seconds, 1e-9)
        left = (self.total - self.done) / rate if rate else float("inf")
        return f"{rate * per_step:.3g} {unit}/s, {duration(left)} left"


def duration(seconds: float) -> str:
    """A duration in a suitable unit: "40 s", "12 min", "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def progress(
    items: Iterable[Item], total: int, what: str, *, unit: str = "image", each: int = 1
) -> Iterator[Item]:
    """Pass items through, and show on standard error how many of `total` units are done.

    A terminal gets a bar. A log gets a line every `EVERY` seconds with rate and time left, and one
    at the end of work that took more than `SHORT` seconds.

    Parameters
    ----------
    each : int
        Units per item; the last item may hold fewer.
    """
    if sys.stderr.isatty():
        with tqdm(total=total, desc=what, unit=unit, mininterval=0.2) as bar:
            for item in items:
                yield item
                bar.update(min(each, total - bar.n))
        return
    pace, last = Pace(total), 0.0
    for item in items:
        yield item
        pace.done = min(pace.done + each, total)
        if pace.seconds - last >= EVERY and pace.done < total:
            last = pace.seconds
            _line(f"{what}: {pace.done} of {total} {unit}s, {pace.text(unit=f'{unit}s')}")
    if pace.seconds > SHORT:
        rate = pace.done / pace.seconds
        _line(f"{what}: {pace.done} {unit}s in {duration(pace.seconds)}, {rate:.3g} {unit}s/s")


def _line(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
