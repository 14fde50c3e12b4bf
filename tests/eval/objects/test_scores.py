import numpy as np
import pytest

from data.trees.object_sets import Truth
from eval.objects.scores import Found, ObjectScores, box_iou, mask_iou


def mask(rows, columns, size=(20, 20)):
    result = np.zeros(size, bool)
    result[slice(*rows), slice(*columns)] = True
    return result


TRUTH = Truth(
    np.array([[0, 0, 10, 10], [12, 12, 8, 8]]),
    np.stack([mask((0, 10), (0, 10)), mask((12, 20), (12, 20))]),
)


def test_known_ious():
    assert box_iou((0, 0, 10, 10), TRUTH.boxes).tolist() == [1, 0]
    assert box_iou((5, 0, 10, 10), TRUTH.boxes)[0] == pytest.approx(1 / 3)
    assert mask_iou(TRUTH.masks[0], mask((5, 15), (0, 10))) == pytest.approx(1 / 3)
    empty = np.zeros((2, 2), bool)
    assert mask_iou(empty, empty) == 1


def test_perfect_results():
    scores = ObjectScores()
    scores.add(
        [Found(tuple(b), m, 0.9) for b, m in zip(TRUTH.boxes, TRUTH.masks, strict=True)], TRUTH
    )
    summary = scores.summary()
    assert summary["images"] == 1 and summary["without_object"] == 0
    for name in ("corloc", "first_iou", "iou", "accuracy", "max_f"):
        assert summary[name] == pytest.approx(1)


def test_an_image_without_an_object_in_the_results_is_a_miss():
    scores = ObjectScores()
    scores.add([], TRUTH)
    scores.add([Found((0, 0, 10, 10), TRUTH.masks[0], 0.3)], TRUTH)
    summary = scores.summary()
    assert summary["corloc"] == 0.5 and summary["first_iou"] == 0.5
    assert summary["without_object"] == 1
    assert summary["accuracy"] == pytest.approx(1 - (164 + 64) / 800)
    low, high = scores.interval("corloc")
    assert low == 0 and high == 1


def test_the_first_object_is_the_one_of_highest_score():
    scores = ObjectScores()
    scores.add(
        [
            Found((15, 0, 4, 4), mask((0, 4), (15, 19)), 0.2),
            Found((0, 0, 10, 10), TRUTH.masks[0], 0.4),
        ],
        TRUTH,
    )
    assert scores.corloc == [1.0]


def test_max_f_drops_what_is_doubtful():
    scores = ObjectScores()
    wrong = Found((15, 0, 4, 4), mask((0, 4), (15, 19)), 0.2)
    right = [Found(tuple(b), m, 0.9) for b, m in zip(TRUTH.boxes, TRUTH.masks, strict=True)]
    scores.add([*right, wrong], TRUTH)
    assert scores.summary()["max_f"] == pytest.approx(1)
    assert scores.summary()["iou"] < 1


def test_images_without_true_objects_are_left_out():
    scores = ObjectScores()
    scores.add([], Truth(np.zeros((0, 4)), np.zeros((0, 20, 20), bool)))
    assert scores.summary() == {"images": 0, "without_object": 0}
