"""Training images that cannot be read: they are replaced by others and listed.

A sample stays a function of its draw: which photo takes the place depends on the files alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from data.errors import DatasetError, ImageError
from data.sealed import read_table, write_table
from train.distributed import World

log = logging.getLogger(__name__)

T = TypeVar("T")
Unread = tuple[str, str]
"""Id and reason."""

KEY = "unread"
"""Entry of a batch with the images that were skipped for it."""

COLUMNS = ("id", "stage", "reason")
_IN_A_ROW = 100
_SHOWN = 10


def readable(read: Callable[[int], T], item: int, count: int) -> tuple[T, list[Unread]]:
    """What `read` gives for the first of the items `item`, `item` + 1, ... that it can read.

    Parameters
    ----------
    read : item -> anything; raises `ImageError`
    count : number of items; after the last comes the first

    Raises
    ------
    DatasetError
        None of them, or of a hundred in a row, can be read.
    """
    unread: list[Unread] = []
    for step in range(min(count, _IN_A_ROW)):
        try:
            return read((item + step) % count), unread
        except ImageError as error:
            unread.append((error.path.stem, str(error)))
    raise DatasetError(
        f"{len(unread)} training images in a row cannot be read, among them {unread[0][1]}; is "
        "their storage available?"
    )


def check_size(image: Any, label: Any, path: Path) -> None:
    """Raise `ImageError` unless a label map at `path` has the size of its image."""
    if label.shape[:2] != image.shape[:2]:
        raise ImageError(path, f"is {label.shape[:2]}, but the image is {image.shape[:2]}")


class Quarantine:
    """The images that a training run skipped, in `quarantine.csv`: id, stage, reason.

    Parameters
    ----------
    folder : of the training's files
    rank : of the process; every process has its own file
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.path = folder / ("quarantine.csv" if rank == 0 else f"quarantine_{rank}.csv")
        self._reasons: dict[str, str] = {}
        if self.path.is_file():
            try:
                rows = read_table(self.path, COLUMNS, DatasetError)
                self._reasons = {row["id"]: row["reason"] for row in rows}
            except DatasetError as error:
                log.warning("%s; images that cannot be read are entered as they are met", error)

    def sift(self, batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The batches, without the entry `KEY`, whose images are recorded.

        Raises
        ------
        DatasetError
            As from `readable`.
        """
        try:
            for batch in batches:
                self.note(batch.pop(KEY))
                yield batch
        except DatasetError as error:
            # A worker process wraps the one line in its traceback.
            line = str(error).strip().splitlines()[-1]
            raise DatasetError(line.rpartition("DatasetError: ")[2]) from error

    def note(self, unread: list[Unread]) -> None:
        """Add images that are not listed yet."""
        new = {id: reason for id, reason in unread if id not in self._reasons}
        if not new:
            return
        self._reasons |= new
        reasons = list(new.values())
        for reason in reasons[:_SHOWN]:
            log.warning("left out of the training: %s", reason)
        if (more := len(reasons) - _SHOWN) > 0:
            log.warning("and %d more images, see %s", more, self.path)
        rows = ((id, "train", reason) for id, reason in self._reasons.items())
        write_table(self.path, COLUMNS, rows)

    def log_count(self, world: World) -> None:
        """Log how many images all processes left out, if any."""
        count = len(set(world.gather(list(self._reasons))))
        if count:
            log.warning(
                "training images that could not be read: %d; see quarantine*.csv in %s",
                count,
                self.path.parent,
            )
