"""Counts and figures of two-way segmentation: one class against everything else.

Per image: intersection and union of prediction and truth, for the background (0) and the class (1).
Per class: sums of these over images, in int64. mIoU is the mean of the class IoUs of a fold, so
classes weigh the same and images of a class by their area. FB-IoU sums over the classes first and
averages background and foreground.

Three ways to count, differing in void pixels:

| counting | void pixels |
|---|---|
| `corrected` | count nowhere (Min et al., "Hypercorrelation Squeeze", ICCV 2021) |
| `reference_pascal` | left out of truth and intersection, but still in the predicted area |
| `reference_coco` | are background |
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from data.errors import SettingError
from eval import boundary

COUNTINGS = ("corrected", "reference_pascal", "reference_coco")


def count(
    prediction: np.ndarray, truth: np.ndarray, void: np.ndarray, *, counting: str = "corrected"
) -> np.ndarray:
    """Intersection and union of one image.

    Parameters
    ----------
    prediction, truth, void : ndarray, shape (H, W), bool
        Predicted class, true class, pixels without a label.
    counting : one of `COUNTINGS`

    Returns
    -------
    ndarray, shape (2, 2), int64
        Rows intersection and union, columns background and foreground.

    Raises
    ------
    SettingError
        Unknown counting, or shapes that differ.
    """
    if counting not in COUNTINGS:
        raise SettingError(f"counting {counting!r}: expected one of {', '.join(COUNTINGS)}")
    if not prediction.shape == truth.shape == void.shape:
        raise SettingError(
            f"prediction {prediction.shape}, truth {truth.shape} and void {void.shape} differ in "
            "shape; bring the prediction to the size of the label"
        )
    labelled = np.ones_like(void) if counting == "reference_coco" else ~void
    n = np.count_nonzero(labelled)
    true = truth & labelled
    n_true = np.count_nonzero(true)
    n_predicted = np.count_nonzero(prediction & labelled)
    inter = np.count_nonzero(prediction & true)
    inter_background = n - n_true - n_predicted + inter
    union, union_background = n_true + n_predicted - inter, n - inter
    if counting == "reference_pascal":
        n_void = void.size - n
        predicted_void = np.count_nonzero(prediction) - n_predicted
        union, union_background = union + predicted_void, union_background + n_void - predicted_void
    return np.array([[inter_background, inter], [union_background, union]], np.int64)


class Tally:
    """Counts summed per class; two tallies of parts of a data set add up to that of the whole.

    Attributes
    ----------
    counts : ndarray, shape (classes, 8), int64
        Intersection and union (background, foreground each), then the four boundary counts.
    images : ndarray, shape (classes,), int64
    """

    def __init__(self, classes: int) -> None:
        self.counts = np.zeros((classes, 8), np.int64)
        self.images = np.zeros(classes, np.int64)

    def add(self, class_id: int, areas: np.ndarray, boundaries: np.ndarray | None = None) -> None:
        """Add an image of class `class_id`: the results of `count` and of `boundary.matches`."""
        self.counts[class_id, :4] += areas.ravel()
        if boundaries is not None:
            self.counts[class_id, 4:] += boundaries
        self.images[class_id] += 1

    def class_iou(self, classes: Iterable[int]) -> np.ndarray:
        """Foreground IoU of each class, float64 in [0, 1]; 0 for a class without any pixel."""
        inter, union = self._areas(classes)
        return inter[:, 1] / np.maximum(union[:, 1], 1)

    def miou(self, classes: Iterable[int]) -> float:
        """Mean foreground IoU over the classes, in percent."""
        return float(100 * self.class_iou(classes).mean())

    def fb_iou(self, classes: Iterable[int]) -> float:
        """Mean of background and foreground IoU, summed over the classes first, in percent."""
        inter, union = self._areas(classes)
        return float(100 * np.mean(inter.sum(0) / np.maximum(union.sum(0), 1)))

    def boundary_f(self, classes: Iterable[int]) -> float:
        """Mean over the classes of the boundary F-measure, in percent."""
        return float(100 * np.mean([boundary.f_measure(self.counts[c, 4:]) for c in classes]))

    def _areas(self, classes: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
        chosen = self.counts[list(classes), :4].reshape(-1, 2, 2)
        return chosen[:, 0], chosen[:, 1]
