"""Files that are either whole or absent.

Every file the project makes is written beside its final name, flushed to the disk and renamed, so
that a reader never meets half a file and a run killed at any instant leaves the old file, or none.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_UMASK = os.umask(0)  # it can only be read by setting it
os.umask(_UMASK)


@contextlib.contextmanager
def atomic_path(path: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` when the block succeeds.

    With `durable` the bytes are on the disk before the name appears, so the file is whole even
    after a power cut. Without, that is left to the caller (`os.sync` once, after thousands of small
    files, and before whatever says that they are done).

    The temporary name ends like `path` (`.h5`, `.png`), because some writers choose the format by
    it. When the block raises, the temporary file is removed and `path` is left as it was.

    Raises
    ------
    OSError
        The folder cannot be made or written, or the disk is full; names `path`.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent
        )
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from error
    temporary = Path(name)
    try:
        os.close(handle)
        yield temporary
        _publish(temporary, path, durable)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from error
        raise


def _publish(temporary: Path, path: Path, durable: bool) -> None:
    if durable:
        _flush(temporary)
    temporary.chmod(0o666 & ~_UMASK)  # mkstemp makes files that only their owner can read
    temporary.replace(path)
    if durable:
        _flush(path.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def without_nan(value: Any) -> Any:
    """`value` with None for every float that is not finite, in mappings and sequences too.

    JSON has neither NaN nor infinity; Python writes them bare, and other readers stop at them.
    """
    if isinstance(value, Mapping):
        return {key: without_nan(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(held) for held in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
