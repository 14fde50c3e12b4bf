"""The published "fusion": the better of the prediction and the eigen masks, judged by the truth.

It needs the label of the very image it scores, so it is an upper bound and no method. It is kept
apart from everything that predicts.

Liu et al., CVPR 2023, as released: foreground IoU with the ground truth decides, and on a tie the
prediction stays.
"""

from __future__ import annotations

import numpy as np

from eval.sazs.metrics import count


def choose(
    prediction: np.ndarray,
    masks: np.ndarray,
    truth: np.ndarray,
    void: np.ndarray,
    *,
    counting: str = "corrected",
) -> int:
    """Index of the mask with the highest foreground IoU with the truth, or -1 for the prediction.

    Parameters
    ----------
    prediction, truth, void : ndarray, shape (H, W), bool
    masks : ndarray, shape (K, H, W), bool
    counting : as in `eval.sazs.metrics.count`
    """

    def iou(mask: np.ndarray) -> float:
        inter, union = count(mask, truth, void, counting=counting)[:, 1]
        return inter / max(union, 1)

    if not len(masks):
        return -1
    scores = [iou(mask) for mask in masks]
    best = int(np.argmax(scores))
    return best if scores[best] > iou(prediction) else -1
