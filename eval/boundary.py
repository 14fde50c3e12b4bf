"""How well the outline of a predicted mask lies on the outline of the truth.

Outlines are the pixels of a mask next to something else; the frame of the image is no outline. A
pixel of one outline is matched if the other outline passes within the tolerance.

Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

TOLERANCE = 0.0075  # of the image diagonal, as for BSDS


def outline(mask: np.ndarray) -> np.ndarray:
    """Pixels of a (H, W) bool mask with a 4-neighbour outside it."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inner = cv2.erode(mask.astype(np.uint8), cross, borderType=cv2.BORDER_REPLICATE)
    return mask & (inner == 0)


def matches(
    prediction: np.ndarray, truth: np.ndarray, void: np.ndarray, *, tolerance: float = TOLERANCE
) -> np.ndarray:
    """Matched and all outline pixels of prediction and truth.

    Outline pixels of the prediction that lie on void pixels and match nothing do not count.

    Parameters
    ----------
    prediction, truth, void : ndarray, shape (H, W), bool
    tolerance : float
        Share of the image diagonal.

    Returns
    -------
    ndarray, shape (4,), int64
        Matched predicted, predicted, matched true, true.
    """
    return matcher(truth, void, tolerance=tolerance)(prediction)


def matcher(
    truth: np.ndarray, void: np.ndarray, *, tolerance: float = TOLERANCE
) -> Callable[[np.ndarray], np.ndarray]:
    """`matches` against one truth, for many predictions."""
    reach = max(1.0, tolerance * float(np.hypot(*truth.shape)))
    true = outline(truth)
    near_true = _distance_to(true) <= reach

    def count(prediction: np.ndarray) -> np.ndarray:
        predicted = outline(prediction)
        found = predicted & near_true
        counted = predicted & (found | ~void)
        met = true & (_distance_to(predicted) <= reach)
        return np.array([np.count_nonzero(x) for x in (found, counted, met, true)], np.int64)

    return count


def _distance_to(pixels: np.ndarray) -> np.ndarray:
    if not pixels.any():
        return np.full(pixels.shape, np.inf, np.float32)
    return cv2.distanceTransform((~pixels).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def f_measure(counts: np.ndarray) -> float:
    """Harmonic mean of precision and recall from summed `matches`; 0 without any outline."""
    precision = counts[0] / max(counts[1], 1)
    recall = counts[2] / max(counts[3], 1)
    return float(2 * precision * recall / max(precision + recall, 1e-12))
