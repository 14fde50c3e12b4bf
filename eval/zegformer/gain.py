"""Whether one method beats another: GZS3 figures under a paired bootstrap over images.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.text.vocabulary import Vocabulary
from data.zegformer.sets import Pair
from eval.zegformer.metrics import confusion, figures


class PhotoCounts:
    """Keeps the confusion matrix of each image; handed to `gzs_scoring.score` as `on_photo`.

    Meant for small sets: a matrix of K classes takes 8 K^2 bytes.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.found: dict[str, np.ndarray] = {}

    def __call__(
        self, pair: Pair, image: np.ndarray, label: np.ndarray, prediction: np.ndarray
    ) -> None:
        K, ignore = len(self.vocabulary), self.vocabulary.ignore
        self.found[pair.id] = confusion(prediction, label, K, ignore=ignore)


@dataclass(frozen=True)
class Gain:
    """Points of a figure that one answer has more than another.

    low, high : hold 95 % of the resampled gains
    """

    gain: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.gain:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def gain(
    ours: PhotoCounts, theirs: PhotoCounts, figure: str, *, draws: int = 1000, seed: int = 0
) -> Gain:
    """Gain of `ours` in one of the `gzs_metrics.figures`, over the images that both have.

    Resampled images may lack a class: means are over the classes they do have.
    """
    unseen = ours.vocabulary.unseen_ids if ours.vocabulary.seen_ids else []
    ids = sorted(ours.found.keys() & theirs.found.keys())
    stacks = [np.stack([own.found[photo] for photo in ids]) for own in (ours, theirs)]
    rng = np.random.default_rng(seed)

    def difference(times: np.ndarray) -> float:
        mine, other = (figures(np.tensordot(times, stack, 1), unseen) for stack in stacks)
        return mine[figure] - other[figure]

    n = len(ids)
    drawn = [difference(np.bincount(rng.integers(n, size=n), minlength=n)) for _ in range(draws)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Gain(difference(np.ones(n, np.int64)), float(low), float(high))
