"""Read the lists that come with data sets: text files, one entry per line."""

from __future__ import annotations

import re
from pathlib import Path

from data.errors import DatasetError, reason
from data.pictures import SUFFIXES

_IMAGE = re.compile(rf"(.*?)(?:{'|'.join(map(re.escape, SUFFIXES))})(?:\s|$)", re.IGNORECASE)


def read_lines(path: str | Path) -> list[str]:
    """Stripped lines of a text file, without blank ones and byte order mark.

    Raises
    ------
    DatasetError
        The file cannot be read as UTF-8 text.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot read the list {path}: {reason(error)}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_ids(path: str | Path) -> list[str]:
    """Image ids of a list, in file order.

    A line holds an id, the path of an image, or the paths of an image and of its mask:
    `2007_000032`, `JPEGImages/2007_000032.jpg`, or
    `/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png`.

    Raises
    ------
    DatasetError
        The file cannot be read as UTF-8 text.
    """
    return [_id(line) for line in read_lines(path)]


def _id(line: str) -> str:
    image = _IMAGE.match(line)
    if image is not None:
        return image[1].replace("\\", "/").rpartition("/")[2]
    return line.split()[0].rpartition("/")[2] if "/" in line else line
