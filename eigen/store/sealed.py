"""Files in which every byte is covered by a checksum that is verified before parsing.

A sealed file is

- 512 bytes of header: magic, length of the body, length of a block, SHA-256 of the table, spans of
  bulk data (start and end of each), zeros, SHA-256 of the header up to here;
- the body, hashed block by block;
- the table: the SHA-256 of each block.

The body may be read by any program that ignores the first 512 bytes and what follows the end, as
HDF5 does. Header, table and all blocks but those of bulk data are checked when the file is opened,
blocks of bulk data when they are first read: opening a file of any size is cheap, and readers get
only verified bytes.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data.errors import ShardError

HEADER = 512
BLOCK = 1 << 16
MAGIC = b"eigenshape seal\n"
_FIELDS = struct.Struct("<16sQQ32s16Q")
_SPANS = 8
_DIGEST = 32
AGAIN = "delete it and run the same command again"


def seal(path: Path, bulk: Sequence[tuple[int, int]] = ()) -> None:
    """Seal a file in place; its first 512 bytes are overwritten, its body follows them.

    Parameters
    ----------
    bulk : sequence of (start, stop), at most 8
        Bytes of large data that is read with `SealedFile.read` only, and verified then.
    """
    with path.open("r+b") as file:
        file.seek(HEADER)
        table = []
        length = 0
        while block := file.read(BLOCK):
            table.append(hashlib.sha256(block).digest())
            length += len(block)
        digests = b"".join(table)
        file.write(digests)
        spans = [*(offset for span in bulk for offset in span), *[0] * (2 * (_SPANS - len(bulk)))]
        fields = _FIELDS.pack(MAGIC, length, BLOCK, hashlib.sha256(digests).digest(), *spans)
        head = fields.ljust(HEADER - _DIGEST, b"\0")
        file.seek(0)
        file.write(head + hashlib.sha256(head).digest())


def seal_of(path: Path) -> str:
    """The `seal` in the header of a sealed file, read without verifying the body.

    Raises
    ------
    ShardError, OSError
        As `SealedFile`, for a header alone.
    """
    descriptor = _open(path)
    try:
        return _fields(path, os.pread(descriptor, HEADER, 0))[3].hex()
    finally:
        os.close(descriptor)


def _fields(path: Path, head: bytes) -> tuple[Any, ...]:
    if len(head) < HEADER or hashlib.sha256(head[:-_DIGEST]).digest() != head[-_DIGEST:]:
        raise ShardError(f"{path}: the header is damaged, or this is no shard; {AGAIN}")
    fields = _FIELDS.unpack(head[: _FIELDS.size])
    if fields[0] != MAGIC:
        raise ShardError(f"{path}: expected a sealed file, found {fields[0]!r}; {AGAIN}")
    return fields


class SealedFile:
    """A sealed file, read from any offset; only verified bytes are returned.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    seal : str
        Digest that identifies the whole content, as 64 hexadecimal digits.
    end : int
        Offset of the first byte after the body.

    Raises
    ------
    ShardError
        The file is missing, not sealed, damaged, or was replaced since it was opened.
    OSError
        The operating system refuses to open it (permissions, too many open files).
    """

    def __init__(self, path: Path):
        self.path = path
        self.identity: tuple[int, ...] | None = None
        head, size = _handles.read(self, 0, HEADER), _handles.size(self)
        _, length, self._block, digest, *spans = _fields(path, head)
        self.end = HEADER + length
        count = -(-length // self._block)
        if size != self.end + count * _DIGEST:
            raise ShardError(
                f"{path}: expected {self.end + count * _DIGEST} bytes, found {size}; {AGAIN}"
            )
        self._table = _handles.read(self, self.end, count * _DIGEST)
        if hashlib.sha256(self._table).digest() != digest:
            raise ShardError(f"{path}: the table of checksums is damaged; {AGAIN}")
        self._verified = bytearray(count)
        self.seal = digest.hex()
        self._verify_all_but(zip(spans[::2], spans[1::2], strict=True))

    def read(self, offset: int, length: int) -> bytes:
        """Bytes `offset` to `offset + length` of the body, cut at its end."""
        stop = min(offset + length, self.end)
        if stop <= offset:
            return b""
        first, last = (offset - HEADER) // self._block, (stop - 1 - HEADER) // self._block
        if all(self._verified[first : last + 1]):
            return self._read(offset, stop)
        start = HEADER + first * self._block
        data = self._read(start, min(HEADER + (last + 1) * self._block, self.end))
        for number in range(first, last + 1):
            self._verify(number, data[(number - first) * self._block :][: self._block])
        return data[offset - start : stop - start]

    def _verify_all_but(self, bulk: Iterable[tuple[int, int]]) -> None:
        deferred: set[int] = set()
        for start, stop in bulk:
            deferred.update(
                range(-(-(start - HEADER) // self._block), (stop - HEADER) // self._block)
            )
        for number in range(len(self._verified)):
            if number not in deferred:
                self.read(HEADER + number * self._block, 1)

    def _read(self, start: int, stop: int) -> bytes:
        data = _handles.read(self, start, stop - start)
        if len(data) != stop - start:
            raise ShardError(f"{self.path}: ends before byte {stop}; {AGAIN}")
        return data

    def close(self) -> None:
        """Close the descriptor; the next read opens it again, if it is still the same file."""
        _handles.close(self)

    def _verify(self, number: int, block: bytes) -> None:
        expected = self._table[number * _DIGEST : (number + 1) * _DIGEST]
        if hashlib.sha256(block).digest() != expected:
            start = HEADER + number * self._block
            raise ShardError(
                f"{self.path}: bytes {start} to {start + len(block)} do not match their checksum "
                f"(the file is damaged); {AGAIN}"
            )
        self._verified[number] = 1


class Stream(io.RawIOBase):
    """A `SealedFile` as a file object, for HDF5.

    HDF5 does not survive read errors. None occur here: all that it reads was verified when the file
    was opened.
    """

    def __init__(self, file: SealedFile):
        self._file, self._position = file, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._file.end}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        data = self._read(len(view))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _read(self, length: int) -> bytes:
        if self._position >= HEADER:
            return self._file.read(self._position, length)
        head = b"\0" * min(length, HEADER - self._position)  # HDF5 looks for its signature there
        return head + self._file.read(HEADER, length - len(head))


class _Handles:
    """Open descriptors of the most recently read files, at most `limit`."""

    def __init__(self, limit: int):
        self._limit = limit
        self._lock = threading.Lock()
        self._open: OrderedDict[SealedFile, int] = OrderedDict()
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()  # another thread of the parent may hold the old one

    def read(self, file: SealedFile, offset: int, length: int) -> bytes:
        with self._lock:
            return os.pread(self._descriptor(file), length, offset)

    def size(self, file: SealedFile) -> int:
        with self._lock:
            return os.fstat(self._descriptor(file)).st_size

    def close(self, file: SealedFile) -> None:
        with self._lock:
            if (descriptor := self._open.pop(file, None)) is not None:
                os.close(descriptor)

    def _descriptor(self, file: SealedFile) -> int:
        if (descriptor := self._open.get(file)) is not None:
            self._open.move_to_end(file)
            return descriptor
        descriptor = _open(file.path)
        status = os.fstat(descriptor)
        identity = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
        if (file.identity or identity) != identity:
            os.close(descriptor)
            raise ShardError(f"{file.path}: was replaced while it was in use; open it again")
        file.identity = identity
        while len(self._open) >= self._limit:
            os.close(self._open.popitem(last=False)[1])
        self._open[file] = descriptor
        return descriptor


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ShardError(f"{path}: no such file; run the stage that writes it again") from error
    except OSError as error:
        raise OSError(error.errno, f"cannot read {path}: {error.strerror}") from error


_handles = _Handles(limit=16)
