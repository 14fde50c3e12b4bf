"""What the files of a job hold, as one digest: file times say nothing once a folder was copied."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from data.errors import ShardError
from data.files import sha256
from eigen.store.sealed import seal_of


def digest(paths: Iterable[str | Path], folder: Path | None = None) -> str | None:
    """SHA-256 over names and contents of files, in order; None where one cannot be read.

    Of sealed files (`.h5`) the seal counts, which is read from the header. The names and sizes of
    the files of `folder` count too: none of thousands of label maps is read.
    """
    whole = hashlib.sha256()
    try:
        for path in map(Path, paths):
            content = seal_of(path) if path.suffix == ".h5" else sha256(path)
            whole.update(f"{content} {path.name}\n".encode("utf-8", "surrogateescape"))
        for path in _files(folder) if folder is not None else ():
            whole.update(os.fsencode(f"{path.stat().st_size} {path.name}\n"))
    except (OSError, ShardError):
        return None
    return whole.hexdigest()


def _files(folder: Path) -> list[Path]:
    paths = (path for path in folder.rglob("*") if not path.name.startswith("."))
    return sorted(path for path in paths if path.is_file())
