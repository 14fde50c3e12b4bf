"""HDF5 files that hold something for each of many pictures.

A packed file has *columns*, datasets with one row a picture (`id`, `size`, ...), and *ragged*
arrays, several rows a picture laid end to end, whose bounds are in an offset column of n + 1
entries. Chunks carry the Fletcher-32 filter and the metadata its own checksums (`libver="latest"`);
rows never written read as NaN. A file appears under its name only when it is complete
(`data.files.atomic_path`).

Root attributes `format` and `version` say what the file is; `count` repeats the number of pictures.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from data.errors import ShardError
from data.files import atomic_path

CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, eq=False)
class Format:
    """What a kind of packed file holds.

    Attributes
    ----------
    kind : str
    version : int
    ragged : mapping from the name of a ragged array to the name of its offset column
        Arrays that share an offset column have equally many rows for each picture.
    """

    kind: str
    version: int
    ragged: Mapping[str, str]


class PackedWriter:
    """Collects columns in memory and streams ragged arrays to disk.

    Parameters
    ----------
    file : h5py.File, open for writing on `disk`
    """

    def __init__(self, file: h5py.File, disk: _Disk, format: Format):
        self._file = file
        self._disk = disk
        self._ragged = format.ragged
        self._columns: dict[str, list[Any]] = {}
        self._offsets: dict[str, list[int]] = {name: [0] for name in self._ragged.values()}

    def append(self, arrays: Mapping[str, np.ndarray], **columns: Any) -> None:
        """Add one picture: its ragged arrays, rows first, and its entry of every column."""
        for name, array in arrays.items():
            dataset = self._file.get(name) or self._create(name, array)
            start = dataset.shape[0]
            dataset.resize(start + len(array), axis=0)
            dataset[start:] = array
        self._disk.check()
        ends = {self._ragged[name]: len(array) for name, array in arrays.items()}
        for offset, rows in ends.items():
            self._offsets[offset].append(self._offsets[offset][-1] + rows)
        for name, value in columns.items():
            self._columns.setdefault(name, []).append(value)

    def _create(self, name: str, array: np.ndarray) -> h5py.Dataset:
        row_bytes = max(1, array[:1].nbytes)
        return self._file.create_dataset(
            name,
            shape=(0, *array.shape[1:]),
            maxshape=(None, *array.shape[1:]),
            dtype=array.dtype,
            chunks=(max(1, CHUNK_BYTES // row_bytes), *array.shape[1:]),
            fletcher32=True,
            fillvalue=np.nan if array.dtype.kind == "f" else None,
        )

    def finish(self) -> None:
        """Write the columns; called once, after the last picture."""
        for name, values in self._columns.items():
            self._write_column(name, values)
        for name, offsets in self._offsets.items():
            self._file.create_dataset(name, data=np.asarray(offsets, np.int64), fletcher32=True)
        self._file.attrs["count"] = len(next(iter(self._columns.values()), ()))

    def _write_column(self, name: str, values: Sequence[Any]) -> None:
        if isinstance(values[0], str):
            # Fixed length: variable-length strings live in a heap that has no checksum.
            encoded = [value.encode() for value in values]
            kind = h5py.string_dtype("utf-8", max(1, max(map(len, encoded))))
            data = np.array(encoded, dtype=kind)
        else:
            data = np.asarray(values)
        self._file.create_dataset(name, data=data, fletcher32=True)


@contextlib.contextmanager
def create(
    path: str | Path, format: Format, attributes: Mapping[str, Any]
) -> Iterator[PackedWriter]:
    """Write a packed file; it appears at `path`, complete, when the block ends without an error.

    Raises
    ------
    OSError
        The folder cannot be written or the disk is full; names `path`. Nothing is left behind.
    """
    with atomic_path(path) as temporary, _Disk(temporary, "wb+") as disk:
        try:
            with h5py.File(disk, "w", libver="latest") as file:
                file.attrs.update({"format": format.kind, "version": format.version, **attributes})
                writer = PackedWriter(file, disk, format)
                yield writer
                writer.finish()
        finally:
            disk.check()  # what HDF5 says of a disk that lost its writes is not the reason


class _Disk(io.FileIO):
    """A file whose write errors are kept for `check` instead of being shown to HDF5.

    HDF5 does not survive a failing disk: it retries in every destructor and crashes the process
    when it ends. So it is told that all went well, and we raise.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        try:
            while self.failure is None and len(left):
                left = left[super().write(left) :]
        except OSError as error:
            self.failure = error
        return len(data)

    def check(self) -> None:
        """Raise what went wrong since the file was opened."""
        if self.failure is not None:
            raise self.failure


