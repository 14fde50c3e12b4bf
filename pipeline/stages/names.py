"""Stage `names`: masks of a data set's images -> names, by an ImageNet classifier."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.coco_results import encode, write_results
from data.errors import DatasetError
from data.files import write_plain_json
from data.mask_sources import VOID, ImageMasks, open_masks
from data.pictures import read_image, read_label, write_png
from data.trees.tree import Photo, Tree
from eval.objects.clusters import Confusion, class_iou
from eval.objects.names import ImagenetNamer, Namer, named_map, voc_synsets
from models.imagenet import ImagenetClassifier
from pipeline.config import Config
from pipeline.progress import progress

log = logging.getLogger(__name__)


def run(
    source: Path,
    tree: Tree,
    output: Path,
    config: Config,
    *,
    words: Sequence[str] | None = None,
) -> None:
    """Write each mask with its name to `output`, and label maps next to it.

    Raises
    ------
    DatasetError
        Masks of an image that the data set does not have, or of another size.
    VocabularyError
        Words that the classifier does not know.
    """
    masks, images = open_masks(source), {image.id: image for image in tree.photos()}
    for one in masks:
        if one.stem not in images:
            raise DatasetError(
                f"{source}: expected masks of images of {tree.root}, found some of {one.stem}"
            )
    groups = voc_synsets() if words is None else {word: [word] for word in words}
    namer = ImagenetNamer(ImagenetClassifier(config.classifier, config.machine.device), groups)
    write_results(output, _entries(masks, images, namer, output.parent, config))
    log.info("names of the masks of %d images -> %s", len(masks), output.parent)
    if words is None and tree.name == "pascal":
        _score(masks, images, tree, output.parent)


def _entries(
    masks: Sequence[ImageMasks],
    images: dict[str, Photo],
    namer: Namer,
    folder: Path,
    config: Config,
) -> Iterator[dict[str, Any]]:
    for number, one in enumerate(progress(masks, len(masks), "names"), start=1):
        path = images[one.stem].path
        image = read_image(path)
        stack = one.read((image.shape[0], image.shape[1]))
        scores = namer(image, stack)
        labels = named_map(stack, scores, threshold=config.least_name_score)
        write_png(folder / f"{one.stem}.png", labels, durable=False)
        for mask, row in zip(stack, scores, strict=True):
            best = int(row.argmax())
            if row[best] >= config.least_name_score:
                yield {
                    "image_id": number,
                    "file_name": path.name,
                    "category_id": best + 1,
                    "category": namer.names[best],
                    "segmentation": encode(mask),
                    "score": round(float(row[best]), 6),
                }


def _score(masks: Sequence[ImageMasks], images: dict[str, Photo], tree: Tree, folder: Path) -> None:
    """Log and write the mIoU over background and the 20 classes, on images with labels."""
    confusion, labelled = Confusion(21, 21), 0
    for one in masks:
        truth = tree.mask_path(images[one.stem])
        if truth is not None and truth.is_file():
            labels = read_label(folder / f"{one.stem}.png")
            # A pixel without a name counts as background.
            confusion.add(read_label(truth), np.where(labels == VOID, 0, labels + 1))
            labelled += 1
    if not labelled:
        return
    iou = class_iou(confusion.table, np.arange(21))
    content: dict[str, Any] = {
        "images": labelled,
        "miou": float(np.nanmean(iou)),
        "iou": iou.tolist(),
    }
    write_plain_json(folder / "scores.json", content)
    log.info("mIoU %.1f on %d labelled images", 100 * content["miou"], labelled)
