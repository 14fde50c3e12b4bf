r"""Clusters and names with several methods to divide images, on the same features: one table each.

    python -m benchmarks.naming --set .../voc_mini --split val --tune trainaug
    python -m benchmarks.naming --set .../coco_mini --split val2017 \
        --thresholds results/benchmarks/names_voc_mini_efficientnet_lite2.json

mIoU over background and the 20 classes of VOC in percent, with 95 % intervals over resamples of the
images (clusters are matched again in each). In COCO the other 60 classes count neither way.

*Eigen segments* are those of the stage `segments`; *k-means segments* as many, of the same features
without eigenvectors; the other methods find objects, and all else is background. *Patches* and
*class map* have no segments at all. Segments are named from one class map of the ImageNet
classifier. A method without a threshold of its own takes the best of `THRESHOLDS` on these very
images, in its favour; those of eigen segments were chosen on training images (docs/results.md).
*Chance* permutes names, or clusters, among all segments.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import cv2
import numpy as np

import eigenshape as es
from benchmarks import _harness
from data.pictures import read_image, read_label
from data.text.vocabulary import builtin
from data.trees.coco_masks import index_instances, write_masks
from data.trees.object_sets import open_object_set
from eigen.extractors.contract import Extractor, cells_of
from eigen.object_spec import ObjectSpec
from eigen.objects.find import propose
from eigen.objects.frame import object_share
from eigen.pairs import Eigenpairs
from eigen.segments import segments
from eigen.segments.partition import canonical_order
from eigen.upsample import upsample
from eval.class_names import class_id_of
from eval.objects.cluster_spec import ClusterSpec
from eval.objects.clusters import class_iou, hungarian
from eval.objects.name_spec import NameSpec
from eval.objects.names import ImagenetNamer, mask_means, voc_synsets
from eval.objects.segment_clusters import cluster_segments
from models.imagenet import ImagenetClassifier
from pipeline.commands import help_text

CLASSES, VOID = 21, 255
STEP = 2
"""Every second pixel of either axis is counted."""
PAIRS = 16
THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
RESAMPLES = 200
OURS = f"eigen segments, {PAIRS}"
GAP = "eigen segments, by eigengap"


@dataclass(frozen=True, eq=False)
class Division:
    """Segments of one image: label map (H, W), and per segment its features and share of object."""

    labels: np.ndarray
    features: np.ndarray
    classes: np.ndarray
    share: np.ndarray


@dataclass
class Image:
    """What is kept of one image: truth, class map, probabilities of VOC's classes of all of it."""

    truth: np.ndarray
    class_map: np.ndarray
    whole: np.ndarray
    patches: np.ndarray
    patch_classes: np.ndarray
    grid: tuple[int, int]
    divisions: dict[str, Division] = field(default_factory=dict)


def truths(root: Path, split: str, folder: Path) -> dict[str, np.ndarray]:
    """Label maps by image id, VOC's values; void where COCO has another class."""
    for place in (root, root / "VOC2012"):
        if (place / "SegmentationClassAug").is_dir():
            paths = (place / "SegmentationClassAug").glob("*.png")
            return {path.stem: path for path in paths}
    write_masks(index_instances(root / f"annotations/instances_{split}.json"), folder, workers=1)
    return {path.stem: path for path in folder.glob("*.png")}


def to_voc(labels: np.ndarray, is_coco: bool) -> np.ndarray:
    if not is_coco:
        return labels
    table = np.full(256, VOID)
    table[0] = 0
    for rank, name in enumerate(builtin("coco").names, start=1):
        found = class_id_of(name, builtin("pascal"))
        table[rank] = VOID if found is None else found + 1
    return table[labels]


