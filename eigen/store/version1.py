"""Read shards of version 1.

They are plain HDF5: chunks have Fletcher-32 checksums and the structure its own, but attributes are
in a heap without any. Where the folder's manifest states the SHA-256 of the file, it is compared
before HDF5 parses the file; without a manifest the file is trusted. The geometry of the cells and
content hashes are not stored.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from data.errors import ShardError
from data.files import sha256
from eigen.store.packed import column_values, first_line
from eigen.store.sealed import AGAIN

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def is_version1(path: Path) -> bool:
    """Whether a file starts as HDF5; sealed files do not."""
    try:
        with path.open("rb") as file:
            return file.read(len(_SIGNATURE)) == _SIGNATURE
    except OSError:
        return False  # reported when the file is read


class Version1Reader:
    """Reads a shard of version 1; same methods and errors as `packed.PackedReader`.

    The file is open only while it is read: no handle is kept, and none is shared by a fork.
    """

    def __init__(self, path: Path, kind: str, expected_sha256: str | None):
        self.path, self._kind = path, kind
        self._expected = expected_sha256

    @contextlib.contextmanager
    def _open(self, what: str) -> Iterator[h5py.File]:
        if self._expected is not None:
            if (digest := sha256(self.path)) != self._expected:
                raise ShardError(
                    f"{self.path}: expected SHA-256 {self._expected}, as in the manifest, "
                    f"found {digest}; {AGAIN}"
                )
            self._expected = None
        try:
            with h5py.File(self.path, "r", locking=False) as file:
                kind = file.attrs.get("format"), file.attrs.get("version")
                if kind != (self._kind, 1):
                    raise ShardError(
                        f"{self.path}: expected {self._kind} version 1, found {kind[0]} version "
                        f"{kind[1]}; {AGAIN}"
                    )
                yield file
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            if isinstance(error, ShardError):
                raise
            raise ShardError(
                f"{self.path}: {what} cannot be read ({first_line(error)}); {AGAIN}"
            ) from error

    def attributes(self) -> dict[str, Any]:
        """Root attributes."""
        with self._open("the root attributes") as file:
            return dict(file.attrs)

    def column(self, name: str) -> np.ndarray:
        """A whole column; strings are decoded."""
        with self._open(f"dataset {name!r}") as file:
            values = column_values(file[name])
            count = int(file.attrs["count"]) + (name == "offset")
        if len(values) != count:
            raise ShardError(
                f"{self.path}: dataset {name!r}: expected {count} rows, found "
                f"{len(values)}; {AGAIN}"
            )
        return self._without_nan(name, values)

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows start..stop of a ragged array."""
        with self._open(f"dataset {name!r}") as file:
            values = file[name][start:stop]
        if len(values) != stop - start:
            raise ShardError(f"{self.path}: dataset {name!r} ends before row {stop}; {AGAIN}")
        return self._without_nan(name, values)

    def _without_nan(self, name: str, values: np.ndarray) -> np.ndarray:
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise ShardError(
                f"{self.path}: dataset {name!r} has values that were never written; {AGAIN}"
            )
        return values

    def close(self) -> None:
        """Do nothing: no file is open between two reads."""
