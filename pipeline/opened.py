"""What the tasks of a stage read again and again, kept open in each process.

Workers of a cluster outlive a run, and the next one writes the same files again: so what is kept is
found by what the files are now.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from data.errors import ShardError
from data.pictures import read_image_stamped
from eigen.store import shards


def state(path: Path) -> tuple[int, int, int, int] | None:
    """What changes when a file is written again; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def opened(folder: Path) -> shards.ShardFolder:
    """A folder of shards with an index."""
    return _opened(folder.absolute(), state(folder / shards.MANIFEST))


@functools.lru_cache(maxsize=2)
def _opened(folder: Path, key: object) -> shards.ShardFolder:
    return shards.open(folder)


def image_of(folder: Path, id: str, path: str) -> tuple[np.ndarray, str]:
    """The (H, W, 3) image of a folder of shards, and the SHA-256 of its file.

    Raises
    ------
    ImageError
        It cannot be read.
    ShardError
        It changed since its eigenvectors were computed.
    """
    image, stamp = read_image_stamped(path)
    shard, row = opened(folder).place(id)
    check_unchanged(path, stamp.sha256, str(shard.table()["sha256"][row]))
    return image, stamp.sha256


def check_unchanged(path: str | Path, found: str, expected: str) -> None:
    """Raise `ShardError` if an image's SHA-256 is not the expected one, "" if that is unknown."""
    if expected and found != expected:
        raise ShardError(
            f"{path}: changed since its eigenvectors were computed; run the same command again"
        )
