"""Sealed HDF5 files with an entry for each of many images.

A packed file has *columns*, datasets with one row per image (`id`, `size`, ...), and *ragged*
arrays, several rows per image laid end to end, whose bounds are in an offset column of n + 1
entries. Ragged arrays are contiguous, so that rows are read from the file directly; the rest is
read once. Strings have a fixed length: HDF5 keeps those of variable length in a separate
heap.

The file is sealed (`eigen.store.sealed`): HDF5 parses only bytes that were checked. It appears
under its name only when it is complete (`data.files.atomic_path`).

Root attributes `format` and `version` identify the file; `count` repeats the number of images.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np

from data.errors import ShardError
from data.files import atomic_path
from eigen.store.sealed import AGAIN, HEADER, SealedFile, Stream, seal

COPIED_BYTES = 1 << 23


@dataclass(frozen=True, eq=False)
class Format:
    """The kind of a packed file and its ragged arrays.

    Attributes
    ----------
    kind : str
    version : int
    ragged : mapping from the name of a ragged array to the name of its offset column
        Arrays that share an offset column have equally many rows for each image.
    """

    kind: str
    version: int
    ragged: Mapping[str, str]


class PackedWriter:
    """Collects columns in memory and ragged arrays in unnamed temporary files."""

    def __init__(self, folder: Path, format: Format):
        self._folder = folder
        self._ragged = format.ragged
        self._columns: dict[str, list[Any]] = {}
        self._offsets: dict[str, list[int]] = {name: [0] for name in self._ragged.values()}
        self._spools: dict[str, tuple[IO[bytes], np.ndarray]] = {}

    def append(self, arrays: Mapping[str, np.ndarray], **columns: Any) -> None:
        """Add one image: its ragged arrays, rows first, and its entry of every column."""
        for name, array in arrays.items():
            if name not in self._spools:
                self._spools[name] = (tempfile.TemporaryFile(dir=self._folder), array[:0])  # noqa: SIM115
            spool, like = self._spools[name]
            if (array.dtype, array.shape[1:]) != (like.dtype, like.shape[1:]):
                raise ShardError(
                    f"{name}: expected rows of {like.shape[1:]} {like.dtype}, found "
                    f"{array.shape[1:]} {array.dtype}; images of one file have equally many pairs"
                )
            spool.write(np.ascontiguousarray(array).data)
        ends = {self._ragged[name]: len(array) for name, array in arrays.items()}
        for offset, rows in ends.items():
            self._offsets[offset].append(self._offsets[offset][-1] + rows)
        for name, value in columns.items():
            self._columns.setdefault(name, []).append(value)

    def write(self, file: h5py.File) -> list[tuple[int, int]]:
        """Write all that was appended; returns the bytes (start, stop) of each ragged array."""
        for name, values in self._columns.items():
            data = _fixed_length(values) if isinstance(values[0], str) else np.asarray(values)
            file.create_dataset(name, data=data)
        for name, offsets in self._offsets.items():
            file.create_dataset(name, data=np.asarray(offsets, np.int64))
        bulk = []
        for name, (spool, like) in self._spools.items():
            count = self._offsets[self._ragged[name]][-1]
            dataset = file.create_dataset(name, (count, *like.shape[1:]), like.dtype)
            _copy(spool, dataset)
            if count:
                start = dataset.id.get_offset()
                bulk.append((start, start + dataset.id.get_storage_size()))
        file.attrs["count"] = len(next(iter(self._columns.values()), ()))
        return bulk

    def close(self) -> None:
        """Delete the temporary files."""
        for spool, _ in self._spools.values():
            # Closing flushes, which fails again on a full disk.
            with contextlib.suppress(OSError):
                spool.close()


def _copy(spool: IO[bytes], dataset: h5py.Dataset) -> None:
    spool.seek(0)
    step = max(1, COPIED_BYTES // max(1, dataset.dtype.itemsize * dataset[:1].size))
    for start in range(0, len(dataset), step):
        stop = min(start + step, len(dataset))
        rows = np.empty((stop - start, *dataset.shape[1:]), dataset.dtype)
        spool.readinto(rows.data)  # type: ignore[attr-defined]
        dataset[start:stop] = rows


def _fixed_length(values: Sequence[str]) -> np.ndarray:
    encoded = [value.encode() for value in values]
    return np.array(encoded, h5py.string_dtype("utf-8", max(1, max(map(len, encoded)))))


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
    attributes = {"format": format.kind, "version": format.version, **attributes}
    with atomic_path(path) as temporary:
        with contextlib.closing(PackedWriter(temporary.parent, format)) as writer:
            yield writer
            with _hdf5(temporary) as file:
                for name, value in attributes.items():
                    data = _fixed_length([value]) if isinstance(value, str) else np.array([value])
                    file.attrs.create(name, data[0], dtype=data.dtype)
                bulk = writer.write(file)
        seal(temporary, bulk)


@contextlib.contextmanager
def _hdf5(path: Path) -> Iterator[h5py.File]:
    with _Disk(path, "wb+") as disk:
        try:
            with h5py.File(disk, "w", libver="latest", userblock_size=HEADER) as file:
                yield file
        finally:
            disk.check()  # HDF5's error after a lost write does not name the cause


class _Disk(io.FileIO):
    """A file whose write errors are kept for `check` and hidden from HDF5.

    HDF5 does not survive a failing disk: it retries in every destructor and crashes the process
    when it ends. So every write is reported to it as successful, and `check` raises.
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
        """Raise the first write error since the file was opened."""
        if self.failure is not None:
            raise self.failure


