"""How well eigenvectors of several extractors and graphs follow objects and borders: one table.

    python -m benchmarks.quality --voc .../VOC2012 --coco .../coco_mini --bsds .../bsds500

| column | data | meaning |
|---|---|---|
| foreground | VOC | IoU of all objects together with the best side of any of the K eigenvectors |
| first | VOC | the same with the first non-constant eigenvector alone |
| region | VOC, COCO | IoU of each class (VOC) or instance (COCO) with the best side of any |
| CorLoc | VOC, COCO | share of images in which the box of the first vector's object, its largest \
piece on the side that touches less of the frame, meets a true box at IoU 0.5 |
| F | BSDS500 | of the vectors' summed gradients, at the one threshold best for the set |
| covering | BSDS500 | mean over people of each segment's best IoU with 8 k-means segments of the \
vectors, weighted by its area |

K counts the vectors without the constant one. Rows "chance" hold smooth random fields instead of
eigenvectors, rows "colour" a pixel graph weighted by colour alone. VOC has no boxes of
instances here: a true box is that of a 4-connected piece of a class.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import cv2
import numpy as np
from pycocotools.coco import COCO

import eigen
from benchmarks import _harness
from benchmarks.graph_quality import (
    BACKGROUND,
    IGNORE,
    Planes,
    border_figures,
    bsds_photos,
    patch_planes,
    pixel_planes,
    spread,
    voc_photos,
)
from data.pictures import read_image
from eigen.graphs.pixels import PixelSpec
from eval.sazs.fusion import embed_segments

LEAST_AREA = 1000  # pixels; smaller regions are below the size of a few patches
SEGMENTS = 8


@dataclass(frozen=True, eq=False)
class Example:
    """An image, its regions (bool masks), their boxes (x0, y0, x1, y1), and pixels not scored."""

    image: np.ndarray
    regions: list[np.ndarray]
    boxes: list[tuple[int, int, int, int]]
    void: np.ndarray
    people: list[np.ndarray] = field(default_factory=list)


def voc(root: Path, count: int) -> list[Example]:
    examples = []
    for image, label in voc_photos(root, count):
        classes = np.setdiff1d(np.unique(label), (BACKGROUND, IGNORE))
        regions = [label == name for name in classes if (label == name).sum() >= LEAST_AREA]
        boxes = [box for region in regions for box in piece_boxes(region)]
        examples.append(Example(image, regions, boxes, label == IGNORE))
    return [example for example in examples if example.regions]


def coco(root: Path, count: int) -> list[Example]:
    try:
        annotations = COCO(root / "annotations" / "instances_val2017.json")
    except OSError as error:
        raise click.UsageError(f"--coco {root}: {error}") from error
    examples = []
    for number in spread(sorted(annotations.imgs), count):
        found = annotations.loadAnns(annotations.getAnnIds(number))
        image = read_image(root / "val2017" / annotations.imgs[number]["file_name"])
        void, regions = np.zeros(image.shape[:2], bool), []
        for annotation in found:
            mask = annotations.annToMask(annotation).astype(bool)
            if annotation.get("iscrowd"):
                void |= mask
            elif mask.sum() >= LEAST_AREA:
                regions.append(mask)
        if regions:
            boxes = [box for region in regions for box in [box_of(region)]]
            examples.append(Example(image, regions, boxes, void))
    return examples


def piece_boxes(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Boxes of the 4-connected pieces of a mask that have `LEAST_AREA` pixels."""
    n, _, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    return [
        (int(x), int(y), int(x + w), int(y + h))
        for x, y, w, h, area in statistics[1:n]
        if area >= LEAST_AREA
    ]


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    return x, y, x + w, y + h


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.count_nonzero(a & b)) / max(int(np.count_nonzero(a | b)), 1)


