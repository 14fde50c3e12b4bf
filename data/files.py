"""Files that are either whole or absent.

Every file the project makes is written next to its final name, flushed to the disk and renamed, so
that readers never see part of a file, and a run killed at any moment leaves the old file or none.
The names of temporary files start with a dot, which readers here skip. Each is locked by the
process that writes it; the next writer of the same file reuses or removes those left by writers
that died.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_SLOTS = 4
_PART = ".part"


@contextlib.contextmanager
def atomic_path(path: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` when the block succeeds.

    With `durable` the bytes are on disk before the name appears, so the file is complete even
    after a power cut. Without, that is left to the caller (`os.sync` once after thousands of small
    files, before the record that they are complete is written).

    The temporary name ends like `path` (`.h5`, `.png`), because some writers choose the format by
    it. When the block raises, the temporary file is removed and `path` is left as it was.

    Raises
    ------
    OSError
        The folder cannot be made or written, or the disk is full; names `path`.
    """
    path = Path(path)
    with _claimed(path) as temporary:
        try:
            yield temporary
            _publish(temporary, path, durable)
        except BaseException as error:
            temporary.unlink(missing_ok=True)
            if isinstance(error, OSError) and (
                error.errno in _OF_THE_DISK or error.filename == str(temporary)
            ):
                raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from error
            if isinstance(error, OSError) and error.errno is None:  # NumPy's, of a short write
                raise OSError(errno.EIO, f"cannot write {path}: {error}") from error
            raise


def check_writable(folder: Path) -> None:
    """Make a folder, and raise `OSError`, which names it, where no file can be written to it."""
    with _claimed(folder / "check", shown=folder) as temporary:
        _unlink(temporary)


@contextlib.contextmanager
def atomic_files(folder: Path, name: str) -> Iterator[Callable[[str, bytes], None]]:
    """Yield `write(file, content)`, which writes one of several small files to `folder`.

    As `atomic_path` without `durable`, in less than half the time: the files share a lock. `name`
    says which files: the next block of that name removes what a process that died left behind.

    Raises
    ------
    OSError
        As `atomic_path`.
    """
    with _claimed(folder / name) as lock:
        part = f"{lock}{_PART}"

        def write(file: str, content: bytes) -> None:
            try:
                with open(part, "wb", buffering=0) as out:  # noqa: PTH123 - thousands of files
                    left = memoryview(content)
                    while len(left):
                        left = left[out.write(left) :]
                os.rename(part, f"{folder}/{file}")  # noqa: PTH104 - likewise
            except OSError as error:
                raise OSError(
                    error.errno, f"cannot write {folder / file}: {error.strerror}"
                ) from error

        try:
            yield write
        finally:
            _unlink(part)
            _unlink(lock)


