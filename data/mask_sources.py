"""Masks from other programs, per image: COCO results, SAM files, or a folder of label maps."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.coco_results import decode, read_results
from data.errors import DatasetError
from data.pictures import read_label

VOID = 255

Read = Callable[[tuple[int, int]], np.ndarray]


@dataclass(frozen=True, eq=False)
class ImageMasks:
    """Masks of one image.

    Attributes
    ----------
    stem : str
        Name of the image file without its ending.
    read : callable
        (H, W) of the image -> masks (M, H, W) bool. Raises `DatasetError` or `ImageError` for
        masks of another size or that cannot be read, naming their file.
    path : Path or None
        The label map that holds the masks of this image alone.
    """

    stem: str
    read: Read
    path: Path | None = None


def open_masks(source: str | Path) -> list[ImageMasks]:
    """Masks by image, sorted by stem.

    Parameters
    ----------
    source : path
        A COCO JSON file (results or data set), or a folder of SAM's files, one JSON per image, or
        of label maps, one PNG per image: each value but 255 is a mask.

    Raises
    ------
    DatasetError
        No such file or folder, or one without masks.
    """
    source = Path(source)
    if source.is_file():
        return _ordered(source, _of_entries(source, read_results(source)))
    if not source.is_dir():
        raise DatasetError(f"{source}: no such file or folder; expected COCO JSON or label PNGs")
    if maps := _named(source, ".png"):
        return _ordered(source, (ImageMasks(p.stem, _label_reader(p), p) for p in maps))
    files = _named(source, ".json")
    if not files:
        raise DatasetError(f"{source}: expected label maps (*.png) or SAM's files (*.json)")
    return _ordered(
        source, (masks for path in files for masks in _of_entries(path, read_results(path)))
    )


def _ordered(source: Path, masks: Iterable[ImageMasks]) -> list[ImageMasks]:
    """Masks sorted by stem; those of an image are in one file."""
    found = sorted(masks, key=lambda masks: masks.stem)
    for one, following in itertools.pairwise(found):
        if one.stem == following.stem:
            raise DatasetError(
                f"{source}: expected one file with masks of {one.stem}, found several; join them"
            )
    return found


def _named(folder: Path, suffix: str) -> list[Path]:
    """The files of a folder with an ending in any case, but for hidden ones."""
    return sorted(path for path in folder.glob("[!.]*") if path.suffix.lower() == suffix)


def _of_entries(path: Path, entries: list[dict[str, Any]]) -> Iterator[ImageMasks]:
    by_image = defaultdict(list)
    for number, entry in enumerate(entries):
        by_image[Path(str(entry.get("file_name", entry["image_id"]))).stem].append((number, entry))
    for stem, some in by_image.items():
        yield ImageMasks(stem, _entry_reader(path, some))


def _entry_reader(path: Path, entries: list[tuple[int, dict[str, Any]]]) -> Read:
    def read(size: tuple[int, int]) -> np.ndarray:
        return np.stack(
            [
                decode(entry["segmentation"], size, f"{path}: entry {number}")
                for number, entry in entries
            ]
        )

    return read


def _label_reader(path: Path) -> Read:
    def read(size: tuple[int, int]) -> np.ndarray:
        labels = read_label(path)
        if labels.shape != size:
            raise DatasetError(
                f"{path}: label map of {labels.shape[1]} x {labels.shape[0]} pixels for an image "
                f"of {size[1]} x {size[0]}; make it from the unresized image, or resize it with "
                "nearest neighbours"
            )
        values = [value for value in np.unique(labels) if value != VOID]
        return np.stack([labels == value for value in values] or [np.zeros(size, bool)])

    return read


def overlapping(masks: np.ndarray) -> int:
    """Number of pixels that lie in more than one of (M, H, W) masks."""
    return int(np.count_nonzero(masks.sum(axis=0, dtype=np.int32) > 1))
