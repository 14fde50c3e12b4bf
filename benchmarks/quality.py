"""How well eigenvectors of several extractors and graphs follow objects and boundaries.

    python -m benchmarks.quality --voc .../VOC2012 --coco .../coco_mini --bsds .../bsds500
    python -m benchmarks.quality --voc .../VOC2012 --shards results/pascal/eigenvectors

| column | data | meaning |
|---|---|---|
| foreground | VOC | IoU of all objects together with the best side of any of the K vectors |
| first | VOC | the same with the first non-constant eigenvector alone |
| region | VOC, COCO | IoU of each class (VOC) or instance (COCO) with the best side of any |
| CorLoc | VOC, COCO | share of images in which the box of the first vector's object, its largest \
piece on the side that touches less of the frame, meets a true box at IoU 0.5 |
| F | BSDS500 | boundary F of the summed gradients, at the best threshold for the data set |
| covering | BSDS500 | mean over people of each segment's best IoU with 8 k-means segments of the \
vectors, weighted by its area |

K counts the vectors without the constant one. Rows "chance" hold smooth random fields instead of
eigenvectors, rows "colour" a pixel graph weighted by colour alone. VOC has no boxes of
instances here: a true box is that of a 4-connected piece of a class. With `--shards` the vectors
are those that the pipeline stored, of the images that it has. `quality.png` draws the table.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

import eigen
from benchmarks import _harness
from benchmarks.drawn_sets import Box, Example, box_of, bsds, coco, voc
from benchmarks.graph_quality import (
    CUTS,
    border_counts,
    border_figures,
    patch_planes,
    pixel_planes,
)
from eigen.extractors import Extractor
from eigen.graphs.pixels import PixelSpec
from eigen.store import shards
from eigen.upsample import upsample_pairs
from eval.sazs.fusion import embed_segments
from pipeline.commands import help_text

SEGMENTS = 8
TRIVIAL = 1e-6  # eigenvalues below belong to constant vectors

PlanesOf = Callable[[Example], np.ndarray]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.count_nonzero(a & b)) / max(int(np.count_nonzero(a | b)), 1)


def box_iou(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inter = max(0, width) * max(0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return inter / max(areas - inter, 1)


def side_ious(planes: np.ndarray, target: np.ndarray, void: np.ndarray) -> np.ndarray:
    """IoU of the better side of each plane with the target, outside void pixels, (K,)."""
    counted, target = ~void, target & ~void
    return np.array(
        [max(iou((p > 0) & counted, target), iou((p <= 0) & counted, target)) for p in planes]
    )


def first_object(plane: np.ndarray) -> Box:
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


def covering(ours: np.ndarray, segmentation: np.ndarray) -> float:
    """Area-weighted best IoU of each human segment with our segments.

    Arbelaez et al., "Contour detection and hierarchical image segmentation", PAMI 2011, eq. 12.
    """
    joint = np.zeros((segmentation.max() + 1, ours.max() + 1), np.int64)
    np.add.at(joint, (segmentation.ravel(), ours.ravel()), 1)
    union = joint.sum(1)[:, None] + joint.sum(0)[None] - joint
    share = joint.sum(1) / joint.sum()
    return float((share * (joint / np.maximum(union, 1)).max(1)).sum())


class Figures:
    """Figures of one extractor and graph, summed image by image, for every K."""

    def __init__(self, ks: Sequence[int]) -> None:
        self.ks = sorted(ks)
        self._values: dict[tuple[int, str], list[float]] = defaultdict(list)
        self._borders = {k: np.zeros((4, len(CUTS))) for k in self.ks}

    def add(self, data: str, planes: np.ndarray, example: Example) -> None:
        regions = [side_ious(planes, region, example.void) for region in example.regions]
        union = np.logical_or.reduce(example.regions) if data == "VOC" else None
        whole = None if union is None else side_ious(planes, union, example.void)
        for k in self.ks:
            if whole is not None:
                self._values[k, "foreground"].append(whole[:k].max())
                self._values[k, "first"].append(whole[0])
            self._values[k, f"{data} region"] += [ious[:k].max() for ious in regions]
            if example.segmentations:
                self._borders[k] += border_counts(planes[:k], example.borders)
                segments = embed_segments(planes[:k], SEGMENTS)
                people = [covering(segments, person) for person in example.segmentations]
                self._values[k, "covering"].append(float(np.mean(people)))
            if example.boxes:
                box = first_object(planes[0])
                hit = max(box_iou(box, true) for true in example.boxes) >= 0.5
                self._values[k, f"{data} CorLoc"].append(float(hit))

    def row(self, k: int) -> dict[str, float]:
        found = {name: float(np.mean(v)) for (of, name), v in self._values.items() if of == k and v}
        if self._borders[k].any():
            found["F"] = border_figures(self._borders[k])["F"]
        return found

    def interval(self, k: int, name: str) -> str:
        """95 % interval of a mean over the images, from 1000 bootstrap resamples."""
        values = np.array(self._values[k, name])
        drawn = np.random.default_rng(0).integers(len(values), size=(1000, len(values)))
        low, high = np.quantile(values[drawn].mean(1), (0.025, 0.975))
        return f"[{low:.3f}, {high:.3f}]"


class Remembering:
    """An extractor that computes the features of an image once, whatever graphs are made of them.

    Images are told apart by their address: they have to stay in memory.
    """

    def __init__(self, extractor: Extractor) -> None:
        self._extractor, self._known = extractor, {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._extractor, name)

    def __call__(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        (image,) = images
        key = image.ctypes.data, image.shape
        if key not in self._known:
            self._known[key] = self._extractor([image])[0]
        return [self._known[key]]


def chance_planes(k: int) -> PlanesOf:
    """Smooth random fields: white noise blurred over a sixth of the longer side."""
    rng = np.random.default_rng(0)

    def planes(example: Example) -> np.ndarray:
        small = cv2.resize(example.image, None, fx=1 / 8, fy=1 / 8).shape[:2]
        noise = rng.standard_normal((k, *small)).astype(np.float32)
        blurred = [cv2.GaussianBlur(plane, (0, 0), max(small) / 6) for plane in noise]
        size = example.image.shape[1::-1]
        return np.stack([cv2.resize(plane - plane.mean(), size) for plane in blurred])

    return planes


def stored_planes(folder: shards.ShardFolder) -> PlanesOf:
    """Vectors of a folder of shards, the constant one left out."""

    def planes(example: Example) -> np.ndarray:
        pairs = folder[example.name]
        return upsample_pairs(pairs)[pairs.eigenvalues > TRIVIAL]

    return planes


@dataclass(frozen=True)
class Variant:
    """Vectors under test: of an extractor, on a graph; `prepare` computes what is not timed."""

    extractor: str
    graph: str
    planes: PlanesOf
    prepare: Callable[[Example], object] = lambda example: None


def variants(names: Sequence[str], graphs: Sequence[str], k: int) -> Iterator[Variant]:
    pixel = PixelSpec(step=3)
    for name in names:
        if name == "chance":
            yield Variant(name, "", chance_planes(k))
            continue
        if name == "colour":
            plain = eigen.extractor("lowlevel")
            colour = pixel_planes(plain, k + 1, pixel, colour_only=True)
            yield Variant(name, "pixel", lambda example, of=colour: of(example.image))
            continue
        extractor = Remembering(eigen.extractor(name))
        kinds = {
            "patch": patch_planes(extractor, k + 1),
            "patch + colour": patch_planes(extractor, k + 1, colour="knn", colour_weight=10.0),
            "pixel": pixel_planes(extractor, k + 1, pixel),
        }
        for graph in graphs:
            yield Variant(
                name,
                graph,
                lambda example, of=kinds[graph]: of(example.image),
                lambda example, of=extractor: of([example.image]),
            )


def stored(path: Path) -> tuple[Variant, shards.ShardFolder]:
    folder = shards.open(path)
    name = str(folder.shards[0].attributes()["extractor"])
    return Variant(name, "stored", stored_planes(folder)), folder


def measured(
    sets: Mapping[str, Sequence[Example]],
    variant: Variant,
    ks: Sequence[int],
    intervals: Sequence[str] = (),
) -> Iterator[dict[str, Any]]:
    """A row for every K; its seconds are those of the vectors, features not counted."""
    figures, seconds = Figures(ks), []
    for data, examples in sets.items():
        for example in examples:
            variant.prepare(example)
            started = time.process_time()
            planes = variant.planes(example)
            seconds.append(time.process_time() - started)
            figures.add(data, planes, example)
    for k in figures.ks:
        names = {"extractor": variant.extractor, "graph": variant.graph, "images": len(seconds)}
        sure = {f"{name}, 95 %": figures.interval(k, name) for name in intervals}
        yield {**names, "K": k, **figures.row(k), **sure, "s/image": float(np.mean(seconds))}


def merged(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the same vectors on different sets as one row; their time is the mean over images."""
    found: dict[tuple, dict[str, Any]] = {}
    for row in rows:
        known = found.setdefault((row["extractor"], row["graph"], row["K"]), {**row, "images": 0})
        images = known["images"] + row["images"]
        seconds = known["s/image"] * known["images"] + row["s/image"] * row["images"]
        known |= {**row, "images": images, "s/image": seconds / images}
    return list(found.values())


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Each figure against K, a line for each extractor and graph."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    described = ("extractor", "graph", "images", "K", "s/image")
    named = dict.fromkeys(key for row in rows for key in row if not isinstance(row[key], str))
    measures = [key for key in named if key not in described]
    figure, axes = plt.subplots(2, -(-len(measures) // 2), figsize=(12, 6), layout="constrained")
    lines = dict.fromkeys((row["extractor"], row["graph"]) for row in rows)
    colours = {e: f"C{i}" for i, e in enumerate(dict.fromkeys(e for e, _ in lines))}
    styles = {"patch": "o-", "patch + colour": "s--", "pixel": "^:"}
    for axis, measure in zip(axes.flat, measures, strict=False):
        for line in lines:
            chosen = [r for r in rows if (r["extractor"], r["graph"]) == line and measure in r]
            points = [r["K"] for r in chosen], [r[measure] for r in chosen]
            style, colour = styles.get(line[1], "x-"), colours[line[0]]
            axis.plot(*points, style, color=colour, label=" ".join(line), markersize=4)
        axis.set(title=measure, xlabel="K")
    for axis in axes.flat[len(measures) :]:
        axis.axis("off")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=80)
    plt.close(figure)


_EXISTING: Any = {"multiple": True, "type": click.Path(exists=True, path_type=Path)}


@click.command(help=help_text(__doc__))
@click.option("--voc", "voc_root", type=click.Path(exists=True, path_type=Path))
@click.option("--coco", "coco_root", type=click.Path(exists=True, path_type=Path))
@click.option("--bsds", "bsds_root", type=click.Path(exists=True, path_type=Path))
@click.option("--photos", default=60, show_default=True, help="Images per data set, evenly spaced.")
@click.option(
    "--extractor",
    "names",
    multiple=True,
    default=("chance", "colour", "lowlevel8", "efficientnet_lite0", "efficientnet_lite2"),
    show_default=True,
)
@click.option(
    "--graph",
    "graphs",
    multiple=True,
    type=click.Choice(["patch", "patch + colour", "pixel"]),
    default=("patch", "patch + colour", "pixel"),
    show_default=True,
)
@click.option("--shards", "folders", help="Measure stored eigenvectors of VOC images.", **_EXISTING)
@click.option(
    "--add", "earlier", help="Add the rows of quality.json from another run.", **_EXISTING
)
@click.option("--k", "ks", multiple=True, type=int, default=(5, 10, 20), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/benchmarks"))
def main(
    voc_root, coco_root, bsds_root, photos: int, names, graphs, folders, earlier, ks, out: Path
) -> None:
    roots = {"VOC": (voc, voc_root), "COCO": (coco, coco_root), "BSDS": (bsds, bsds_root)}
    sets = {name: read(root, photos) for name, (read, root) in roots.items() if root}
    if not any(sets.values()) and not earlier:
        raise click.UsageError("no images: give --voc, --coco or --bsds")
    rows: list[dict[str, Any]] = [
        row for file in earlier for row in json.loads(file.read_text())["rows"]
    ]
    for path in folders:
        variant, folder = stored(path)
        present = {"VOC": [e for e in sets.get("VOC", []) if e.name in folder]}
        if not present["VOC"]:
            raise click.UsageError(f"--shards {path}: has no image of --voc")
        k = min(len(variant.planes(example)) for example in present["VOC"])
        rows += measured(present, variant, [k], intervals=("foreground", "first"))
    for variant in variants(names, graphs, max(ks)) if sets and not folders else ():
        rows += measured(sets, variant, ks)
        print(_harness.table(rows[-len(ks) :]), flush=True)
    rows = merged(rows)
    _harness.report("quality", rows, out, photos=photos)
    draw(rows, out / "quality.png")


if __name__ == "__main__":
    main()
