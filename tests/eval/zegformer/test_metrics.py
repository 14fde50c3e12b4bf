"""GZS3 figures against a small case by hand; parity is checked with the data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DatasetError
from eval.zegformer import metrics as gzs_metrics
from eval.zegformer.metrics import confusion, figures

TRUTH = np.array([[0, 0, 0, 1, 1, 1, 255, 0]], np.uint8)
PREDICTION = np.array([[0, 0, 2, 1, 0, 1, 1, 0]])


def test_known_answer():
    matrix = confusion(PREDICTION, TRUTH, 3, ignore=255)
    iou, _ = gzs_metrics.class_figures(matrix)
    assert iou[:2].tolist() == pytest.approx([60, 200 / 3])
    assert np.isnan(iou[2])
    found = figures(matrix)
    assert found["mIoU"] == pytest.approx(42.22, abs=5e-3)
    assert found["mIoU_labelled"] == pytest.approx(63.33, abs=5e-3)
    assert found["pACC"] == pytest.approx(500 / 7)
    assert "seen_IoU" not in found


def test_absent_classes_and_both_ways_to_treat_them():
    matrix = confusion(PREDICTION, TRUTH, 3, ignore=255)
    found = figures(matrix, unseen=[1, 2])
    assert np.isnan(found["unseen_IoU"]) and np.isnan(found["hIoU"])
    assert found["unseen_IoU_labelled"] == pytest.approx(200 / 3)
    assert found["unseen_classes_labelled"] == 1
    assert found["hIoU_labelled"] == pytest.approx(2 * 60 * (200 / 3) / (60 + 200 / 3))
    wrong = confusion(1 - TRUTH[:, :6].astype(int), TRUTH[:, :6], 2, ignore=255)
    assert figures(wrong, unseen=[1])["hIoU"] == 0
    nothing = figures(np.zeros((4, 4), int), unseen=[1])
    assert np.isnan(nothing["mIoU"])


@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_counts_add_up_and_know_every_pixel(K, seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, K + 1, (5, 7)).astype(np.uint8)
    truth[truth == K] = 255
    prediction = rng.integers(0, K, (5, 7))
    whole = confusion(prediction, truth, K, ignore=255)
    parts = confusion(prediction[:2], truth[:2], K, ignore=255) + confusion(
        prediction[2:], truth[2:], K, ignore=255
    )
    assert np.array_equal(whole, parts)
    assert whole.sum() == 35 and whole[:, K].sum() == (truth == 255).sum()


def test_another_vocabulary_or_size_is_named():
    with pytest.raises(DatasetError, match=r"\(1, 8\) and label \(1, 7\) differ"):
        confusion(PREDICTION, TRUTH[:, 1:], 3, ignore=255)
    with pytest.raises(DatasetError, match=r"label: value 255 is no class of a vocabulary of 3"):
        confusion(PREDICTION, TRUTH, 3, ignore=65535)
