"""Images with regions or borders drawn by people, for `benchmarks.quality`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import click
import cv2
import numpy as np
from pycocotools.coco import COCO

from benchmarks.graph_quality import BACKGROUND, IGNORE, borders_of, bsds_photos, spread, voc_photos
from data.pictures import read_image

LEAST_AREA = 1000  # pixels; smaller regions are below the size of a few patches

Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Example:
    """An image and what people drew on it.

    Attributes
    ----------
    name : of the file
    regions : masks (H, W) bool of classes (VOC) or instances (COCO)
    boxes : (x0, y0, x1, y1)
    void : (H, W) bool, pixels that are not scored
    borders, segmentations : by each person (BSDS500)
    """

    name: str
    image: np.ndarray
    regions: list[np.ndarray]
    boxes: list[Box]
    void: np.ndarray
    borders: list[np.ndarray] = field(default_factory=list)
    segmentations: list[np.ndarray] = field(default_factory=list)


def voc(root: Path, count: int) -> list[Example]:
    examples = []
    for name, image, label in voc_photos(root, count):
        classes = np.setdiff1d(np.unique(label), (BACKGROUND, IGNORE))
        regions = [label == c for c in classes if (label == c).sum() >= LEAST_AREA]
        boxes = [box for region in regions for box in piece_boxes(region)]
        examples.append(Example(name, image, regions, boxes, label == IGNORE))
    return [example for example in examples if example.regions]


def coco(root: Path, count: int) -> list[Example]:
    try:
        annotations = COCO(root / "annotations" / "instances_val2017.json")
    except OSError as error:
        raise click.UsageError(f"--coco {root}: {error}") from error
    examples = []
    for number in spread(sorted(annotations.imgs), count):
        found = annotations.loadAnns(annotations.getAnnIds(number))
        name = annotations.imgs[number]["file_name"]
        image = read_image(root / "val2017" / name)
        void, regions = np.zeros(image.shape[:2], bool), []
        for annotation in found:
            mask = annotations.annToMask(annotation).astype(bool)
            if annotation.get("iscrowd"):
                void |= mask
            elif mask.sum() >= LEAST_AREA:
                regions.append(mask)
        if regions:
            boxes = [box_of(region) for region in regions]
            examples.append(Example(Path(name).stem, image, regions, boxes, void))
    return examples


def bsds(root: Path, count: int) -> list[Example]:
    return [
        Example(
            name,
            image,
            [],
            [],
            np.zeros(image.shape[:2], bool),
            borders_of(people),
            [person["Segmentation"][0, 0].astype(int) for person in people],
        )
        for name, image, people in bsds_photos(root, count)
    ]


def piece_boxes(mask: np.ndarray) -> list[Box]:
    """Boxes of the 4-connected pieces of a mask that have `LEAST_AREA` pixels."""
    n, _, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    return [
        (int(x), int(y), int(x + w), int(y + h))
        for x, y, w, h, area in statistics[1:n]
        if area >= LEAST_AREA
    ]


def box_of(mask: np.ndarray) -> Box:
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    return x, y, x + w, y + h
