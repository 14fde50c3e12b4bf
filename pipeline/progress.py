"""Progress of a stage: images done, images per second, time left."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Iterate over items with a progress bar on standard error."""
    # In a log file: a line every half minute instead of thousands of updates.
    interval = 0.2 if sys.stderr.isatty() else 30.0
    return iter(tqdm(items, total=total, desc=what, unit="image", mininterval=interval))
