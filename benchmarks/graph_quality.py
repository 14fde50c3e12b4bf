"""How well eigenvectors of several graphs follow objects and borders: one table.

    python -m benchmarks.graph_quality --voc .../VOC2012 --bsds .../bsds500

Regions: for each object class in a VOC image, the largest IoU of any eigenvector's sign mask, or of
its complement, with the class; the mean over classes and images. *Chance* is the same masks against
the label of another image. Borders: the summed gradients of the eigenvectors, thinned and
thresholded at the value that is best for the whole set, against the human borders of BSDS500; a
pixel matches if one of the other side lies within 0.75 % of the diagonal (precision against all
people together, recall against each; matching is not one to one, so these figures are above the
official benchmark's).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import click
import cv2
import numpy as np
import scipy.io

import eigen
from benchmarks import _harness
from data.pictures import read_image, read_label
from eigen.graphs.pixels import PixelSpec
from eigen.pairs import Cells, Eigenpairs
from eigen.picture import from_graph
from eigen.solvers.spec import SolveSpec
from eigen.upsample import upsample_pairs
from pipeline.commands import help_text

IGNORE, BACKGROUND = 255, 0
LEAST_AREA = 1000
TOLERANCE = 0.0075
CUTS = np.geomspace(0.02, 2.0, 16)

Planes = Callable[[np.ndarray], np.ndarray]


def pixel_planes(extractor, k: int, spec: PixelSpec, *, colour_only: bool = False) -> Planes:
    """Image -> its non-constant eigenvectors on the pixel graph, (k - 1, H, W)."""

    def planes(image: np.ndarray) -> np.ndarray:
        features, grid = extractor([image])[0], extractor.grid(image.shape[:2])
        if colour_only:  # equal features influence neither weights nor links
            features = np.full_like(features, features.shape[1] ** -0.5)
        graph = eigen.graphs.build.build(
            eigen.GraphSpec(kind="pixel", pixels=spec),
            features,
            grid,
            image,
            Cells.of_patches(extractor.patch),
        )
        pairs = from_graph(graph, image.shape[:2], SolveSpec(k=k, tolerance=1e-4))
        return upsample_pairs(pairs)[1:]

    return planes


def patch_planes(extractor, k: int, *, upsampling: str = "bilinear", **graph) -> Planes:
    """Image -> its non-constant eigenvectors on the patch graph, (k - 1, H, W)."""

    def planes(image: np.ndarray) -> np.ndarray:
        pairs: Eigenpairs = eigen.eigenvectors(image, extractor, k, graph=eigen.GraphSpec(**graph))
        return upsample_pairs(pairs, method=upsampling, image=image)[1:]

    return planes


def variants(extractor, k: int) -> dict[str, Planes]:
    """Name -> graph under test."""
    half = PixelSpec(step=2)
    return {
        "patch, bilinear": patch_planes(extractor, k),
        "patch, guided": patch_planes(extractor, k, upsampling="guided"),
        "patch + colour kNN 10": patch_planes(extractor, k, colour="knn", colour_weight=10.0),
        "pixel, neighbours only": pixel_planes(extractor, k, replace(half, links=0)),
        "pixel, colour only": pixel_planes(extractor, k, half, colour_only=True),
        "pixel, half size": pixel_planes(extractor, k, half),
        "pixel, full size": pixel_planes(extractor, k, PixelSpec()),
    }


def spread(items: list, count: int) -> list:
    """`count` items, evenly spaced."""
    return items[:: max(1, len(items) // count)][:count]


def voc_photos(root: Path, count: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(name, image, label) of `count` validation images, evenly spaced."""
    labels = sorted((root / "SegmentationClassAug").glob("*.png"))
    listed = (root / "ImageSets" / "Segmentation" / "val.txt").read_text().split()
    chosen = spread([path for path in labels if path.stem in listed], count)
    return [
        (path.stem, read_image(root / "JPEGImages" / f"{path.stem}.jpg"), read_label(path))
        for path in chosen
    ]


