"""Objects in COCO's results format: the JSON list that pycocotools reads with `loadRes`.

An entry has `image_id`, `file_name`, `category_id` 1, `bbox` (x, y, width, height in pixels),
`segmentation` (compressed run lengths) and `score`. The same entries give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import DatasetError, reason
from data.files import atomic_path
from data.sealed import read_json, write_json

IMAGES = ".images.json"
"""Ending of the list of images next to results that this software writes."""
CATEGORY = {"id": 1, "name": "object"}
_COCO_STEM = re.compile(r"(?:COCO_(?:train|val|test)2014_)?(\d{12})")
_ID = int | str | None
_FIELDS = ("image_id", "segmentation")


def image_ids(stems: Sequence[str]) -> dict[str, int]:
    """Image ids: those of COCO if every name holds one, else 1, 2, ... in sorted order."""
    matches = {stem: _COCO_STEM.fullmatch(stem) for stem in stems}
    numbers = {stem: int(match[1]) for stem, match in matches.items() if match}
    if len(numbers) == len(matches) == len(set(numbers.values())):
        return numbers
    return {stem: number for number, stem in enumerate(sorted(matches), start=1)}


def encode(mask: np.ndarray) -> dict[str, Any]:
    """Compressed run lengths of a (H, W) bool mask, as JSON can hold them."""
    from pycocotools import mask as rle

    runs = rle.encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(n) for n in runs["size"]], "counts": runs["counts"].decode("ascii")}


def decode(segmentation: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """The (H, W) bool mask of a `segmentation`: run lengths, compressed or not, or polygons.

    Raises
    ------
    DatasetError
        It is none of these, or of another size than (H, W); the message begins with `where`.
    """
    from pycocotools import mask as rle

    try:
        if isinstance(segmentation, list):
            runs = rle.merge(rle.frPyObjects(_polygons(segmentation, size, where), *size))
        else:
            runs = _checked_runs(segmentation, size, where)
            if isinstance(runs["counts"], list):
                runs = rle.frPyObjects(runs, *size)
        return rle.decode(runs).astype(bool)
    except DatasetError:
        raise
    except Exception as error:  # pycocotools raises many kinds of error
        raise DatasetError(
            f"{where}: segmentation is neither run lengths nor polygons ({error!r})"
        ) from error


def _polygons(polygons: list[Any], size: tuple[int, int], where: str) -> list[Any]:
    """Polygons that pycocotools can draw: what lies far outside takes it all memory."""
    points = np.concatenate([np.asarray(polygon, np.float64) for polygon in polygons])
    x, y = points[0::2], points[1::2]
    height, width = size
    if not (np.isfinite(points).all() and _near(x, width) and _near(y, height)):
        raise DatasetError(
            f"{where}: expected a polygon in the image of {width} x {height} pixels, found one "
            f"with x from {x.min():.4g} to {x.max():.4g} and y from {y.min():.4g} to {y.max():.4g}"
        )
    return polygons


def _near(values: np.ndarray, length: int) -> bool:
    return bool(values.min() >= -length and values.max() <= 2 * length)


def _checked_runs(runs: Any, size: tuple[int, int], where: str) -> Any:
    """Run lengths of an image of this size: pycocotools takes any size at its word."""
    height, width = runs["size"]
    if (height, width) != size:
        raise DatasetError(
            f"{where}: mask of {width} x {height} pixels for an image of {size[1]} x {size[0]}; "
            "make it from the unresized image, or resize it"
        )
    counts = runs["counts"]
    if isinstance(counts, list) and sum(counts) != height * width:
        raise DatasetError(
            f"{where}: expected run lengths of {height * width} pixels, found {sum(counts)}"
        )
    return runs


def write_results(path: str | Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write entries as one JSON list, an entry per line."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        separator = "["
        for entry in entries:
            file.write(separator + "\n" + json.dumps(entry, ensure_ascii=False))
            separator = ","
        file.write("[]\n" if separator == "[" else "\n]\n")


def write_images(
    path: str | Path,
    images: Iterable[tuple[int, str, tuple[int, int]]],
    *,
    categories: Sequence[Mapping[str, Any]] = (CATEGORY,),
    info: Mapping[str, Any] | None = None,
) -> None:
    """Write the data set that results refer to, (id, file name, (H, W)) per image.

    `COCO(path).loadRes(results)` then opens the results. `info` says what they were made from; the
    key `sha256` is the digest of the rest.
    """
    listed = [
        {"id": number, "file_name": name, "height": size[0], "width": size[1]}
        for number, name, size in images
    ]
    content = {
        "info": dict(info or {}),
        "images": listed,
        "categories": [dict(category) for category in categories],
        "annotations": [],
    }
    write_json(path, content)


def read_results(path: str | Path) -> list[dict[str, Any]]:
    """Entries of a results file, or the `annotations` of a COCO data set or of a SAM-like file.

    A file that SAM's automatic mask generator writes per image holds `image` and `annotations`;
    its entries get the image's `file_name` and `image_id`.

    Raises
    ------
    DatasetError
        The file is not JSON, or not a list of entries with a segmentation; or it is not the one
        that the list of its images, written by this software next to it, is about.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        content = json.loads(data.decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: cannot be read as JSON ({reason(error)})") from error
    _check_listed(path, data)
    entries = content
    if isinstance(content, dict):
        entries = content.get("annotations")
        entries = _with_names(content, entries) if isinstance(entries, list) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DatasetError(
            f"{path}: expected a list of COCO results, or an object with annotations; found "
            f"{type(content).__name__}"
        )
    for number, entry in enumerate(entries):
        missing = [field for field in _FIELDS if field not in entry]
        if missing:
            raise DatasetError(f"{path}: entry {number} has no {', '.join(missing)}")
    return entries


def _check_listed(path: Path, data: bytes) -> None:
    """Compare a results file with the digest in its list of images: a list holds none itself."""
    about = path.with_suffix(IMAGES)
    if not about.is_file():
        return
    expected = read_json(about, DatasetError)["info"].get("results")
    if expected is not None and hashlib.sha256(data).hexdigest() != expected:
        raise DatasetError(
            f"{path}: not the file that {about.name} is about (damaged or edited); run the same "
            "command again, or remove that list"
        )


def _with_names(content: dict[str, Any], entries: list[Any]) -> list[Any]:
    image = content.get("image")
    images = content.get("images", [image] if isinstance(image, dict) else [])
    by_id = {
        number: image.get("file_name")
        for image in images
        if isinstance(image, dict)
        for number in [image.get("id", image.get("image_id"))]
        if isinstance(number, _ID)
    }
    only = next(iter(by_id)) if len(by_id) == 1 else None
    named = []
    for entry in entries:
        if isinstance(entry, dict):
            number = entry.get("image_id", only)
            if not isinstance(number, _ID):
                number = None
            more: dict[str, Any] = {} if number is None else {"image_id": number}
            if by_id.get(number):
                more["file_name"] = by_id[number]
            entry = {**entry, **more}
        named.append(entry)
    return named
