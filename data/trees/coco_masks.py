"""COCO's official instance annotations, painted as one label map per image.

Values are 0 for background and the category's rank among the 80, by ascending id, plus 1. Instances
are painted in file order, a later one over an earlier; crowd regions, which COCO outlines only
loosely, stay background; polygons are filled with their outline, each vertex at the pixel that
holds it. This is how the masks behind the published COCO-20i lists were made: with it the rule of
`data.sazs.splits` reproduces them exactly on the images that we could compare (docs/data.md).

A file of 600,000 annotations has a third of a gigabyte and needs ten times that once parsed, so
only the position of each annotation is kept; workers parse the few that they paint.
"""

from __future__ import annotations

import json
import logging
import mmap
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data.errors import DatasetError, reason
from data.parallel import ordered_map
from data.pictures import write_png
from data.progress import progress

logger = logging.getLogger(__name__)

CLASSES = 80
_PHOTOS_PER_TASK = 64


@dataclass(frozen=True, slots=True)
class AnnotatedPhoto:
    """One image of an annotation file, with the byte ranges of its annotations in that file."""

    id: str
    height: int
    width: int
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Instances:
    """Index of an annotation file. `label_of` maps category id to label value, 1 to 80."""

    path: Path
    photos: list[AnnotatedPhoto]
    label_of: dict[int, int]


def index_instances(path: str | Path) -> Instances:
    """Index an official `instances_{split}.json`, in memory of about the file's size.

    Raises
    ------
    DatasetError
        The file cannot be read, is not JSON, or lacks the official fields or the 80 categories.
    """
    path = Path(path)
    photos: dict[int, tuple[str, int, int]] = {}
    spans: dict[int, list[tuple[int, int]]] = defaultdict(list)
    categories: set[int] = set()
    try:
        # One byte per character, newlines unchanged: offsets in the text are offsets in the file.
        with path.open(encoding="latin-1", newline="") as file:
            text = file.read()
        for table, start, end, entry in _entries(text):
            if table == "images":
                photos[entry["id"]] = (_stem(entry["file_name"]), entry["height"], entry["width"])
            elif table == "annotations":
                spans[entry["image_id"]].append((start, end))
            elif table == "categories":
                categories.add(entry["id"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{path}: cannot be read as COCO's instance annotations ({reason(error)}); "
            "extract it again from the official archive"
        ) from error
    if len(categories) != CLASSES:
        raise DatasetError(
            f"{path}: expected {CLASSES} categories, found {len(categories)}; "
            "these are not COCO's instance annotations"
        )
    if spans.keys() - photos.keys():
        unlisted = min(spans.keys() - photos.keys())
        raise DatasetError(f"{path}: annotations of image {unlisted}, which it does not list")
    annotated = [
        AnnotatedPhoto(stem, height, width, tuple(spans[key]))
        for key, (stem, height, width) in photos.items()
    ]
    annotated.sort(key=lambda photo: photo.id)
    label_of = {category: rank for rank, category in enumerate(sorted(categories), start=1)}
    return Instances(path, annotated, label_of)


def _stem(name: str) -> str:
    # The text was read as Latin-1; names are UTF-8.
    return Path(name.encode("latin-1").decode()).stem


_SPACE = re.compile(r"[ \t\n\r]*")


def _entries(text: str) -> Iterator[tuple[str, int, int, dict[str, Any]]]:
    """Yield (table, start, end, entry) for the entries of the lists in a JSON object, in order."""
    decode = json.JSONDecoder().raw_decode

    def after_space(at: int) -> int:
        return _SPACE.match(text, at).end()  # type: ignore[union-attr]

    def expect(symbols: str, at: int) -> int:
        if text[at : at + 1] not in tuple(symbols):
            raise ValueError(f"expected one of {symbols} at byte {at}")
        return after_space(at + 1)

    at = expect("{", after_space(0))
    while text[at : at + 1] != "}":
        table, at = decode(text, at)
        at = expect(":", after_space(at))
        if text[at : at + 1] == "[":
            at = after_space(at + 1)
            while text[at : at + 1] != "]":
                entry, end = decode(text, at)
                yield table, at, end, entry
                at = after_space(end)
                if text[at : at + 1] != "]":
                    at = expect(",", at)
            at = after_space(at + 1)
        else:
            _, at = decode(text, at)
            at = after_space(at)
        if text[at : at + 1] != "}":
            at = expect(",", at)


def paint(
    annotations: Iterable[dict[str, Any]], label_of: dict[int, int], height: int, width: int
) -> np.ndarray:
    """Draw the annotations of one image, in their order, as a (height, width) uint8 label map.

    Raises
    ------
    DatasetError
        A segmentation is not a list of polygons.
    """
    labels = np.zeros((height, width), np.uint8)
    for annotation in annotations:
        if annotation.get("iscrowd"):
            continue
        polygons = annotation["segmentation"]
        if not isinstance(polygons, list):
            raise DatasetError(
                "segmentation: expected polygons, found run lengths of a region that is no crowd"
            )
        for polygon in polygons:
            corners = np.asarray(polygon, np.float64).reshape(-1, 2)
            cv2.fillPoly(labels, [corners.astype(np.int32)], label_of[annotation["category_id"]])
    return labels


def write_masks(instances: Instances, folder: str | Path, *, workers: int | None = None) -> int:
    """Paint every image of an index into `{folder}/{id}.png`; images that have a mask are skipped.

    Parameters
    ----------
    workers
        Processes; by default one per core that this process may use. The output does not depend
        on it.

    Returns
    -------
    int
        Number of masks written.

    Raises
    ------
    DatasetError
        An annotation cannot be painted; names the image. Masks written so far remain.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    present = {path.stem for path in folder.glob("[!.]*.png")}
    missing = [photo for photo in instances.photos if photo.id not in present]
    logger.info("%s: %d masks to write, %d present", folder, len(missing), len(present))
    tasks = [
        (instances.path, missing[first : first + _PHOTOS_PER_TASK], instances.label_of, folder)
        for first in range(0, len(missing), _PHOTOS_PER_TASK)
    ]
    written = ordered_map(_write_some, tasks, workers=workers)
    return sum(progress(written, len(missing), folder.name, unit="mask", each=_PHOTOS_PER_TASK))


def _write_some(task: tuple[Path, list[AnnotatedPhoto], dict[int, int], Path]) -> int:
    path, photos, label_of, folder = task
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for photo in photos:
            annotations = [json.loads(content[start:end]) for start, end in photo.spans]
            try:
                labels = paint(annotations, label_of, photo.height, photo.width)
            except DatasetError as error:
                raise DatasetError(f"{path}: image {photo.id}: {error}") from error
            except (ValueError, KeyError, TypeError) as error:
                raise DatasetError(f"{path}: image {photo.id}: {error!r}") from error
            write_png(folder / f"{photo.id}.png", labels, durable=False)
    return len(photos)
