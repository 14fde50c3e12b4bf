"""ZegFormer's data: `zegformer-mapper`, `zegformer-metric` and the class lists.

Errors: largest absolute differences for pictures and labels, relative ones for figures, numbers of
differing entries for lists.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data.text.vocabulary import builtin
from data.zegformer import transforms
from eval.zegformer import metrics as gzs_metrics
from tests.parity.case import Case, largest_difference
from tests.parity.zegformer_golden import Sampled

TARGETS = ("padded", "unpadded", "cropped", "ignored", "sixteenbit", "configured640")


def cases(folder: Path) -> Iterator[Case]:
    golden = Sampled.find(folder, "mapper")
    if golden is not None:
        yield from _targets(golden)
        yield from _resizing(golden)
        yield from _colours(golden)
    golden = Sampled.find(folder, "metric")
    if golden is not None:
        yield from _metric(golden)
    for name in ("coco_stuff", "voc", "ade20k_full"):
        path = folder / f"classes_{name}.json"
        if path.is_file():
            yield from _classes(name, json.loads(path.read_text()))


def _targets(golden: Sampled) -> Iterator[Case]:
    for name in TARGETS:
        side, ignore = int(golden[f"{name}.size_divisibility"]), int(golden[f"{name}.ignore"])
        image = transforms.padded(golden["image"], side, transforms.PADDING)
        label = transforms.padded(golden[f"{name}.label"], side, ignore)
        yield golden.case(f"{name}.image", image.transpose(2, 0, 1), 0)
        if name == "configured640":
            yield golden.case(f"{name}.sem_seg", np.packbits(label == ignore), 0)
        else:
            yield golden.case(f"{name}.sem_seg", label, 0)
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
    for name in ("up", "down"):
        height, width = golden[f"resize.{name}.size"]
        size = (int(height), int(width))
        yield golden.case(f"resize.{name}.image", transforms.resize_image(golden["image"], size), 0)
        yield golden.case(f"resize.{name}.label", transforms.resize_label(label, size), 0)
    yield golden.case("test.image", transforms.test_image(golden["image"]).transpose(2, 0, 1), 0)


def _colours(golden: Sampled) -> Iterator[Case]:
    image = golden["colour.image"]
    found = {
        "brightness+20": transforms.brightness(image, 20),
        "contrast*1.3": transforms.contrast(image, 1.3),
        "saturation*0.7": transforms.saturation(image, 0.7),
        "hue+11": transforms.hue(image, 11),
        "hue-13": transforms.hue(image, -13),
    }
    dark = transforms.brightness(image, -17.5)
    first = transforms.saturation(transforms.contrast(dark, 0.8), 1.4)
    found["order1.b-17.5_c0.8_s1.4_h9"] = transforms.hue(first, 9)
    first = transforms.hue(transforms.saturation(dark, 1.4), 9)
    found["order0.b-17.5_s1.4_h9_c0.8"] = transforms.contrast(first, 0.8)
    for name, ours in found.items():
        yield golden.case(f"colour.{name}", ours, 0)


def _metric(golden: Sampled) -> Iterator[Case]:
    unseen = builtin("coco_stuff").unseen_ids
    for name in ("full", "absent", "absent_seen_only"):
        matrix = golden[f"{name}.confusion"]
        iou, accuracy = gzs_metrics.class_figures(matrix)
        yield golden.case(f"{name}.IoU", iou, 1e-9, relative=True)
        yield golden.case(f"{name}.ACC", accuracy, 1e-9, relative=True)
        found = gzs_metrics.figures(matrix, unseen)
        for key in ("mIoU", "fwIoU", "mACC", "pACC", "seen_IoU", "unseen_IoU", "hIoU"):
            yield golden.case(f"{name}.{key}", np.array(found[key]), 1e-9, relative=True)
    classes = len(golden["full.IoU"])
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
