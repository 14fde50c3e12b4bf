"""ZegFormer's preparation of pictures: goldens and what must hold for any size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.zegformer import transforms
from data.zegformer.transforms import Augmentation
from tests.parity import zegformer_data as family

GOLDEN = Path(__file__).parents[2] / "golden"


def test_goldens():
    results = list(family.cases(GOLDEN))
    assert len(results) == 92
    assert [case for case in results if not case.passed] == []


@pytest.mark.parametrize(
    ("size", "coco", "voc"),
    [
        ((480, 640), (640, 853), (512, 683)),
        ((427, 640), (640, 959), (512, 767)),
        ((333, 500), (640, 961), (512, 769)),
        ((100, 900), (284, 2560), (228, 2048)),
    ],
)
def test_resized_sizes_are_the_known_answers(size, coco, voc):
    assert transforms.resized_size(*size, short=640, longest=2560) == coco
    assert transforms.resized_size(*size, short=512, longest=2048) == voc


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_labels_keep_their_values_and_type(dtype):
    label = np.arange(30, dtype=dtype).reshape(1, 30)
    resized = transforms.resize_label(label, (2, 26))
    assert resized.dtype == dtype
    # 13 * 30 / 26 is 15; computed as 13 * (30 / 26) in float64 it falls just short.
    assert resized[0, 12:15].tolist() == [13, 15, 16]
    assert np.array_equal(resized[0], resized[1])


def world(H: int = 80, W: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """A picture whose red channel is its label."""
    label = np.zeros((H, W), np.uint8)
    label[:, W // 2 :] = 120
    label[H // 2 :] = 60
    return np.repeat(label[..., None], 3, axis=2), label


SMALL = Augmentation(
    short_sides=(40, 64, 96), longest=140, crop=48, colours=False, padded=64, ignore=255
)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_picture_and_label_move_together(seed):
    image, label = transforms.train_sample(*world(), SMALL, np.random.default_rng(seed))
    assert image.shape == (64, 64, 3)
    assert label.shape == (64, 64)
    assert (image[label == 255] == transforms.PADDING).all()
    inside = label != 255
    # Bilinear and nearest differ on the borders between classes alone.
    assert (np.abs(image[inside][:, 0].astype(int) - label[inside]) <= 1).mean() > 0.7
    again = transforms.train_sample(*world(), SMALL, np.random.default_rng(seed))
    assert np.array_equal(again[0], image)


def test_every_crop_and_both_orientations_occur():
    _, label = world()
    label[:] = 3
    settings = replace(SMALL, short_sides=(80,), padded=0)
    starts = {
        transforms.crop_window(label, settings, np.random.default_rng(seed))[0].start
        for seed in range(400)
    }
    assert starts == set(range(80 - 48 + 1))
    views = [
        transforms.train_sample(*world(), settings, np.random.default_rng(s))[1] for s in range(20)
    ]
    assert any((v[:, 0] == 120).any() for v in views) and any(
        (v[:, -1] == 120).any() for v in views
    )


def test_crops_of_one_class_are_drawn_again():
    _, label = world(96, 96)
    label[:] = 0
    label[:20, :20] = 7
    varied = replace(SMALL, crop=30, max_area=0.9)
    plain = replace(varied, max_area=1.0)

    def share(settings: Augmentation) -> float:
        windows = (
            label[transforms.crop_window(label, settings, np.random.default_rng(s))]
            for s in range(200)
        )
        return float(np.mean([len(np.unique(w)) > 1 for w in windows]))

    assert share(varied) > 2 * share(plain)


def test_colours_change_in_the_published_range():
    image = np.full((4, 4, 3), 100, np.uint8)
    found = [transforms.changed_colours(image, np.random.default_rng(s)) for s in range(200)]
    means = np.array([f.mean() for f in found])
    assert (means == 100).any()
    assert 100 < means.max() <= 198 and 34 <= means.min() < 100
    assert {f.dtype for f in found} == {np.dtype(np.uint8)}


def test_one_mask_a_class_and_none_for_ignored_pixels():
    label = np.array([[5, 5, 255], [2, 255, 2]], np.uint8)
    classes, masks = transforms.class_masks(label, 255)
    assert classes.tolist() == [2, 5]
    assert masks.tolist() == [
        [[False, False, False], [True, False, True]],
        [[True, True, False], [False, False, False]],
    ]
    classes, masks = transforms.class_masks(np.full((3, 4), 255, np.uint8), 255)
    assert masks.shape == (0, 3, 4)
