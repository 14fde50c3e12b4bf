"""Objects found by several methods on the same features: one table per data set.

    python -m benchmarks.objects --set .../voc_mini --split val --set .../coco_mini --split val2017
    python -m benchmarks.objects --set .../voc_mini --split val --speed 5

CorLoc: share of the images in which the first object's box has an IoU of 0.5 or more with a true
box. First IoU: best IoU of the first object's mask with a true mask. The papers' methods are
written from the papers and use the same features; *whole image* and *centre box* (two thirds of
either side) use no features. *Chance* is `frame` against the truth of the next image. Intervals are
95 %, over 1000 resamples of the images. Seconds exclude feature extraction.

`--speed` runs the published methods and ours alternately, on that many images: MaskCut's rounds
(the whole dense problem solved again for each of three objects), TokenCut's dense problem, and
ncut-pytorch's `kway_ncut` on the same eight eigenvectors as our rotation. Seconds are per image,
after the features; agreement is the IoU of the first, second and third masks, or the adjusted Rand
index.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import scipy.linalg

import eigen
from benchmarks import _harness
from data.pictures import read_image
from data.trees.object_sets import ObjectImage, open_object_set
from eigen.extractors.contract import Extractor
from eigen.object_spec import METHODS
from eigen.objects import ObjectSpec, objects, rules
from eigen.objects.find import TAU, box
from eigen.objects.graph import FLOOR, thresholded
from eigen.objects.rounds import rounds
from eigen.segments.discretise import discretise
from eval.objects.scores import Found, ObjectScores, mask_iou
from pipeline.commands import help_text

COUNT = 3
SEGMENTS = 8

Find = Callable[[np.ndarray], list[Found]]


def by_method(extractor: Extractor, method: str, *, refine: bool = True) -> Find:
    spec = ObjectSpec(method=method, least_score=0, refine=refine)

    def find(image: np.ndarray) -> list[Found]:
        return [Found(o.box, o.mask, o.score) for o in objects(image, extractor, spec)]

    return find


def fixed(share: float) -> Find:
    """A box in the middle, `share` of either side."""

    def find(image: np.ndarray) -> list[Found]:
        mask = np.zeros(image.shape[:2], bool)
        top, left = (round(n * (1 - share) / 2) for n in mask.shape)
        mask[top : mask.shape[0] - top, left : mask.shape[1] - left] = True
        return [Found(box(mask), mask, 1.0)]

    return find


def resized(found: list[Found], size: tuple[int, int]) -> list[Found]:
    """The same objects in an image of another size, for the chance row."""
    result = []
    for one in found:
        rows = np.arange(size[0]) * one.mask.shape[0] // size[0]
        columns = np.arange(size[1]) * one.mask.shape[1] // size[1]
        mask = one.mask[rows][:, columns]
        if mask.any():
            result.append(Found(box(mask), mask, one.score))
    return result


class Remembering:
    """An extractor that keeps the features of the last image, for the methods that follow."""

    def __init__(self, extractor: Extractor) -> None:
        self._extractor, self._image, self._features = extractor, None, None

    def __getattr__(self, name: str) -> object:
        return getattr(self._extractor, name)

    def __call__(self, images: list[np.ndarray]) -> np.ndarray:
        if self._image is not images[0]:
            self._image, self._features = images[0], self._extractor(images)
        return self._features


def scored(
    finders: dict[str, Find], images: list[ObjectImage], extractor: Remembering
) -> Iterator[tuple[str, ObjectScores, float]]:
    """Name, scores and seconds per image of each method, and the chance row."""
    scores = {name: ObjectScores() for name in [*finders, "chance"]}
    seconds = dict.fromkeys(scores, 0.0)
    for number, image in enumerate(images):
        pixels, truth = read_image(image.path), image.truth()
        extractor([pixels])
        for name, find in finders.items():
            started = time.perf_counter()
            found = find(pixels)
            seconds[name] += time.perf_counter() - started
            scores[name].add(found, truth)
            if name == "frame":
                other = images[(number + 1) % len(images)]
                truth_there = other.truth()
                size = truth_there.masks.shape[1:] or read_image(other.path).shape[:2]
                scores["chance"].add(resized(found, size), truth_there)
    for name in scores:
        yield name, scores[name], seconds[name] / len(images)


def row(name: str, scores: ObjectScores, seconds: float) -> dict[str, object]:
    summary = scores.summary()
    cells: dict[str, object] = {"method": name, "images": int(summary["images"])}
    for key, title in (("corloc", "CorLoc"), ("first_iou", "first IoU")):
        low, high = scores.interval(key)
        cells[title] = f"{100 * summary[key]:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    return {**cells, "none": int(summary["without_object"]), "ms": round(1000 * seconds)}


def dense_cut(rows: np.ndarray, tau: float) -> np.ndarray:
    """The Fiedler vector of thresholded similarities by the dense solver of the papers, (n,)."""
    W = np.where(rows @ rows.T >= tau, 1.0, FLOOR)
    degree = np.diag(W.sum(axis=1))
    return scipy.linalg.eigh(degree - W, degree, subset_by_index=(1, 1))[1][:, 0]


def dense_tokencut(features: np.ndarray, grid: tuple[int, int]) -> list[np.ndarray]:
    """TokenCut as published."""
    vector = dense_cut(features.astype(np.float64), TAU["tokencut"])
    return [rules.seed_component(vector.reshape(grid))]


def dense_maskcut(features: np.ndarray, grid: tuple[int, int]) -> list[np.ndarray]:
    """MaskCut as published: earlier objects lose their features, and all is solved again."""
    rows = features.astype(np.float64)
    masks = []
    for _ in range(COUNT):
        vector = np.where(np.any(rows, axis=1), dense_cut(rows, TAU["maskcut"]), np.nan)
        mask = rules.seed_component(vector.reshape(grid), at_most_corners=rules.MOST_CORNERS)
        masks.append(mask)
        rows = rows * ~mask.ravel()[:, None]
    return masks


def our_tokencut(features: np.ndarray, grid: tuple[int, int]) -> list[np.ndarray]:
    cuts = rounds(thresholded(features, TAU["tokencut"]), grid, 1)
    return [rules.seed_component(cut.vector) for cut in cuts]


def our_maskcut(features: np.ndarray, grid: tuple[int, int]) -> list[np.ndarray]:
    return [cut.mask for cut in rounds(thresholded(features, TAU["maskcut"]), grid, COUNT)]


def theirs_kway(vectors: np.ndarray) -> np.ndarray:
    import torch
    from ncut_pytorch import kway_ncut

    return kway_ncut(torch.from_numpy(vectors)).argmax(dim=1).numpy()


def our_kway(vectors: np.ndarray) -> np.ndarray:
    return discretise(vectors).argmax(axis=1)


def speed(extractor: Extractor, images: list[ObjectImage]) -> Iterator[dict[str, object]]:
    """Seconds per image and agreement of the published ways and ours, in turns."""
    from sklearn.metrics import adjusted_rand_score

    both: dict[str, list[_harness.Paired]] = {name: [] for name in SIDE_BY_SIDE}
    nodes = []
    for image in images:
        pixels = read_image(image.path)
        features, grid = extractor([pixels])[0], extractor.grid(pixels.shape[:2])
        nodes.append(grid[0] * grid[1])
        pairs = eigen.eigenvectors(pixels, extractor, SEGMENTS)
        given = {"masks": (features, grid), "vectors": (pairs.vectors.reshape(SEGMENTS, -1).T,)}
        for name, (kind, theirs, ours) in SIDE_BY_SIDE.items():
            quick = kind == "vectors"
            runs = [functools.partial(side, *given[kind]) for side in (theirs, ours)]
            turns = 3 if quick else 1
            both[name].append(_harness.paired(*runs, turns=turns, warm=quick))
    for name, (kind, _, _) in SIDE_BY_SIDE.items():
        found = both[name]
        times = [one.times() for one in found]
        cells = {key: float(np.median([one[key] for one in times])) for key in times[0]}
        if kind == "vectors":
            agreement = [adjusted_rand_score(one.baseline, one.ours) for one in found]
            shown = f"Rand index {np.mean(agreement):.2f}"
        else:
            shown = "IoU " + ", ".join(f"{value:.2f}" for value in _overlaps(found))
        yield {"way": name, "nodes": int(np.median(nodes)), **cells, "agreement": shown}


def _overlaps(found: list[_harness.Paired]) -> Iterator[float]:
    """Mean IoU of the first masks of both sides, of the second, ..."""
    most = min(max(len(one.baseline), len(one.ours)) for one in found)
    for number in range(most):
        values = [
            mask_iou(one.baseline[number], one.ours[number])
            for one in found
            if min(len(one.baseline), len(one.ours)) > number
        ]
        if values:
            yield float(np.mean(values))


SIDE_BY_SIDE: dict[str, tuple[str, Callable, Callable]] = {
    "MaskCut, three objects, dense": ("masks", dense_maskcut, our_maskcut),
    "TokenCut, dense": ("masks", dense_tokencut, our_tokencut),
    "ncut-pytorch, kway_ncut": ("vectors", theirs_kway, our_kway),
}
"""What both sides get, the published way, and ours."""


@click.command(help=help_text(__doc__))
@click.option(
    "--set", "roots", type=click.Path(exists=True, path_type=Path), multiple=True, required=True
)
@click.option(
    "--split", "splits", multiple=True, required=True, help="Split of the data set, one per --set."
)
@click.option("--extractor", "name", default="lowlevel8", show_default=True)
@click.option("--photos", type=int, help="Images per data set, evenly spaced. Default: all.")
@click.option("--speed", "timed", type=int, help="Time MaskCut on this many images instead.")
@click.option("--only", multiple=True, help="Only these methods.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/benchmarks"))
def main(
    roots: tuple[Path, ...],
    splits: tuple[str, ...],
    name: str,
    photos: int | None,
    timed: int | None,
    only: tuple[str, ...],
    out: Path,
) -> None:
    extractor = Remembering(eigen.extractor(name))
    for root, split in zip(roots, splits, strict=True):
        images = open_object_set(root, split=split)
        count = timed or photos
        if count:
            images = images[:: max(1, len(images) // count)][:count]
        if timed:
            _harness.report("objects_speed", list(speed(extractor, images)), out)
            continue
        finders: dict[str, Find] = {
            "whole image": fixed(1.0),
            "centre box": fixed(2 / 3),
            **{method: by_method(extractor, method) for method in METHODS},
            "frame, on the grid": by_method(extractor, "frame", refine=False),
        }
        if only:
            finders = {method: find for method, find in finders.items() if method in only}
        rows = [row(*one) for one in scored(finders, images, extractor) if one[1].corloc]
        _harness.report(f"objects_{root.name}_{name}", rows, out, split=split)


if __name__ == "__main__":
    main()
