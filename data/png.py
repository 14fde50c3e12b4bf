"""Masks as PNG files that say what they were made of.

An 8-bit grey PNG of 0 and 255 with a text chunk of the keyword `eigenshape`, a JSON object. Written
here because a binary mask needs neither the search for filters nor the copies of a general encoder:
the "up" filter (PNG specification, third edition, section 9) leaves zeros but at borders.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

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
    if mask.dtype != np.bool_ or mask.ndim != 2 or not mask.size:
        raise SettingError(
            f"mask for {path}: expected (H, W) bool, found {mask.shape} {mask.dtype.name}"
        )
    height, width = mask.shape
    rows = np.zeros((height, width + 1), np.uint8)
    rows[:, 0] = _UP
    pixels = mask.view(np.uint8)
    rows[0, 1:] = pixels[0]
    np.subtract(pixels[1:], pixels[:-1], out=rows[1:, 1:])
    rows[:, 1:] *= 255  # modulo 256, in which a PNG's filters compute
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))]
    if about is not None:
        text = json.dumps(about, sort_keys=True, separators=(",", ":"))
        chunks.append((b"tEXt", KEYWORD + b"\0" + text.encode("ascii")))
    encoder = zlib.compressobj(1, strategy=zlib.Z_RLE)  # runs of zeros are all there is to find
    chunks += [(b"IDAT", encoder.compress(rows.data) + encoder.flush()), (b"IEND", b"")]
    with atomic_path(path, durable=durable) as temporary, temporary.open("wb") as file:
        file.write(_SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks))


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
