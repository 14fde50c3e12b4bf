"""ZegFormer's data sets by their published names: images, labels and classes.

Labels are maps of class ids in the order of the set's vocabulary, as `data.zegformer.prepare`
writes them.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.errors import DatasetError, ImageError
from data.files import expanded
from data.pictures import orientation, read_image, read_label
from data.text.vocabulary import Vocabulary, builtin
from data.trees.tree import list_pictures

log = logging.getLogger(__name__)


_SHOWN = 3  # files in a message


@dataclass(frozen=True)
class Pair:
    """An image and its label map."""

    id: str
    image: Path
    label: Path


def read_pair(pair: Pair, *, classes: int, ignore: int) -> tuple[np.ndarray, np.ndarray]:
    """The image, (H, W, 3) uint8 RGB upright, and its label map, (H, W) uint8 or uint16.

    Parameters
    ----------
    classes : number of classes; labels count from 0
    ignore : label value without a class

    Raises
    ------
    ImageError
        One of them cannot be read; the label is of another size; or the EXIF orientation of the
        image leaves open whether the label is to be rotated too.
    DatasetError
        The label is of another vocabulary.
    """
    image, label = read_image(pair.image), read_label(pair.label)
    turned = orientation(pair.image)
    if label.shape != image.shape[:2]:
        note = f" after applying EXIF orientation {turned}" if turned > 1 else ""
        raise ImageError(
            pair.label,
            f"expected the size of its image, {image.shape[:2]}{note}, found {label.shape}",
        )
    if turned in (2, 3, 4) or (turned > 4 and label.shape[0] == label.shape[1]):
        raise ImageError(
            pair.image,
            f"has EXIF orientation {turned}, so its label map may or may not be upright; store "
            "both upright, without EXIF orientation",
        )
    top = int(label.max(initial=0, where=label != ignore))
    if top >= classes:
        raise DatasetError(
            f"{pair.label}: has class {top}, expected 0 to {classes - 1}: its labels are of "
            "another vocabulary; convert them with `python -m pipeline prepare`"
        )
    return image, label


@dataclass(frozen=True)
class LabelledSet:
    """A data set on disk.

    Attributes
    ----------
    name : published name
    images, labels : folders under the root
    vocabulary, subset : whose classes the labels number (see `Vocabulary.subset`)
    prepared_by : argument of `python -m pipeline prepare` that makes the labels
    """

    name: str
    images: str
    labels: str
    vocabulary: str
    subset: str
    prepared_by: str

    @property
    def classes(self) -> Vocabulary:
        return builtin(self.vocabulary).subset(self.subset)

    def pairs(self, root: Path) -> list[Pair]:
        """Images that have a label, sorted by id; files without a partner are logged.

        Raises
        ------
        DatasetError
            A folder is missing, or no image has a label; the message tells how to make it.
        """
        images, labels = (self._paths(root / folder) for folder in (self.images, self.labels))
        both = sorted(images.keys() & labels.keys())
        if not both:
            raise DatasetError(
                f"{self.name}: no image of {root / self.images} has a label in "
                f"{root / self.labels}; run: python -m pipeline prepare {self.prepared_by}"
            )
        alone = [(images | labels)[stem] for stem in sorted(images.keys() ^ labels.keys())]
        if alone:
            log.warning(
                "%s: %d files have no partner of the same name: %s",
                self.name,
                len(alone),
                ", ".join(map(str, alone[:_SHOWN])) + (", ..." if len(alone) > _SHOWN else ""),
            )
        return [Pair(stem, images[stem], labels[stem]) for stem in both]

    def _paths(self, folder: Path) -> dict[str, Path]:
        if not folder.is_dir():
            raise DatasetError(
                f"{self.name}: {folder} is missing. Put the official files under the root "
                "($DETECTRON2_DATASETS or DATASETS.ROOT) and run: python -m pipeline prepare "
                f"{self.prepared_by}"
            )
        listing = list_pictures(folder)
        for name, reason in listing.problems[:_SHOWN]:
            log.warning("%s: %s: %s; ignored", self.name, folder / name, reason)
        return {photo.id: photo.path for photo in listing.photos}


def _sets() -> list[LabelledSet]:
    coco = "coco/coco_stuff"
    ade = "ADE20K_2021_17_01"
    rows = [
        ("coco_2017_train_stuff_seen_sem_seg", coco, "train2017", "train2017", "seen"),
        ("coco_2017_test_stuff_seen_sem_seg", coco, "val2017", "val2017_seen", "seen"),
        ("coco_2017_val_unseen_stuff_sem_seg", coco, "val2017", "val2017_unseen", "unseen"),
        ("coco_2017_val_all_stuff_sem_seg", coco, "val2017", "val2017_all", "all"),
        ("pascal_voc_train_seen_sem_seg", "VOCZERO", "train", "train_seen", "seen"),
        ("pascal_voc_test_seen_sem_seg", "VOCZERO", "val", "val_seen", "seen"),
        ("pascal_voc_val_unseen_sem_seg", "VOCZERO", "val", "val_unseen", "unseen"),
        ("pascal_voc_val_all_sem_seg", "VOCZERO", "val", "val_all", "all"),
        ("ade20k_full_sem_seg_freq_train", ade, "training", "training_seen", "seen"),
        ("ade20k_full_sem_seg_freq_val", ade, "validation", "validation_seen", "seen"),
        ("ade20k_full_sem_seg_freq_val_unseen", ade, "validation", "val_unseen", "unseen"),
        ("ade20k_full_sem_seg_freq_val_all", ade, "validation", "val_all", "all"),
    ]
    kinds = {
        coco: ("images", "annotations_detectron2", "coco_stuff", "coco-stuff"),
        "VOCZERO": ("images", "annotations_detectron2", "voc", "voc"),
        ade: (
            "images_detectron2_freq",
            "annotations_detectron2_freq",
            "ade20k_full",
            "ade20k-full",
        ),
    }
    sets = []
    for name, base, split, labels, subset in rows:
        images, annotations, vocabulary, command = kinds[base]
        sets.append(
            LabelledSet(
                name,
                f"{base}/{images}/{split}",
                f"{base}/{annotations}/{labels}",
                vocabulary,
                subset,
                command,
            )
        )
    return sets


SETS = {entry.name: entry for entry in _sets()}
# A leftover in the published name.
SETS["coco_2017_val_unseen_stuff_seen_sem_seg"] = SETS["coco_2017_val_unseen_stuff_sem_seg"]


def labelled_set(name: str) -> LabelledSet:
    """The set of that name.

    Raises
    ------
    DatasetError
        There is none; the message lists the known ones.
    """
    if name not in SETS:
        raise DatasetError(f"data set: expected one of {', '.join(SETS)}, found {name!r}")
    return SETS[name]


def datasets_root(configured: str = "") -> Path:
    """The configured folder, else $DETECTRON2_DATASETS, else `datasets`."""
    return expanded(configured or os.environ.get("DETECTRON2_DATASETS", "datasets"))