def box_iou(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inter = max(0, width) * max(0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return inter / max(areas - inter, 1)


def best(planes: np.ndarray, target: np.ndarray, void: np.ndarray) -> float:
    """Largest IoU of a side of any plane with the target, outside void pixels."""
    sides = (side & ~void for plane in planes for side in (plane > 0, plane <= 0))
    return max(iou(side, target & ~void) for side in sides)


def first_object(plane: np.ndarray) -> tuple[int, int, int, int]:
    """Box of the largest piece of the side of a plane that touches less of the frame."""
    side = plane > 0
    frame = np.concatenate([side[0], side[-1], side[:, 0], side[:, -1]])
    side = ~side if frame.mean() > 0.5 else side
    n, labels, statistics, _ = cv2.connectedComponentsWithStats(
        side.astype(np.uint8), connectivity=4
    )
    if n == 1:
        return (0, 0, side.shape[1], side.shape[0])
    return box_of(labels == 1 + statistics[1:, cv2.CC_STAT_AREA].argmax())


def object_figures(
    found: list[np.ndarray], examples: list[Example], name: str, *, foreground: bool
) -> dict[str, float]:
    figures: dict[str, list[float]] = defaultdict(list)
    for planes, example in zip(found, examples, strict=True):
        if foreground:
            union = np.logical_or.reduce(example.regions)
            figures["foreground"].append(best(planes, union, example.void))
            figures["first"].append(best(planes[:1], union, example.void))
        for region in example.regions:
            figures[f"{name} region"].append(best(planes, region, example.void))
        box = first_object(planes[0])
        hit = max(box_iou(box, true) for true in example.boxes or [(0, 0, 0, 0)]) >= 0.5
        figures[f"{name} CorLoc"].append(float(hit))
    return {key: float(np.mean(values)) for key, values in figures.items()}


def covering(planes: np.ndarray, segmentation: np.ndarray) -> float:
    """Area-weighted best IoU of each human segment with the k-means segments of the planes.

    Arbelaez et al., "Contour detection and hierarchical image segmentation", PAMI 2011, eq. 12.
    """
    ours = embed_segments(planes, SEGMENTS)
    joint = np.zeros((segmentation.max() + 1, ours.max() + 1), np.int64)
    np.add.at(joint, (segmentation.ravel(), ours.ravel()), 1)
    union = joint.sum(1)[:, None] + joint.sum(0)[None] - joint
    share = joint.sum(1) / joint.sum()
    return float((share * (joint / np.maximum(union, 1)).max(1)).sum())


def bsds_segmentations(root: Path, count: int) -> list[list[np.ndarray]]:
    """Segment numbers by each person, of the images of `bsds_photos`."""
    import scipy.io

    names = [path.stem for path in spread(sorted((root / "images" / "val").glob("*.jpg")), count)]
    files = (scipy.io.loadmat(root / "groundTruth" / "val" / f"{name}.mat") for name in names)
    return [
        [person["Segmentation"][0, 0].astype(int) for person in file["groundTruth"][0]]
        for file in files
    ]


def chance_planes(k: int) -> Planes:
    """Smooth random fields: white noise blurred over a sixth of the longer side."""
    rng = np.random.default_rng(0)

    def planes(image: np.ndarray) -> np.ndarray:
        small = cv2.resize(image, None, fx=1 / 8, fy=1 / 8).shape[:2]
        noise = rng.standard_normal((k, *small)).astype(np.float32)
        blurred = [cv2.GaussianBlur(plane, (0, 0), max(small) / 6) for plane in noise]
        size = image.shape[1::-1]
        return np.stack([cv2.resize(plane - plane.mean(), size) for plane in blurred])

    return planes


def variants(names: tuple[str, ...], graphs: tuple[str, ...], k: int) -> Iterator[tuple]:
    """(extractor, graph, planes) of every row of the table."""
    pixel = PixelSpec(step=3)
    for name in names:
        if name == "chance":
            yield name, "", chance_planes(k)
            continue
        if name == "colour":
            plain = eigen.extractor("lowlevel")
            yield name, "pixel", pixel_planes(plain, k + 1, pixel, colour_only=True)
            continue
        extractor = eigen.extractor(name)
        kinds = {
            "patch": patch_planes(extractor, k + 1),
            "patch + colour": patch_planes(extractor, k + 1, colour="knn", colour_weight=10.0),
            "pixel": pixel_planes(extractor, k + 1, pixel),
        }
        for graph in graphs:
            yield name, graph, kinds[graph]


@click.command(help=__doc__.split("\n\n|")[0])
@click.option("--voc", "voc_root", type=click.Path(exists=True, path_type=Path))
@click.option("--coco", "coco_root", type=click.Path(exists=True, path_type=Path))
@click.option("--bsds", "bsds_root", type=click.Path(exists=True, path_type=Path))
@click.option("--photos", default=60, show_default=True, help="Of each set, evenly spaced.")
@click.option(
    "--extractor",
    "names",
    multiple=True,
    default=("chance", "colour", "lowlevel8", "efficientnet_lite2"),
    show_default=True,
)
@click.option(
    "--graph",
    "graphs",
    multiple=True,
    type=click.Choice(["patch", "patch + colour", "pixel"]),
    default=("patch", "pixel"),
)
@click.option("--k", "ks", multiple=True, type=int, default=(5, 10, 20), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/benchmarks"))
def main(voc_root, coco_root, bsds_root, photos: int, names, graphs, ks, out: Path) -> None:
    sets = {
        "VOC": voc(voc_root, photos) if voc_root else [],
        "COCO": coco(coco_root, photos) if coco_root else [],
    }
    drawn = bsds_photos(bsds_root, photos) if bsds_root else []
    segmented = bsds_segmentations(bsds_root, photos) if bsds_root else []
    if not (drawn or any(sets.values())):
        raise click.UsageError("no images: give --voc, --coco or --bsds")
    rows = []
    for extractor, graph, planes in variants(names, graphs, max(ks)):
        started, count = time.perf_counter(), 0
        found = {name: [planes(e.image) for e in examples] for name, examples in sets.items()}
        borders = [planes(image) for image, _ in drawn]
        count = sum(map(len, found.values())) + len(borders)
        seconds = (time.perf_counter() - started) / count
        for k in sorted(ks):
            row: dict = {"extractor": extractor, "graph": graph, "K": k, "s/image": seconds}
            for name, examples in sets.items():
                if examples:
                    cut = [planes[:k] for planes in found[name]]
                    row |= object_figures(cut, examples, name, foreground=name == "VOC")
            if drawn:
                cut = [planes[:k] for planes in borders]
                row["F"] = border_figures(cut, [people for _, people in drawn])["F"]
                row["covering"] = float(
                    np.mean(
                        [
                            covering(planes, person)
                            for planes, people in zip(cut, segmented, strict=True)
                            for person in people
                        ]
                    )
                )
            rows.append(row)
            print(json.dumps(row, default=float), flush=True)
    _harness.report("quality", rows, out, photos=photos)


if __name__ == "__main__":
    main()
