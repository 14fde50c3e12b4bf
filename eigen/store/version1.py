"""Shards of version 1, which are still read.

They are plain HDF5: chunks carry Fletcher-32 and the structure its own checksums, but attributes
are in a heap without any. Where the SHA-256 of the file is known (from the folder's manifest) it is
compared before HDF5 parses the file; a shard of version 1 without a manifest is read on trust.
They do not hold the geometry of the cells, nor content hashes.
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
from eigen.store.sealed import AGAIN

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def is_version1(path: Path) -> bool:
    """Whether a file starts as HDF5; sealed files do not."""
    try:
        with path.open("rb") as file:
            return file.read(len(_SIGNATURE)) == _SIGNATURE
    except OSError:
        return False  # reported by who reads it


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
            if (found := sha256(self.path)) != self._expected:
                raise ShardError(
                    f"{self.path}: SHA-256 is {found}, the manifest says {self._expected}; {AGAIN}"
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
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ShardError(f"{self.path}: {what} cannot be read ({reason}); {AGAIN}") from error

    def attributes(self) -> dict[str, Any]:
        """Root attributes."""
        with self._open("the root attributes") as file:
            return dict(file.attrs)

    def column(self, name: str) -> np.ndarray:
        """A whole column; strings come decoded."""
        with self._open(f"dataset {name!r}") as file:
            dataset = file[name]
            values = dataset.asstr()[:] if h5py.check_string_dtype(dataset.dtype) else dataset[:]
            count = int(file.attrs["count"]) + (name == "offset")
        if len(values) != count:
            raise ShardError(
                f"{self.path}: dataset {name!r} has {len(values)} rows, expected {count}; {AGAIN}"
            )
        return self._written(name, values)

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows start..stop of a ragged array."""
        with self._open(f"dataset {name!r}") as file:
            values = file[name][start:stop]
        if len(values) != stop - start:
            raise ShardError(f"{self.path}: dataset {name!r} ends before row {stop}; {AGAIN}")
        return self._written(name, values)

    def _written(self, name: str, values: np.ndarray) -> np.ndarray:
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise ShardError(
                f"{self.path}: dataset {name!r} has values that were never written; {AGAIN}"
            )
        return values

    def close(self) -> None:
        """Nothing is open between two reads."""
