"""One run at a time on the results of a data set; the lock dies with its process."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path
from typing import IO

from data.errors import RunError

FILE = ".run.lock"
_held: dict[Path, IO[str]] = {}


def claim(folder: str | Path) -> None:
    """Hold the lock of a results folder until this process ends.

    Raises
    ------
    RunError
        Another process holds it: the message says which.
    """
    path = Path(folder).resolve() / FILE
    if path in _held:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise RunError(
            f"{path.parent} is in use by another run ({holder}); wait until it ends, stop it, or "
            "set another results_root"
        ) from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.ctime()}\n")
    file.flush()
    _held[path] = file