def bsds_photos(root: Path, count: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(name, image, MATLAB records of each person) of `count` validation images."""
    photos = spread(sorted((root / "images" / "val").glob("*.jpg")), count)
    return [
        (
            path.stem,
            read_image(path),
            scipy.io.loadmat(root / "groundTruth" / "val" / f"{path.stem}.mat")["groundTruth"][0],
        )
        for path in photos
    ]


def borders_of(people: np.ndarray) -> list[np.ndarray]:
    """The borders that each person drew, bool."""
    return [person["Boundaries"][0, 0].astype(bool) for person in people]


def best_ious(masks: np.ndarray, label: np.ndarray) -> Iterator[float]:
    """Best IoU of any mask or complement with each class of the label."""
    counted = label != IGNORE
    for name in np.unique(label[counted & (label != BACKGROUND)]):
        target = label == name
        if target.sum() >= LEAST_AREA:
            candidates = [side & counted for mask in masks for side in (mask, ~mask)]
            yield max((c & target).sum() / (c | target).sum() for c in candidates)


def region_figures(found: list[np.ndarray], labels: list[np.ndarray]) -> dict[str, float]:
    """Mean best-of-K IoU, and the same against the labels of other images."""
    ious, chance = [], []
    for i, planes in enumerate(found):
        other = labels[(i + 1) % len(labels)]
        other = cv2.resize(other, planes.shape[:0:-1], interpolation=cv2.INTER_NEAREST)
        ious += best_ious(planes > 0, labels[i])
        chance += best_ious(planes > 0, other)
    return {"IoU": float(np.mean(ious)), "chance": float(np.mean(chance))}


def border_strength(planes: np.ndarray) -> np.ndarray:
    """Summed gradient magnitude of the vectors, scaled alike, at its local maxima."""
    strength = np.zeros(planes.shape[1:], np.float32)
    for plane in planes:
        scaled = plane / max(np.abs(plane).max(), np.finfo(np.float32).tiny)
        strength += np.hypot(
            cv2.Sobel(scaled, cv2.CV_32F, 1, 0), cv2.Sobel(scaled, cv2.CV_32F, 0, 1)
        )
    around = np.pad(strength, 1, mode="edge")
    left, right = around[1:-1, :-2], around[1:-1, 2:]
    above, below = around[:-2, 1:-1], around[2:, 1:-1]
    ridge = ((strength >= left) & (strength > right)) | ((strength >= above) & (strength > below))
    return np.where(ridge, strength, 0)


def border_counts(planes: np.ndarray, people: list[np.ndarray]) -> np.ndarray:
    """Matched, all of ours, met, all drawn (per person), at each of `CUTS`: (4, cuts)."""
    strength = border_strength(planes)
    radius = max(1, round(TOLERANCE * np.hypot(*strength.shape)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)

    def near(mask: np.ndarray) -> np.ndarray:
        return cv2.dilate(mask.astype(np.uint8), disc) > 0

    near_any = near(np.logical_or.reduce(people))
    counts = np.zeros((4, len(CUTS)))
    for cut, threshold in enumerate(CUTS):
        ours = strength > threshold
        near_ours = near(ours)
        met = np.mean([(person & near_ours).sum() for person in people])
        drawn = np.mean([person.sum() for person in people])
        counts[:, cut] = (ours & near_any).sum(), ours.sum(), met, drawn
    return counts


def border_figures(counts: np.ndarray) -> dict[str, float]:
    """F measure at the best common threshold, with its precision and recall, of summed counts."""
    hits, claimed, met, drawn = counts
    precision, recall = hits / np.maximum(claimed, 1), met / np.maximum(drawn, 1)
    f = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    best = int(f.argmax())
    return {"F": float(f[best]), "precision": float(precision[best]), "recall": float(recall[best])}


@click.command(help=help_text(__doc__))
@click.option("--voc", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--bsds", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--photos", default=60, show_default=True, help="Images per data set, evenly spaced.")
@click.option("--extractor", "name", default="lowlevel8", show_default=True)
@click.option(
    "--k", default=6, show_default=True, help="Number of eigenvectors, including the constant one."
)
@click.option("--only", multiple=True, help="Only variants whose name contains this.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/benchmarks"))
def main(
    voc: Path, bsds: Path, photos: int, name: str, k: int, only: tuple[str, ...], out: Path
) -> None:
    _, images, labels = zip(*voc_photos(voc, photos), strict=True)
    drawn = bsds_photos(bsds, photos)
    rows = []
    for variant, planes in variants(eigen.extractor(name), k).items():
        if only and not any(part in variant for part in only):
            continue
        regions = region_figures([planes(image) for image in images], list(labels))
        counts = (border_counts(planes(p), borders_of(people)) for _, p, people in drawn)
        edges = border_figures(np.sum(list(counts), axis=0))
        rows.append({"graph": variant, **regions, **edges})
    _harness.report("graph_quality", rows, out, photos=photos, extractor=name, k=k)


if __name__ == "__main__":
    main()
