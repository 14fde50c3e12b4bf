"""One run at a time on a folder of results; the lock dies with its process."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from data.errors import RunError
from data.files import check_writable

FILE = ".run.lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_held: dict[Path, int] = {}  # descriptors; the end of the process closes those that are left

log = logging.getLogger(__name__)


def claim(folder: str | Path, *, elsewhere: str) -> None:
    """Hold the lock of a folder until this process ends.

    Parameters
    ----------
    elsewhere : str
        How to choose another folder, for the message.

    Raises
    ------
    RunError
        Another process holds it: the message says which.
    OSError
        The folder cannot be made or written; names it.
    """
    path = Path(folder).resolve() / FILE
    if path not in _held:
        check_writable(Path(folder))
        _held[path] = _locked(path, elsewhere)


@contextlib.contextmanager
def held(folder: str | Path, *, elsewhere: str) -> Iterator[None]:
    """Hold the lock of a folder in this block; raises as `claim`."""
    path = Path(folder).resolve() / FILE
    if path in _held:
        yield
        return
    claim(folder, elsewhere=elsewhere)
    try:
        yield
    finally:
        os.close(_held.pop(path))


def _locked(path: Path, elsewhere: str) -> int:
    """A descriptor that holds the lock; the file says which process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        about = f"process {os.getpid()} on {socket.gethostname()} since {time.ctime()}\n"
        os.write(descriptor, about.encode())
    except BlockingIOError:
        holder = os.read(descriptor, 1000).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise RunError(
            f"{path.parent} is in use by another run ({holder}); wait until it ends, stop it, or "
            f"{elsewhere}"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            os.close(descriptor)
            raise OSError(error.errno, error.strerror, str(path)) from error
        log.warning("%s: its file system has no locks; start one run at a time there", path.parent)
    return descriptor
