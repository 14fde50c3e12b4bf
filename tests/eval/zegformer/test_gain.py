"""The paired bootstrap sees a gain that is there, and none where answers are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.text.vocabulary import Vocabulary
from data.zegformer.sets import Pair
from eval.zegformer.gain import PhotoCounts, gain

NAMES = Vocabulary("two", ("a", "b"), frozenset([1]), (0, 1))
LABEL = np.array([[0, 0, 0, 0, 1, 1, 1, 255]], np.uint8)


def answers(wrong: int, photos: int = 12) -> PhotoCounts:
    """Every photo has the same label; in each, `wrong` pixels of class 0 are called 1."""
    prediction = np.array([[0, 0, 0, 0, 1, 1, 1, 0]])
    prediction[0, :wrong] = 1
    counts = PhotoCounts(NAMES)
    for number in range(photos):
        counts(Pair(f"p{number}", Path(), Path()), np.zeros((1, 8, 3)), LABEL, prediction)
    return counts


def test_known_gain():
    """Where photos are alike, every resample has the same gain."""
    better, worse = answers(0), answers(1)
    found = gain(better, worse, "mIoU", draws=20)
    assert found.gain == pytest.approx(100 - (75 + 75) / 2)
    assert found.low == pytest.approx(found.gain) and found.high == pytest.approx(found.gain)
    assert str(found) == "+25.0 [+25.0, +25.0]"
    assert gain(worse, better, "hIoU", draws=20).gain == pytest.approx(-25)
    assert gain(worse, worse, "mIoU", draws=20).high == 0


def test_an_interval_spans_what_photos_differ_in():
    better, worse = answers(0), answers(1)
    for number in range(6):
        better.found[f"p{number}"] = worse.found[f"p{number}"]
    found = gain(better, worse, "seen_IoU")
    assert 0 < found.low < found.gain < found.high < 25
    del better.found["p11"]
    assert gain(better, worse, "seen_IoU").gain < found.gain
