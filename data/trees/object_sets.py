"""Data sets with known objects: images with boxes or masks, in the layouts of their archives.

| layout | images | objects |
|---|---|---|
| VOC | `JPEGImages` | `Annotations/*.xml`, else regions of `SegmentationClassAug` or `-Class` |
| COCO | `{split}` | `annotations/instances_{split}.json` |
| ECSSD | `images` | `ground_truth_mask` |
| DUT-OMRON | `DUT-OMRON-image` | `pixelwiseGT-new-PNG` |
| DUTS | `DUTS-TE-Image` | `DUTS-TE-Mask` |
| CUB | `images`, listed in `images.txt` | `bounding_boxes.txt`, and `segmentations` |
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data.coco_results import decode
from data.errors import DatasetError
from data.pictures import read_image, read_label
from data.trees.lists import read_ids

VOID = 255
LEAST_REGION = 100
"""Pixels: smaller regions of a label map are remnants of its outlines, not objects."""
SALIENCY = {
    "ECSSD": ("images", "ground_truth_mask"),
    "DUT-OMRON": ("DUT-OMRON-image", "pixelwiseGT-new-PNG"),
    "DUTS": ("DUTS-TE-Image", "DUTS-TE-Mask"),
}


@dataclass(frozen=True, eq=False)
class Truth:
    """Objects of one image.

    Attributes
    ----------
    boxes : ndarray, shape (m, 4), float64
        (x, y, width, height) in pixels.
    masks : ndarray, shape (m or 0, H, W), bool
        Empty where only boxes are known.
    """

    boxes: np.ndarray
    masks: np.ndarray


@dataclass(frozen=True, eq=False)
class ObjectImage:
    """One image of a set; `truth()` reads its objects."""

    id: str
    path: Path
    truth: Callable[[], Truth]


def open_object_set(
    root: str | Path, *, split: str | None = None, listed: str | Path | None = None
) -> list[ObjectImage]:
    """Images of a data set whose objects are known, sorted by id; the layout is recognised.

    Parameters
    ----------
    root : path
        Folder that the archive unpacks to.
    split : str, optional
        List of VOC's ImageSets (Segmentation or Main), or split of COCO (val2017).
    listed : path, optional
        File of image ids or names, one per line (COCO-20k is such a list): only these.

    Raises
    ------
    DatasetError
        The layout is unknown, or a listed image is missing.
    """
    root = Path(root)
    for place in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"):
        if (place / "JPEGImages").is_dir():
            return _chosen(_voc(place, split), listed, root)
    if (root / "annotations").is_dir():
        return _chosen(_coco(root, split), listed, root)
    if (root / "bounding_boxes.txt").is_file():
        return _chosen(_cub(root), listed, root)
    for images, masks in SALIENCY.values():
        if (root / images).is_dir() and (root / masks).is_dir():
            return _chosen(_saliency(root / images, root / masks), listed, root)
    raise DatasetError(
        f"{root}: expected the layout of VOC (JPEGImages), COCO (annotations), CUB "
        f"(bounding_boxes.txt) or {', '.join(SALIENCY)}; found none"
    )


def _chosen(images: list[ObjectImage], listed: str | Path | None, root: Path) -> list[ObjectImage]:
    if not images:
        raise DatasetError(f"{root}: expected images with known objects, found none")
    images.sort(key=lambda image: image.id)
    if listed is None:
        return images
    by_id = {image.id: image for image in images}
    wanted = [Path(line).stem for line in read_ids(listed)]
    missing = [name for name in wanted if name not in by_id]
    if missing:
        raise DatasetError(
            f"{listed}: {len(missing)} images are not in {root} (first: {missing[0]})"
        )
    return [by_id[name] for name in sorted(set(wanted))]


def _voc(root: Path, split: str | None) -> list[ObjectImage]:
    ids = _voc_ids(root, split)
    labels = next(
        (
            root / name
            for name in ("SegmentationClassAug", "SegmentationClass")
            if (root / name).is_dir()
        ),
        None,
    )
    images = []
    for name in ids:
        annotation = root / "Annotations" / f"{name}.xml"
        label = labels / f"{name}.png" if labels else None
        if label is not None and not label.is_file():
            label = None
        if annotation.is_file() or label is not None:
            truth = _voc_truth(annotation if annotation.is_file() else None, label)
            images.append(ObjectImage(name, root / "JPEGImages" / f"{name}.jpg", truth))
    return images


def _voc_ids(root: Path, split: str | None) -> list[str]:
    if split is None:
        return sorted(path.stem for path in (root / "JPEGImages").glob("[!.]*.jpg"))
    lists = [root / "ImageSets" / kind / f"{split}.txt" for kind in ("Segmentation", "Main")]
    for path in lists:
        if path.is_file():
            return read_ids(path)
    raise DatasetError(f"{root / 'ImageSets'}: no list {split}.txt; expected {lists[0]}")


def _voc_truth(annotation: Path | None, label: Path | None) -> Callable[[], Truth]:
    def truth() -> Truth:
        regions = from_labels(read_label(label)) if label else None
        if annotation is None and regions is not None:
            return regions
        masks = regions.masks if regions is not None else np.zeros((0, 0, 0), bool)
        return Truth(read_voc_boxes(annotation), masks)  # type: ignore[arg-type]

    return truth


def read_voc_boxes(path: Path) -> np.ndarray:
    """Boxes of a VOC annotation, (m, 4) x, y, width, height; its corners are inclusive and from 1.

    Objects marked difficult are left out, as VOC's own protocol does.

    Raises
    ------
    DatasetError
        The file is not a VOC annotation.
    """
    boxes = []
    try:
        for entry in ElementTree.parse(path).getroot().iter("object"):
            if entry.findtext("difficult", "0").strip() == "1":
                continue
            box = entry.find("bndbox")
            corners = [float(box.findtext(key)) for key in ("xmin", "ymin", "xmax", "ymax")]  # type: ignore[union-attr, arg-type]
            left, top, right, bottom = corners
            boxes.append((left - 1, top - 1, right - left + 1, bottom - top + 1))
    except (OSError, ElementTree.ParseError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"{path}: not a VOC annotation ({error})") from error
    return np.array(boxes, np.float64).reshape(-1, 4)


def from_labels(labels: np.ndarray) -> Truth:
    """Objects of a label map: the connected regions of each class but 0 and void.

    Touching objects of one class count as one.
    """
    boxes, masks = [], []
    for value in np.unique(labels):
        if value in (0, VOID):
            continue
        count, regions, statistics, _ = cv2.connectedComponentsWithStats(
            (labels == value).astype(np.uint8), connectivity=8
        )
        for region in range(1, count):
            if statistics[region, cv2.CC_STAT_AREA] >= LEAST_REGION:
                boxes.append(statistics[region, :4])
                masks.append(regions == region)
    return Truth(
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(masks, bool).reshape(-1, *labels.shape),
    )


def _coco(root: Path, split: str | None) -> list[ObjectImage]:
    files = sorted((root / "annotations").glob(f"instances_{split or '*'}.json"))
    if len(files) != 1:
        names = ", ".join(path.stem.removeprefix("instances_") for path in files) or "none"
        raise DatasetError(
            f"{root / 'annotations'}: expected one instances_{split or 'SPLIT'}.json, found "
            f"{names}; give its name as split"
        )
    split = files[0].stem.removeprefix("instances_")
    try:
        content = json.loads(files[0].read_text("utf-8"))
        annotations = defaultdict(list)
        for annotation in content["annotations"]:
            if not annotation.get("iscrowd"):
                annotations[annotation["image_id"]].append(annotation)
        return [
            ObjectImage(
                Path(image["file_name"]).stem,
                root / split / image["file_name"],
                _coco_truth(annotations[image["id"]], (image["height"], image["width"]), files[0]),
            )
            for image in content["images"]
            if annotations[image["id"]]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{files[0]}: not a COCO instance file ({error!r})") from error


def _coco_truth(
    annotations: list[dict[str, Any]], size: tuple[int, int], path: Path
) -> Callable[[], Truth]:
    def truth() -> Truth:
        where = f"{path}: annotation"
        masks = [decode(a["segmentation"], size, f"{where} {a.get('id')}") for a in annotations]
        return Truth(np.array([a["bbox"] for a in annotations], np.float64), np.array(masks))

    return truth


def _saliency(images: Path, masks: Path) -> list[ObjectImage]:
    by_stem = {path.stem: path for path in masks.glob("[!.]*") if path.suffix.lower() == ".png"}
    return [
        ObjectImage(path.stem, path, _mask_truth(by_stem[path.stem]))
        for path in images.glob("[!.]*")
        if path.suffix.lower() in (".jpg", ".jpeg", ".png") and path.stem in by_stem
    ]


def _mask_truth(path: Path, boxes: np.ndarray | None = None) -> Callable[[], Truth]:
    def truth() -> Truth:
        mask = read_image(path).mean(axis=2) >= 128
        if boxes is not None:
            return Truth(boxes, mask[None])
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            return Truth(np.zeros((0, 4)), np.zeros((0, *mask.shape), bool))
        left, top = columns[0], rows[0]
        box = (left, top, columns[-1] - left + 1, rows[-1] - top + 1)
        return Truth(np.array([box], np.float64), mask[None])

    return truth


def _cub(root: Path) -> list[ObjectImage]:
    try:
        names = dict(_fields(root / "images.txt", 2))
        boxes = {key: rest for key, *rest in _fields(root / "bounding_boxes.txt", 5)}
        split = root / "train_test_split.txt"
        is_train = dict(_fields(split, 2)) if split.is_file() else {}
        images = []
        for key, name in names.items():
            if is_train.get(key) == "1":
                continue
            box = np.array([boxes[key]], np.float64)
            mask = root / "segmentations" / Path(name).with_suffix(".png")
            truth = _mask_truth(mask, box) if mask.is_file() else _box_truth(box)
            images.append(
                ObjectImage(str(Path(name).with_suffix("")), root / "images" / name, truth)
            )
        return images
    except (KeyError, ValueError) as error:
        raise DatasetError(f"{root}: the lists of CUB do not agree ({error!r})") from error


def _box_truth(boxes: np.ndarray) -> Callable[[], Truth]:
    return lambda: Truth(boxes, np.zeros((0, 0, 0), bool))


def _fields(path: Path, count: int) -> list[list[str]]:
    try:
        rows = [line.split() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read ({error})") from error
    if any(len(row) != count for row in rows):
        raise DatasetError(f"{path}: expected {count} words per line")
    return rows