class PackedReader:
    """Reads a packed file by picture. Opened lazily, once in each process that uses it.

    A fork shares its parent's file handle and offset, which HDF5 does not survive, so handles are
    keyed by process and dropped when the reader is pickled.

    Raises
    ------
    ShardError
        Not HDF5, another format or version, a missing dataset, a count that does not fit, a failed
        checksum, or a value that was never written.
    """

    def __init__(self, path: str | Path, format: Format):
        self.path = Path(path)
        self.format = format
        self._handle: tuple[int, h5py.File] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    @property
    def file(self) -> h5py.File:
        if self._handle is None or self._handle[0] != os.getpid():
            self._handle = (os.getpid(), self._open())
        return self._handle[1]

    def _open(self) -> h5py.File:
        if not self.path.exists():
            raise ShardError(
                f"{self.path}: there is no such file; run the stage that makes it again"
            )
        with self._reading("the file"):
            # Shards are written once and renamed, so locks (which fail on some network file
            # systems) protect nothing here.
            file = h5py.File(self.path, "r", locking=False)
        with self._reading("the root attributes"):
            found = file.attrs.get("format"), file.attrs.get("version")
        if found != (self.format.kind, self.format.version):
            raise ShardError(
                f"{self.path}: expected {self.format.kind} version {self.format.version}, "
                f"found {found[0]} version {found[1]}; remake it, or read it with the version of "
                f"eigenshape that made it ({file.attrs.get('software', 'not recorded')})"
            )
        return file

    @contextlib.contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            if isinstance(error, ShardError):
                raise
            raise ShardError(
                f"{self.path}: {what} cannot be read ({_first_line(error)}); the file is damaged: "
                "delete it and give the same command again"
            ) from error

    def attributes(self) -> dict[str, Any]:
        """Root attributes."""
        file = self.file
        with self._reading("the root attributes"):
            return dict(file.attrs)

    def column(self, name: str) -> np.ndarray:
        """A whole column; strings come decoded."""
        file = self.file
        with self._reading(f"dataset {name!r}"):
            dataset = file[name]
            values = dataset.asstr()[:] if h5py.check_string_dtype(dataset.dtype) else dataset[:]
            count = int(file.attrs["count"]) + (name in self.format.ragged.values())
        if len(values) != count:
            raise ShardError(
                f"{self.path}: dataset {name!r} has {len(values)} rows, expected {count}; "
                "delete the file and give the same command again"
            )
        return self._written(name, values)

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows start..stop of a ragged array."""
        file = self.file
        with self._reading(f"dataset {name!r}"):
            values = file[name][start:stop]
        if len(values) != stop - start:
            raise ShardError(
                f"{self.path}: dataset {name!r} ends before row {stop}; remake the file"
            )
        return self._written(name, values)

    def _written(self, name: str, values: np.ndarray) -> np.ndarray:
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise ShardError(
                f"{self.path}: dataset {name!r} has values that were never written; "
                "delete the file and give the same command again"
            )
        return values

    def close(self) -> None:
        """Close this process's handle; the next use opens it again."""
        if self._handle is not None and self._handle[0] == os.getpid():
            self._handle[1].close()
        self._handle = None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
