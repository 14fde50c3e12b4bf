"""The data sets of ZegFormer by their published names: which photos, which labels, which classes.

Labels are maps of class ids in the order of the set's vocabulary, as `data.zegformer.prepare`
writes them.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from data.errors import DatasetError
from data.text.vocabulary import Vocabulary, builtin

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pair:
    """A photo and its label map."""

    id: str
    image: Path
    label: Path


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
        """Photos that have a label and the reverse, sorted by id; what has no partner is logged.

        Raises
        ------
        DatasetError
            A folder is missing, or no photo has a label; says how to make it.
        """
        images, labels = (self._stems(root / folder) for folder in (self.images, self.labels))
        both = sorted(images.keys() & labels.keys())
        if not both:
            raise DatasetError(
                f"{self.name}: no photo of {root / self.images} has a label in "
                f"{root / self.labels}; run: python -m pipeline prepare {self.prepared_by}"
            )
        alone = len(images) + len(labels) - 2 * len(both)
        if alone:
            log.warning("%s: %d files have no partner of the same name", self.name, alone)
        return [Pair(stem, images[stem], labels[stem]) for stem in both]

    def _stems(self, folder: Path) -> dict[str, Path]:
        if not folder.is_dir():
            raise DatasetError(
                f"{self.name}: {folder} is missing. Put the official files under the root "
                "($DETECTRON2_DATASETS or DATASETS.ROOT) and run: python -m pipeline prepare "
                f"{self.prepared_by}"
            )
        suffixes = (".jpg", ".png", ".tif")
        return {entry.stem: entry for entry in folder.iterdir() if entry.suffix in suffixes}


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
    found = []
    for name, base, photos, labels, subset in rows:
        images, annotations, vocabulary, command = kinds[base]
        found.append(
            LabelledSet(
                name,
                f"{base}/{images}/{photos}",
                f"{base}/{annotations}/{labels}",
                vocabulary,
                subset,
                command,
            )
        )
    return found


SETS = {entry.name: entry for entry in _sets()}
# A leftover in the published name.
SETS["coco_2017_val_unseen_stuff_seen_sem_seg"] = SETS["coco_2017_val_unseen_stuff_sem_seg"]


def labelled_set(name: str) -> LabelledSet:
    """The set of that name.

    Raises
    ------
    DatasetError
        Unknown; lists the known ones.
    """
    if name not in SETS:
        raise DatasetError(f"data set {name!r} is not known; choose {', '.join(SETS)}")
    return SETS[name]


def datasets_root(configured: str = "") -> Path:
    """The configured folder, else $DETECTRON2_DATASETS, else `datasets`."""
    return Path(configured or os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()
