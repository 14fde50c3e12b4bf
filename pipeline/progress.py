"""Progress of a stage: photos done, photos a second, time left."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Pass items through under a progress bar on standard error."""
    # A cluster's log is no terminal: a line every half minute, not thousands of updates.
    interval = 0.2 if sys.stderr.isatty() else 30.0
    return iter(tqdm(items, total=total, desc=what, unit="photo", mininterval=interval))