@dataclass(frozen=True)
class _Ragged:
    """Where a ragged array lies in the file."""

    start: int
    shape: tuple[int, ...]
    dtype: np.dtype


class PackedReader:
    """Reads a packed file by image. Opened on first use; safe to fork and to pickle.

    Raises
    ------
    ShardError
        Missing, damaged, of another format or version, or with inconsistent contents.
    OSError
        The operating system refuses to open it (permissions, too many open files).
    """

    def __init__(self, path: str | Path, format: Format):
        self.path = Path(path)
        self.format = format
        self._file: SealedFile | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "format": self.format, "_file": None}

    def _open(self) -> SealedFile:
        if self._file is None:
            file = SealedFile(self.path)
            self._attributes, self._columns, self._ragged = self._parse(file)
            self._file = file
        return self._file

    def _parse(
        self, sealed: SealedFile
    ) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, _Ragged]]:
        try:
            with h5py.File(Stream(sealed), "r") as file:
                attributes = {name: _text(value) for name, value in file.attrs.items()}
                self._check_kind(attributes)
                names = set(file) - set(self.format.ragged)
                columns = {name: column_values(file[name]) for name in sorted(names)}
                ragged = {name: _locate(file[name]) for name in self.format.ragged if name in file}
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            if isinstance(error, ShardError):
                raise
            raise ShardError(
                f"{self.path}: cannot be read ({first_line(error)}); {AGAIN}"
            ) from error
        for name, column in columns.items():
            expected = int(attributes["count"]) + (name in self.format.ragged.values())
            if len(column) != expected:
                raise ShardError(
                    f"{self.path}: dataset {name!r}: expected {expected} rows, found "
                    f"{len(column)}; {AGAIN}"
                )
        return attributes, columns, ragged

    def _check_kind(self, attributes: Mapping[str, Any]) -> None:
        kind, version = attributes.get("format"), attributes.get("version")
        if (kind, version) != (self.format.kind, self.format.version):
            raise ShardError(
                f"{self.path}: expected {self.format.kind} version {self.format.version}, "
                f"found {kind} version {version}; make it again, or read it with the version of "
                f"eigenshape that wrote it ({attributes.get('software', 'not recorded')})"
            )

    @property
    def seal(self) -> str:
        """Digest of the whole content, as 64 hexadecimal digits."""
        return self._open().seal

    def attributes(self) -> dict[str, Any]:
        """Root attributes."""
        self._open()
        return dict(self._attributes)

    def column(self, name: str) -> np.ndarray:
        """A whole column; strings are decoded."""
        self._open()
        if name not in self._columns:
            raise ShardError(f"{self.path}: has no dataset {name!r}; {AGAIN}")
        return self._columns[name]

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows start..stop of a ragged array; read-only."""
        file = self._open()
        array = self._ragged.get(name)
        if array is None or not 0 <= start <= stop <= array.shape[0]:
            raise ShardError(
                f"{self.path}: dataset {name!r} has no rows {start} to {stop}; {AGAIN}"
            )
        row = array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
        data = file.read(array.start + int(start) * row, int(stop - start) * row)
        return np.frombuffer(data, array.dtype).reshape(-1, *array.shape[1:])

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._file is not None:
            self._file.close()
        self._file = None


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def column_values(dataset: h5py.Dataset) -> np.ndarray:
    """A whole dataset; strings are decoded."""
    return dataset.asstr()[:] if h5py.check_string_dtype(dataset.dtype) else dataset[:]


def _locate(dataset: h5py.Dataset) -> _Ragged:
    return _Ragged(dataset.id.get_offset() or HEADER, dataset.shape, dataset.dtype)


def first_line(error: BaseException) -> str:
    """First line of an error's message, or its class where there is no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
