"""Counts, tallies, outlines and the oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data.errors import SettingError
from eval import boundary
from eval.sazs import oracle
from eval.sazs.metrics import COUNTINGS, Tally, count
from tests.parity import fusion as fusion_family
from tests.parity import metric as metric_family

GOLDEN = Path(__file__).parents[2] / "golden"
masks = hnp.arrays(bool, (6, 7))


@pytest.mark.parametrize(("family", "number"), [(metric_family, 18), (fusion_family, 12)])
def test_goldens(family, number):
    results = list(family.cases(GOLDEN))
    assert len(results) == number
    assert [case for case in results if not case.passed] == []


def test_void_pixels_count_as_the_specification_says():
    prediction = np.array([[0, 1, 1, 0]], bool)
    label = np.array([[0, 1, 255, 255]])
    truth, void = label == 1, label == 255
    expected = {
        "reference_pascal": [[1, 1], [2, 2]],
        "corrected": [[1, 1], [1, 1]],
        "reference_coco": [[2, 1], [3, 2]],
    }
    for counting in COUNTINGS:
        assert count(prediction, truth, void, counting=counting).tolist() == expected[counting]


@settings(max_examples=60)
@given(prediction=masks, truth=masks, void=masks)
def test_void_pixels_cannot_change_corrected_counts(prediction, truth, void):
    truth = truth & ~void
    counts = count(prediction, truth, void)
    assert np.array_equal(counts, count(prediction ^ void, truth, void))
    inter, union = counts
    assert (inter <= union).all()
    assert inter[0] + union[1] == np.count_nonzero(~void)


def test_counts_stay_exact_beyond_the_range_of_float32():
    tally = Tally(1)
    for _ in range(3):
        tally.add(0, np.array([[2**24, 2**24 + 1], [2**24 + 1, 2**24 + 3]]))
    assert tally.counts[0, :4].tolist() == [3 * 2**24, 3 * 2**24 + 3, 3 * 2**24 + 3, 3 * 2**24 + 9]


def test_miou_pools_images_of_a_class_and_fb_iou_pools_classes():
    tally = Tally(3)
    tally.add(0, np.array([[10, 1], [20, 2]]))
    tally.add(0, np.array([[10, 0], [20, 8]]))
    tally.add(2, np.array([[5, 3], [10, 4]]))
    assert tally.class_iou([0, 2]) == pytest.approx([1 / 10, 3 / 4])
    assert tally.miou([0, 2]) == pytest.approx(100 * (0.1 + 0.75) / 2)
    assert tally.fb_iou([0, 2]) == pytest.approx(100 * (25 / 50 + 4 / 14) / 2)
    assert tally.images.tolist() == [2, 0, 1]


def test_wrong_input_is_refused():
    mask = np.zeros((2, 2), bool)
    with pytest.raises(SettingError, match="expected one of corrected"):
        count(mask, mask, mask, counting="strict")
    with pytest.raises(SettingError, match="bring the prediction to the size"):
        count(np.zeros((2, 3), bool), mask, mask)


def square(top: int, left: int, side: int, size: int = 100) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_outline_of_a_square_is_its_rim_and_the_frame_is_none():
    assert boundary.outline(square(10, 10, 20)).sum() == 4 * 19
    assert boundary.outline(np.ones((9, 9), bool)).sum() == 0
    assert boundary.outline(square(0, 0, 20)).sum() == 39


def test_boundary_f_forgives_up_to_the_tolerance():
    truth, void = square(30, 30, 40), np.zeros((100, 100), bool)
    tolerance = 2 / np.hypot(100, 100)

    def f(prediction):
        return boundary.f_measure(boundary.matches(prediction, truth, void, tolerance=tolerance))

    assert f(truth) == 1
    assert f(square(28, 28, 44)) > 0.95
    assert f(square(20, 20, 60)) == 0
    assert f(np.zeros_like(truth)) == 0


def test_void_does_not_punish_outlines_within_it():
    truth = square(30, 30, 40)
    wrong = truth | square(5, 5, 10)
    nothing, void = np.zeros_like(truth), square(3, 3, 14)
    assert boundary.f_measure(boundary.matches(wrong, truth, nothing)) < 1
    assert boundary.f_measure(boundary.matches(wrong, truth, void)) == 1


def test_oracle_takes_a_mask_only_where_it_is_better():
    truth, void = square(20, 20, 30), np.zeros((100, 100), bool)
    good, bad = square(20, 20, 29), square(60, 60, 20)
    assert oracle.choose(bad, np.stack([bad, good, truth]), truth, void) == 2
    assert oracle.choose(good, np.stack([bad, good]), truth, void) == -1
    assert oracle.choose(good, np.zeros((0, 100, 100), bool), truth, void) == -1


@settings(max_examples=60)
@given(prediction=masks, truth=masks, candidates=hnp.arrays(bool, st.just((3, 6, 7))))
def test_oracle_is_never_below_the_prediction(prediction, truth, candidates):
    void = np.zeros_like(truth)
    index = oracle.choose(prediction, candidates, truth, void)
    chosen = prediction if index < 0 else candidates[index]

    def iou(mask):
        return np.sum(mask & truth) / max(np.sum(mask | truth), 1)

    assert iou(chosen) == max(iou(prediction), *map(iou, candidates))
