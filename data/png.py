"""Masks as PNG files that record their origin.

An 8-bit grey PNG of 0 and 255 with a text chunk of the keyword `eigenshape`, a JSON object. Written
here because a binary mask needs neither the search for filters nor the copies of a general encoder:
the "up" filter (PNG specification, third edition, section 9) leaves zeros but at borders. Runs of
them are all that there is to compress, for which zlib-ng gives the bytes of zlib in a fifth of the
time.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from zlib_ng import zlib_ng

from data.errors import SettingError
from data.files import atomic_path

KEYWORD = b"eigenshape"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_UP = 2


def write_mask(
    path: str | Path,
    mask: np.ndarray,
    about: Mapping[str, Any] | None = None,
    *,
    durable: bool = True,
) -> None:
    """Write a (H, W) bool mask as an 8-bit grey PNG of 0 and 255.

    Parameters
    ----------
    about : mapping, optional
        What the mask was made of; `mask_origin` reads it.
    durable : bool
        As in `data.files.atomic_path`.

    Raises
    ------
    SettingError
        `mask` is not a two-dimensional array of bool.
    OSError
        The file cannot be written.
    """
    content = MaskEncoder()(mask, about)  # before a file is begun
    with atomic_path(path, durable=durable) as temporary:
        temporary.write_bytes(content)


class MaskEncoder:
    """Encodes (H, W) bool masks as PNG files; keeps its working memory for the next mask."""

    def __init__(self) -> None:
        self._rows = np.empty((0, 0), np.uint8)

    def __call__(self, mask: np.ndarray, about: Mapping[str, Any] | None = None) -> bytes:
        """The bytes of the file; parameters and errors as `write_mask`."""
        if mask.dtype != np.bool_ or mask.ndim != 2 or not mask.size:
            raise SettingError(f"mask: expected (H, W) bool, found {mask.shape} {mask.dtype.name}")
        height, width = mask.shape
        chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))]
        if about is not None:
            text = json.dumps(about, sort_keys=True, separators=(",", ":"))
            chunks.append((b"tEXt", KEYWORD + b"\0" + text.encode("ascii")))
        encoder = zlib_ng.compressobj(1, strategy=zlib_ng.Z_RLE)
        data = encoder.compress(self._filtered(mask.view(np.uint8)).data) + encoder.flush()
        chunks += [(b"IDAT", data), (b"IEND", b"")]
        return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks)

    def _filtered(self, pixels: np.ndarray) -> np.ndarray:
        """Rows behind the "up" filter, for pixels 0 and 1 that stand for 0 and 255."""
        height, width = pixels.shape
        if self._rows.shape != (height, width + 1):
            self._rows = np.empty((height, width + 1), np.uint8)
            self._rows[:, 0] = _UP
        # Modulo 256, in which a PNG's filters compute, 255 (a - b) is b - a.
        np.negative(pixels[0], out=self._rows[0, 1:])
        np.subtract(pixels[:-1], pixels[1:], out=self._rows[1:, 1:])
        return self._rows


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def mask_origin(path: str | Path) -> dict[str, Any] | None:
    """What a mask says of its making; None for a file of another origin.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    with Path(path).open("rb") as file:
        head = file.read(4096)
    start = len(_SIGNATURE) + 25  # behind the header chunk
    length = int.from_bytes(head[start : start + 4], "big")
    chunk = head[start + 4 : start + 8 + length]
    checksum = head[start + 8 + length : start + 12 + length]
    if not chunk.startswith(b"tEXt" + KEYWORD + b"\0"):
        return None
    if struct.pack(">I", zlib.crc32(chunk)) != checksum:
        return None
    try:
        about = json.loads(chunk[4 + len(KEYWORD) + 1 :])
    except ValueError:
        return None
    return about if isinstance(about, dict) else None
