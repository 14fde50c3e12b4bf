"""Targets and samples of SAZS's training runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data.errors import SettingError
from data.sazs.folds import open_fold
from data.synthetic import world as generated
from train.sampling import Draw
from train.sazs.samples import SazsSamples, targets
from train.unread import KEY


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    generated.write(root, photos=56, workers=1)
    return root


def label_map() -> np.ndarray:
    labels = np.zeros((32, 32), np.uint8)
    labels[12:28, 12:28] = 6
    labels[12:28, 20:28] = 9
    labels[28:30] = 255
    return labels


def test_reference_targets_treat_void_as_others():
    target, edges = targets(label_map(), 5, mode="reference", classes=20)
    assert target.tolist() == (label_map()[::8, ::8] == 6).astype(int).tolist()
    assert edges[0].all()
    assert edges[:, 0].all()


def test_corrected_targets_keep_void_and_outline_the_class_alone():
    target, edges = targets(label_map(), 5, mode="corrected", classes=20)
    expected = label_map()[4::8, 4::8].astype(int)
    assert target.tolist() == np.select([expected == 6, expected == 255], [1, 255], 0).tolist()
    assert not edges[0, 0]
    assert edges[1, 1]
    _, other = targets(label_map(), 8, mode="corrected", classes=20)
    assert not other[1, 1]
    _, none = targets(label_map(), 12, mode="corrected", classes=20)
    assert not none.any()


def test_samples_depend_on_their_draw_alone(world):
    items = open_fold("pascal", world, 0).train
    samples = SazsSamples(items, seed=3, crop=64)
    one, again = samples[Draw(1, 4)], samples[Draw(1, 4)]
    assert one.pop(KEY) == again.pop(KEY) == []
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["image"], samples[Draw(2, 4)]["image"])
    assert one["image"].shape == (64, 64, 3)
    assert one["target"].shape == (8, 8)
    assert one["edges"].shape == (1, 8, 8)


def test_balanced_samples_draw_classes_evenly(world):
    items = list(open_fold("pascal", world, 0).train)
    crowd = [item for item in items if item.class_id == items[0].class_id]
    samples = SazsSamples(items + crowd * 20, seed=0, crop=16, balanced=True)
    drawn = [int(samples[Draw(0, n)]["class_id"]) for n in range(60)]
    assert drawn.count(items[0].class_id) < 20


def test_crop_must_fit_the_stride(world):
    with pytest.raises(SettingError, match="multiple of 16"):
        SazsSamples(open_fold("pascal", world, 0).train, seed=0, crop=40)