def divide(
    features: np.ndarray, pairs: Eigenpairs, seed: int = 0
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Name, labels of nodes (h, w) and of pixels (H, W), and share of object of each method."""
    for k, how in ((PAIRS, OURS), (None, GAP)):
        found = segments(pairs, k)
        yield how, found.nodes, found.labels, object_share(pairs, found.nodes, found.k)
        yield f"k-means{how[5:]}", *_kmeans(features, pairs, found.k, seed)
    for name, method, most in (
        ("objects by `frame`", "frame", 3),
        ("Deep Spectral (`fiedler`)", "fiedler", 1),
        ("TokenCut", "tokencut", 1),
        ("LOST", "lost", 1),
        ("MaskCut", "maskcut", 3),
    ):
        spec = ObjectSpec(method=method, least_score=0)
        if most > 1:
            spec = spec.model_copy(update={"count": most})
        masks = [one.mask for one in propose(features, pairs.grid, spec)]
        nodes = np.zeros(pairs.grid, np.int64)
        for number, mask in enumerate(masks, start=1):
            nodes[mask & (nodes == 0)] = number
        share = np.r_[0.0, np.ones(len(masks))]
        yield name, nodes, _to_pixels(nodes, len(masks) + 1, pairs), share


def _kmeans(
    features: np.ndarray, pairs: Eigenpairs, k: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The group that holds most of the frame is the background."""
    from sklearn.cluster import KMeans

    nodes = KMeans(k, n_init=3, random_state=seed).fit_predict(features).reshape(pairs.grid)
    nodes = canonical_order([nodes], k)[nodes]
    return nodes, _to_pixels(nodes, k, pairs), np.r_[0.0, np.ones(k - 1)]


def _to_pixels(nodes: np.ndarray, count: int, pairs: Eigenpairs) -> np.ndarray:
    planes = np.stack([nodes == number for number in range(count)]).astype(np.float32)
    return upsample(planes, pairs.size, cells=pairs.cells).argmax(axis=0)


def remembered(
    cache: Path,
    path: Path,
    pixels: np.ndarray,
    extractor: Extractor,
    classifier: ImagenetClassifier,
) -> tuple[np.ndarray, np.ndarray]:
    """Features (h*w, d) and class map (1000, h', w'), at float16, from `cache` if it has them."""
    file = cache / f"{path.stem}.npz"
    if not file.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        features, planes = extractor([pixels])[0], classifier.maps(pixels)
        part = file.with_suffix(f".{os.getpid()}.npz")
        np.savez(part, features=features.astype(np.float16), planes=planes.astype(np.float16))
        part.rename(file)
    stored = np.load(file)
    features = stored["features"].astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features, stored["planes"].astype(np.float32)


def read(
    path: Path,
    truth: np.ndarray,
    extractor: Extractor,
    classifier: ImagenetClassifier,
    members: np.ndarray,
    cache: Path,
) -> Image:
    pixels = read_image(path)
    features, planes = remembered(cache, path, pixels, extractor, classifier)
    grid = extractor.grid(pixels.shape[:2])
    pairs = es.eigenvectors_of(
        features,
        grid,
        PAIRS,
        kind="features",
        size=pixels.shape[:2],
        cells=cells_of(extractor, pixels.shape[:2], pixels.shape[:2]),
    )
    size = (grid[1], grid[0])
    on_grid = np.stack([cv2.resize(plane, size) for plane in planes]).reshape(len(planes), -1).T
    voc = np.einsum("chw,cv->vhw", planes, members)
    image = Image(
        truth[::STEP, ::STEP],
        voc,
        (classifier.probabilities([pixels]) @ members)[0],
        features.astype(np.float16),
        np.sqrt(np.maximum(on_grid, 0)).astype(np.float16),
        grid,
    )
    for name, nodes, labels, share in divide(features, pairs):
        masks = np.stack([labels == number for number in range(len(share))])
        sums = np.zeros((len(share), features.shape[1]))
        np.add.at(sums, nodes.ravel(), features)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        image.divisions[name] = Division(
            labels[::STEP, ::STEP].astype(np.uint8),
            (sums / np.where(length > 0, length, 1)).astype(np.float32),
            np.sqrt(mask_means(planes, masks)),
            share,
        )
    return image


def count_pixels(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    counted = truth != VOID
    flat = np.bincount(truth[counted].astype(np.int64) * CLASSES + found[counted], minlength=441)
    return flat.reshape(CLASSES, CLASSES)


def row(name: str, tables: np.ndarray, match: Callable[[np.ndarray], np.ndarray]) -> dict:
    """mIoU of per-image tables (n, 21, 21), and its interval."""

    def miou(table: np.ndarray) -> float:
        return float(np.nanmean(class_iou(table, match(table))))

    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(tables), (RESAMPLES, len(tables)))
    low, high = np.percentile([miou(tables[draw].sum(axis=0)) for draw in draws], (2.5, 97.5))
    value = miou(tables.sum(axis=0))
    return {"method": name, "mIoU": f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"}


def as_named(table: np.ndarray) -> np.ndarray:
    return np.arange(CLASSES)


Labels = Callable[[Image], np.ndarray]


def tables(images: Sequence[Image], label: Labels) -> np.ndarray:
    return np.stack([count_pixels(image.truth, label(image)) for image in images])


def scores(one: Division, members: np.ndarray, weight: float) -> np.ndarray:
    return (one.classes**2 @ members) * (1 - weight * (1 - one.share))[:, None]


def ways(images: Sequence[Image], members: np.ndarray) -> dict[str, Callable[[float], Labels]]:
    """Each way to name pixels, by its threshold."""

    def by_segment(name: str, weight: float) -> Callable[[float], Labels]:
        def at(least: float) -> Labels:
            def label(image: Image) -> np.ndarray:
                values = scores(image.divisions[name], members, weight)
                named = np.where(values.max(axis=1) >= least, values.argmax(axis=1) + 1, 0)
                return named[image.divisions[name].labels]

            return label

        return at

    weights = {OURS: NameSpec().object_weight, GAP: NameSpec().object_weight}
    found = {name: by_segment(name, weights.get(name, 1.0)) for name in images[0].divisions}
    found[f"{OURS}, shares of object unused"] = by_segment(OURS, 0.0)
    found["class map of each pixel"] = lambda least: lambda image: _by_pixel(image, least)
    return found


def tuned(images: Sequence[Image], members: np.ndarray) -> dict[str, float]:
    """The threshold of each way that is best on these images."""

    def miou(label: Labels) -> float:
        table = tables(images, label).sum(axis=0)
        return float(np.nanmean(class_iou(table, as_named(table))))

    return {
        name: max(THRESHOLDS, key=lambda least, at=at: miou(at(least)))
        for name, at in ways(images, members).items()
    }


def named_rows(
    images: Sequence[Image], members: np.ndarray, thresholds: Mapping[str, float]
) -> Iterator[dict]:
    for name, at in ways(images, members).items():
        least = thresholds[name]
        found = row(name, tables(images, at(least)), as_named)
        yield {**found, "threshold": least}
    yield row("name of the whole image, everywhere", tables(images, _whole), as_named)
    nothing = tables(images, lambda image: np.zeros_like(image.truth))
    yield row("everything background", nothing, as_named)
    shuffled = _permuted(images, members, thresholds[OURS])
    yield row("chance", tables(images, shuffled), as_named)


def _by_pixel(image: Image, least: float) -> np.ndarray:
    size = image.truth.shape[::-1]
    planes = np.stack([cv2.resize(plane, size) for plane in image.class_map])
    return np.where(planes.max(axis=0) >= least, planes.argmax(axis=0) + 1, 0)


def _whole(image: Image) -> np.ndarray:
    return np.full(image.truth.shape, image.whole.argmax() + 1)


def _permuted(images: Sequence[Image], members: np.ndarray, least: float) -> Labels:
    """Our labels, with the names permuted among the segments that have one."""
    weight = NameSpec().object_weight
    values = [scores(image.divisions[OURS], members, weight) for image in images]
    names = [np.where(v.max(axis=1) >= least, v.argmax(axis=1) + 1, 0) for v in values]
    flat = np.concatenate(names)
    flat[flat > 0] = np.random.default_rng(0).permutation(flat[flat > 0])
    parts = np.split(flat, np.cumsum([len(n) for n in names])[:-1])
    by_image = {id(image): part for image, part in zip(images, parts, strict=True)}
    return lambda image: by_image[id(image)][image.divisions[OURS].labels]


def cluster_rows(images: Sequence[Image]) -> Iterator[dict]:
    for kind, background in (("features", True), ("classes", False)):
        for name in images[0].divisions:
            aside = background or name not in (OURS, GAP)
            assigned = _clusters([image.divisions[name] for image in images], kind, aside)
            tables = _tables(images, assigned, name)
            yield {**row(name, tables, hungarian), "features": kind}
            if name == GAP:
                chance = _tables(images, _shuffled(assigned, aside), name)
                yield {**row("chance", chance, hungarian), "features": kind}
        yield {**row("patches", _patch_tables(images, kind), hungarian), "features": kind}


def _clusters(divisions: Sequence[Division], kind: str, background: bool) -> list[np.ndarray]:
    def stream() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for one in divisions:
            yield getattr(one, kind), one.share

    fitted = cluster_segments(stream, ClusterSpec(count=CLASSES, background=background))
    return [fitted.assign(rows, share)[0] for rows, share in stream()]


def _shuffled(assigned: list[np.ndarray], background: bool) -> list[np.ndarray]:
    flat = np.concatenate(assigned)
    moved = flat > 0 if background else np.ones(len(flat), bool)
    flat[moved] = np.random.default_rng(0).permutation(flat[moved])
    return np.split(flat, np.cumsum([len(one) for one in assigned])[:-1])


def _tables(images: Sequence[Image], assigned: list[np.ndarray], name: str) -> np.ndarray:
    return np.stack(
        [
            count_pixels(image.truth, clusters[image.divisions[name].labels])
            for image, clusters in zip(images, assigned, strict=True)
        ]
    )


def _patch_tables(images: Sequence[Image], kind: str) -> np.ndarray:
    """K-means over the patches of all images, without eigenvectors or segments."""
    from sklearn.cluster import MiniBatchKMeans

    rows = [image.patches if kind == "features" else image.patch_classes for image in images]
    model = MiniBatchKMeans(CLASSES, n_init=3, random_state=0, batch_size=4096)
    model.fit(np.concatenate([part[::4] for part in rows]).astype(np.float32))
    tables = []
    for image, part in zip(images, rows, strict=True):
        nodes = model.predict(part.astype(np.float32)).reshape(image.grid).astype(np.uint8)
        size = image.truth.shape[::-1]
        labels = cv2.resize(nodes, size, interpolation=cv2.INTER_NEAREST)
        tables.append(count_pixels(image.truth, labels))
    return np.stack(tables)


@click.command(help=help_text(__doc__))
@click.option("--set", "root", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--split", required=True)
@click.option("--tune", help="Split to choose thresholds on.")
@click.option(
    "--thresholds",
    "reuse",
    type=click.Path(exists=True, path_type=Path),
    help="Use the thresholds of an earlier run, from its JSON file.",
)
@click.option(
    "--tune-photos", type=int, default=60, show_default=True, help="Images to choose thresholds on."
)
@click.option("--extractor", "name", default="efficientnet_lite2", show_default=True)
@click.option("--photos", type=int, default=110, show_default=True, help="Images to score.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=Path("results/benchmarks/cache"),
    help="Folder for the features, so that an interrupted run resumes.",
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/benchmarks"))
def main(
    root: Path,
    split: str,
    tune: str | None,
    reuse: Path | None,
    name: str,
    photos: int,
    tune_photos: int,
    cache: Path,
    out: Path,
) -> None:
    if (tune is None) == (reuse is None):
        raise click.UsageError("give either --tune or --thresholds")
    extractor, classifier = es.extractor(name), ImagenetClassifier()
    members = ImagenetNamer(classifier, voc_synsets()).members

    def read_all(split: str, most: int) -> list[Image]:
        with tempfile.TemporaryDirectory() as folder:
            paths = truths(root, split, Path(folder))
            known = [one for one in open_object_set(root, split=split) if one.id in paths]
            is_coco = not (root / "VOC2012").is_dir()
            return [
                read(
                    one.path,
                    to_voc(read_label(paths[one.id]), is_coco),
                    extractor,
                    classifier,
                    members,
                    cache / name,
                )
                for one in known[:: max(1, len(known) // most)][:most]
            ]

    if reuse is not None:
        thresholds = json.loads(reuse.read_text())["thresholds"]
    else:
        thresholds = tuned(read_all(str(tune), tune_photos), members)
    images = read_all(split, photos)
    title, more = f"{root.name}_{name}", {"images": len(images), "thresholds": thresholds}
    _harness.report(f"names_{title}", list(named_rows(images, members, thresholds)), out, **more)
    _harness.report(f"clusters_{title}", list(cluster_rows(images)), out, **more)


if __name__ == "__main__":
    main()
