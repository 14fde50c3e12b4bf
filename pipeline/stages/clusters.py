"""Stage `clusters`: segments of the whole data set -> clusters, matched to the true classes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import DatasetError
from data.files import write_plain_json
from data.pictures import read_label, write_png
from data.trees.tree import Tree
from eval.objects.clusters import Confusion, class_iou, cluster, hungarian, majority
from pipeline.config import Config
from pipeline.stages.segments import read_features

log = logging.getLogger(__name__)
CLASSES = 255


def run(features: Path, tree: Tree, output: Path, config: Config) -> None:
    """Write the scores of the clusters to `output`, and pseudo-label maps and centres next to it.

    Raises
    ------
    DatasetError
        The file `features` does not exist.
    SettingError
        More clusters than distinct segments.
    """
    if not features.is_file():
        raise DatasetError(f"{features}: no such file; run the stage `segments` first")

    def stream() -> Iterator[np.ndarray]:
        for _, rows in read_features(features):
            yield rows

    clusters = cluster(stream, config.clusters, seed=config.solve.seed)
    images = {image.id: image for image in tree.photos()}
    confusion, labelled = Confusion(CLASSES, config.clusters), 0
    for id, rows in read_features(features):
        segments = read_label(features.parent / f"{id}.png")
        labels = clusters.assign(rows).astype(np.uint8)[segments]
        write_png(output.parent / f"{id}.png", labels, durable=False)
        truth = tree.mask_path(images[id]) if id in images else None
        if truth is not None and truth.is_file():
            confusion.add(read_label(truth), labels)
            labelled += 1
    scores = _scores(confusion, labelled, config)
    write_plain_json(output, scores)
    np.save(output.with_name("centres.npy"), clusters.centres)
    log.info("%d clusters -> %s%s", config.clusters, output.parent, _summary(scores))


def _scores(confusion: Confusion, labelled: int, config: Config) -> dict[str, Any]:
    scores: dict[str, Any] = {"clusters": config.clusters, "labelled_images": labelled}
    if not labelled:
        return scores
    present = int(np.flatnonzero(confusion.table.any(axis=1)).max()) + 1
    table = confusion.table[:present]
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


def _summary(scores: dict[str, Any]) -> str:
    if "hungarian" not in scores:
        return ""
    return (
        f"; mIoU {100 * scores['hungarian']['miou']:.1f} (Hungarian), "
        f"{100 * scores['majority']['miou']:.1f} (majority) on {scores['labelled_images']} images"
    )
