"""Stage `clusters`: segments of the whole data set -> clusters, matched to the true classes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.datasets import DATASETS
from data.files import without_nan
from data.pictures import read_image, read_label, write_png
from data.progress import progress
from data.sealed import write_json
from data.text.vocabulary import builtin
from data.trees.tree import Photo, Tree
from eval import report
from eval.objects.cluster_pictures import (
    Member,
    clusters_rgb,
    clusters_section,
    confusion_rgb,
    confusion_section,
    segment_crop,
)
from eval.objects.clusters import Confusion, class_iou, hungarian, majority
from eval.objects.segment_clusters import SegmentClusters, cluster_segments
from pipeline.config import Config
from pipeline.origins import about, maps_digest, remove_others
from pipeline.stages.segments import SegmentReader

log = logging.getLogger(__name__)
CLASSES = 255
SHOWN = 12
"""Segments of each cluster on its page: the nearest to its centre."""


@dataclass
class Tally:
    """What is counted while the images go by: pixels, segments, and the segments to show."""

    confusion: Confusion
    labelled: int = 0
    segments: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    nearest: list[list[tuple[float, str, int]]] = field(default_factory=list)


def run(features: Path, tree: Tree, output: Path, config: Config) -> None:
    """Write the scores of the clusters to `output`; pseudo-label maps, centres and a page to it.

    Raises
    ------
    DatasetError
        The file `features` does not exist, or the label maps next to it are of another run.
    SettingError
        More clusters than distinct segments.
    """
    reader, folder = SegmentReader(features), output.parent
    clusters = cluster_segments(reader.rows, config.clusters, seed=config.solve.seed)
    images = {image.id: image for image in tree.photos()}
    remove_others(folder, reader.ids)
    tally = _assign(reader, clusters, tree, images, folder)
    clusters.save(folder / "centres.npz")
    table = _present(tally.confusion.table)
    scores = {
        "info": about(
            "clusters", config, segments=reader.seal, maps=maps_digest(folder, reader.ids)
        ),
        "clusters": config.clusters.count,
        "segments": tally.segments.tolist(),
        "labelled_images": tally.labelled,
        **(_scores(table) if tally.labelled else {}),
    }
    write_json(output, without_nan(scores))
    _draw(reader, tally, table, tree, images, output)
    log.info("%d clusters -> %s%s", config.clusters.count, folder, _summary(scores))


def _assign(
    reader: SegmentReader,
    clusters: SegmentClusters,
    tree: Tree,
    images: dict[str, Photo],
    folder: Path,
) -> Tally:
    """Write the pseudo-label map of each image, and count."""
    count = clusters.count
    tally = Tally(
        Confusion(CLASSES, count), 0, np.zeros(count, np.int64), [[] for _ in range(count)]
    )
    ids = progress(reader.ids, len(reader.ids), "clusters")
    for id, (rows, shares) in zip(ids, reader.rows(), strict=True):
        segments = reader.labels(id)
        assigned, distances = clusters.assign(rows, shares)
        labels = assigned.astype(np.uint8)[segments]
        write_png(folder / f"{id}.png", labels, durable=False)
        tally.segments += np.bincount(assigned, minlength=count)
        for number in np.unique(segments):
            shown = tally.nearest[assigned[number]]
            shown.append((float(distances[number]), id, int(number)))
            shown.sort()
            del shown[SHOWN:]
        truth = tree.mask_path(images[id]) if id in images else None
        if truth is not None and truth.is_file():
            tally.confusion.add(read_label(truth), labels)
            tally.labelled += 1
    return tally


def _present(table: np.ndarray) -> np.ndarray:
    """The rows up to the last class that has pixels."""
    rows = np.flatnonzero(table.any(axis=1))
    return table[: int(rows.max()) + 1] if len(rows) else table[:1]


def _scores(table: np.ndarray) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for name, match in (("hungarian", hungarian), ("majority", majority)):
        names = match(table)
        iou = class_iou(table, names)
        scores[name] = {
            "miou": float(np.nanmean(iou)),
            "iou": iou.tolist(),
            "class_of_cluster": names.tolist(),
        }
    scores["confusion"] = table.tolist()
    return scores


def _draw(
    reader: SegmentReader,
    tally: Tally,
    table: np.ndarray,
    tree: Tree,
    images: dict[str, Photo],
    output: Path,
) -> None:
    """Write the page of the clusters, and its images as PNG."""
    names, pictures = _class_names(tree, len(table)), output.parent / "pictures"
    match = hungarian(table)
    notes = {
        cluster: f"{count} segments" + _matched(tally, names, int(match[cluster]))
        for cluster, count in enumerate(tally.segments.tolist())
    }
    members = list(_members(reader, tally, images))
    sections = [clusters_section(members, notes)]
    write_png(pictures / "segments.png", clusters_rgb(members, notes))
    if tally.labelled:
        sections.insert(0, confusion_section(table, names, match.tolist()))
        write_png(pictures / "confusion.png", confusion_rgb(table, names, match.tolist()))
    # The folder of the results, not the tree: scikit-image's photos are a tree of kind "folder".
    title = f"Clusters of {output.parent.parent.name}"
    report.write(output.with_suffix(".html"), sections, title=title)


def _matched(tally: Tally, names: list[str], class_: int) -> str:
    return f"; matched with {names[class_]}" if tally.labelled and class_ >= 0 else ""


def _members(reader: SegmentReader, tally: Tally, images: dict[str, Photo]) -> Iterator[Member]:
    for cluster, nearest in enumerate(tally.nearest):
        for _, id, number in nearest:
            if id in images:
                image = read_image(images[id].path)
                yield Member(cluster, id, segment_crop(image, reader.labels(id) == number))


def _class_names(tree: Tree, count: int) -> list[str]:
    """Names of label values 0 to count - 1."""
    names = [f"class {label}" for label in range(count)]
    key = DATASETS[tree.name].vocabulary if tree.name in DATASETS else None
    if key is not None:
        names[0] = "background"
        vocabulary = builtin(key)
        for label, name in zip(vocabulary.label_ids, vocabulary.names, strict=True):
            if 0 < label < count:
                names[label] = name
    return names


def _summary(scores: dict[str, Any]) -> str:
    if "hungarian" not in scores:
        return ""
    return (
        f"; mIoU {100 * scores['hungarian']['miou']:.1f} (Hungarian), "
        f"{100 * scores['majority']['miou']:.1f} (majority) on {scores['labelled_images']} images"
    )
