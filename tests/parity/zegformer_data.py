"""ZegFormer's data: `zegformer-mapper`, `zegformer-metric` and the class lists.

Errors: largest absolute differences for pictures and labels, relative ones for figures, numbers of
differing entries for lists.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data.text.vocabulary import builtin
from data.zegformer import transforms
from eval.zegformer import metrics as gzs_metrics
from tests.parity.case import Case, available, largest_difference
from tests.parity.zegformer_golden import Sampled

LISTS = ("coco_stuff", "voc", "ade20k_full")
FILES = (
    "zegformer-mapper.npz",
    "zegformer-metric.npz",
    *(f"classes_{name}.json" for name in LISTS),
)
COLOUR_CHANGES = {
    "brightness": transforms.brightness,
    "contrast": transforms.contrast,
    "saturation": transforms.saturation,
    "hue": transforms.hue,
}


def cases(folder: Path) -> Iterator[Case]:
    golden = Sampled.find(folder, "mapper")
    if golden is not None:
        for check in (_targets, _resizing, _colours):
            yield from available(check(golden))
    golden = Sampled.find(folder, "metric")
    if golden is not None:
        yield from available(_metric(golden))
    for name in LISTS:
        path = folder / f"classes_{name}.json"
        if path.is_file():
            yield from _classes(name, json.loads(path.read_text()))


def _targets(golden: Sampled) -> Iterator[Case]:
    for name in golden.names(".size_divisibility"):
        side, ignore = int(golden[f"{name}.size_divisibility"]), int(golden[f"{name}.ignore"])
        image = transforms.padded(golden["image"], side, transforms.PADDING)
        label = transforms.padded(golden[f"{name}.label"], side, ignore)
        yield golden.case(f"{name}.image", image.transpose(2, 0, 1), 0)
        # Large label maps are stored as the packed bits of "is ignored".
        is_packed = golden[f"{name}.sem_seg"].ndim == 1
        stored = np.packbits(label == ignore) if is_packed else label
        yield golden.case(f"{name}.sem_seg", stored, 0)
        classes, masks = transforms.class_masks(label, ignore)
        yield golden.case(f"{name}.classes", classes, 0)
        yield golden.case(f"{name}.masks_shape", np.array(masks.shape), 0)
        yield golden.case(f"{name}.masks_packed", np.packbits(masks), 0)


def _resizing(golden: Sampled) -> Iterator[Case]:
    rows = golden["resize.shapes"]
    found = [
        transforms.resized_size(int(h), int(w), short=int(short), longest=int(longest))
        for h, w, short, longest, *_ in rows
    ]
    error = largest_difference(np.array(found), rows[:, 4:])
    yield Case(f"{golden.name} resize.shapes", error, 0)
    label = golden["padded.label"]
    for name in golden.names(".size"):
        height, width = golden[f"{name}.size"]
        size = (int(height), int(width))
        yield golden.case(f"{name}.image", transforms.resize_image(golden["image"], size), 0)
        yield golden.case(f"{name}.label", transforms.resize_label(label, size), 0)
    yield golden.case("test.image", transforms.test_image(golden["image"]).transpose(2, 0, 1), 0)


def _colours(golden: Sampled) -> Iterator[Case]:
    """Each change by the amount that its name gives, and several in the order of the name.

    `hue-13` is one change, `order1.b-17.5_c0.8_s1.4_h9` are four.
    """
    for name in sorted(golden.arrays("colour.") - {"image"}):
        changed = golden["colour.image"]
        for change, amount in re.findall(r"(?:^|[._])([bcsh][a-z]*)[*]?([+-]?\d+(?:\.\d+)?)", name):
            (function,) = (f for long, f in COLOUR_CHANGES.items() if long.startswith(change))
            changed = function(changed, float(amount))
        yield golden.case(f"colour.{name}", changed, 0)


def _metric(golden: Sampled) -> Iterator[Case]:
    unseen = builtin("coco_stuff").unseen_ids
    for name in golden.names(".confusion"):
        matrix = golden[f"{name}.confusion"]
        iou, accuracy = gzs_metrics.class_figures(matrix)
        yield golden.case(f"{name}.IoU", iou, 1e-9, relative=True)
        yield golden.case(f"{name}.ACC", accuracy, 1e-9, relative=True)
        found = gzs_metrics.figures(matrix, unseen)
        for key in ("mIoU", "fwIoU", "mACC", "pACC", "seen_IoU", "unseen_IoU", "hIoU"):
            yield golden.case(f"{name}.{key}", np.array(found[key]), 1e-9, relative=True)
    classes = len(golden[f"{golden.names('.confusion')[0]}.confusion"]) - 1
    prediction, label = golden["maps.prediction"], golden["maps.label"]
    matrix = gzs_metrics.confusion(prediction, label, classes, ignore=255)
    rows, columns = matrix.nonzero()
    found_counts = np.stack([rows, columns, matrix[rows, columns]], axis=1)
    yield golden.case("maps.confusion_nonzero", found_counts, 0)


def _classes(name: str, told: dict) -> Iterator[Case]:
    vocabulary = builtin(name)
    seen, unseen = vocabulary.subset("seen"), vocabulary.subset("unseen")
    lists = {
        "names": (list(vocabulary.names), told["names"]),
        "seen": (vocabulary.seen_ids, told["seen"]),
        "unseen": (vocabulary.unseen_ids, told["unseen"]),
        "ignore": ([vocabulary.ignore], [told["ignore"]]),
    }
    for key, own in (
        ("label_id_to_contiguous", vocabulary),
        ("label_id_to_contiguous_seen_training", seen),
        ("label_id_to_contiguous_unseen_only", unseen),
    ):
        if key in told:
            theirs = sorted((int(label), i) for label, i in told[key].items())
            lists[key] = (sorted((label, i) for i, label in enumerate(own.label_ids)), theirs)
    for key, (ours, theirs) in lists.items():
        differing = len(ours) != len(theirs) or sum(
            a != b for a, b in zip(ours, theirs, strict=True)
        )
        yield Case(f"classes_{name} {key}", float(differing), 0)