@contextlib.contextmanager
def _claimed(path: Path, *, shown: Path | None = None) -> Iterator[Path]:
    """A temporary file for `path`, locked in this block; afterwards those of the dead are gone.

    `shown` is what errors name in its place.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        slots = _slots(path)
        temporary, lock = _claim(path, slots)
    except OSError as error:
        files = (folder for folder in path.parents if folder.exists() and not folder.is_dir())
        file = next(files, None)
        cause = error.strerror if file is None else f"{file} is a file, expected a folder"
        raise OSError(error.errno, f"cannot write {shown or path}: {cause}") from error
    try:
        yield temporary
    finally:
        os.close(lock)
        _remove_dead(slots)


def _unlink(path: str | Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - of thousands of files


def _slots(path: Path) -> list[str]:
    """Names of the temporary files of `path`: one per concurrent writer."""
    # The name is hashed because a dot, the slot and a long name may exceed what a folder can hold.
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    suffix = path.suffix if len(path.suffix) <= 16 else ""
    return [f"{path.parent}/.tmp-{digest}-{number}{suffix}" for number in range(_SLOTS)]


def _claim(path: Path, slots: list[str]) -> tuple[Path, int]:
    """An empty temporary file for `path` and the descriptor that holds its lock."""
    for temporary in slots:
        while (lock := _lock(temporary, os.O_CREAT)) is not None:
            if _is_named(temporary, lock):
                os.ftruncate(lock, 0)
                return Path(temporary), lock
            os.close(lock)  # its writer published it after we opened and before we locked it
    # Many writers of one file, or a file system without locks: use a unique name.
    lock, name = tempfile.mkstemp(prefix=".tmp-", suffix=path.suffix[:16], dir=path.parent)
    os.fchmod(lock, 0o666 & ~_umask())
    return Path(name), lock


def _lock(temporary: str, flags: int) -> int | None:
    """Open and lock a temporary file; None where another process or user holds it."""
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_NOFOLLOW | flags, 0o666)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.ELOOP) and os.path.lexists(temporary):
            return None  # another user's
        raise
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in _NO_LOCKS and flags & os.O_CREAT:
            Path(temporary).unlink(missing_ok=True)
        return None
    return descriptor


def _is_named(temporary: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), Path(temporary).stat())
    except FileNotFoundError:
        return False


def _remove_dead(slots: list[str]) -> None:
    """Remove the temporary files whose writers died."""
    for temporary in slots:
        with contextlib.suppress(OSError):
            if (lock := _lock(temporary, 0)) is None:
                continue
            if _is_named(temporary, lock):
                _unlink(f"{temporary}{_PART}")
                _unlink(temporary)
            os.close(lock)


def _umask() -> int:
    mask = os.umask(0)  # it can only be read by setting it
    os.umask(mask)
    return mask


def _publish(temporary: Path, path: Path, durable: bool) -> None:
    if durable:
        _flush(temporary)
    temporary.replace(path)
    if durable:
        _flush(path.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_plain_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically; see `without_nan`."""
    with atomic_path(path) as temporary:
        text = json.dumps(without_nan(content), ensure_ascii=False, indent=1, allow_nan=False)
        temporary.write_text(text + "\n", "utf-8")


def without_nan(value: Any) -> Any:
    """`value` with None for every float that is not finite, in mappings and sequences too.

    JSON has neither NaN nor infinity; Python writes them anyway, and other readers fail on them.
    """
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def sha256(path: str | Path) -> str:
    """SHA-256 of a regular file's bytes, as 64 hexadecimal digits; raises as `open_regular`."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class FileStamp:
    """A file as it was read: size in bytes, modification time in ns, SHA-256 of its content."""

    size: int
    mtime_ns: int
    sha256: str


def open_regular(path: str | Path) -> BufferedReader:
    """Open a regular file for reading; a pipe or a device would block, or never end.

    Raises
    ------
    OSError
        The file cannot be read, or is of another kind.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    kind = kind_of(os.fstat(descriptor).st_mode)
    if kind != "file":
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"expected a regular file, found a {kind}", str(path))
    return os.fdopen(descriptor, "rb")


_KINDS = (
    (stat.S_ISREG, "file"),
    (stat.S_ISDIR, "folder"),
    (stat.S_ISFIFO, "pipe (FIFO)"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISLNK, "link"),
)


def kind_of(mode: int) -> str:
    """What `st_mode` says a directory entry is, in words; "file" for a regular file."""
    return next((words for is_kind, words in _KINDS if is_kind(mode)), "device")


def read_stamped(path: str | Path, *, most: int | None = None) -> tuple[bytes, FileStamp]:
    """All bytes of a regular file, and its stamp.

    Parameters
    ----------
    most : int, optional
        Largest size in bytes.

    Raises
    ------
    OSError
        The file cannot be read, is of another kind, or larger than `most`.
    """
    with open_regular(path) as file:
        before = os.fstat(file.fileno())  # a change while reading makes the stamp too old, not new
        if most is not None and before.st_size > most:
            reason = f"has {before.st_size:,} bytes, the limit is {most:,}"
            raise OSError(errno.EFBIG, reason, str(path))
        content = file.read()
    digest = hashlib.sha256(content).hexdigest()
    return content, FileStamp(len(content), before.st_mtime_ns, digest)


def expanded(path: str | Path) -> Path:
    """A path with ~ replaced by a home folder; as it is where there is none, as in a shell."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_file_name(text: str) -> bool:
    """Whether a text can name a file in a folder, and none outside it.

    >>> [is_file_name(text) for text in ("2007_000033", "a b.h5", "../x", "/x", "", ".x")]
    [True, True, False, False, False, False]
    """
    return bool(text) and text[0] != "." and "/" not in text and "\0" not in text
