"""What ZegFormer reports of label maps: IoU and accuracy over all, seen and unseen classes.

Counts are confusion matrices (K + 1, K + 1) int64: row the predicted, column the labelled class,
the last of each for pixels without a label. Matrices of parts of a data set add up. All figures are
in percent, and NaN where a class has no labelled pixel.

The published mIoU divides by the classes that are labelled or predicted, `mIoU_labelled` (the usual
definition) by those that are labelled. The published means over seen and over unseen classes are
NaN as soon as one member has no labelled pixel; `seen_IoU_labelled` and `unseen_IoU_labelled` leave
such members out, and say how many are left.

Ding et al., "Decoupling Zero-Shot Semantic Segmentation", CVPR 2022, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from data.errors import DatasetError


def confusion(
    prediction: np.ndarray, truth: np.ndarray, classes: int, *, ignore: int
) -> np.ndarray:
    """Count the pixels of one image.

    Parameters
    ----------
    prediction : (H, W) integers in [0, classes)
    truth : (H, W) uint8 or uint16, class ids or `ignore`
    classes : int
        K.

    Returns
    -------
    (K + 1, K + 1) int64

    Raises
    ------
    DatasetError
        Shapes differ, or a value is no class: the label is of another vocabulary.
    """
    if prediction.shape != truth.shape:
        raise DatasetError(f"prediction {prediction.shape} and label {truth.shape} differ in size")
    truth = np.where(truth == ignore, classes, truth.astype(np.int64))
    for what, found in (("prediction", int(prediction.max())), ("label", int(truth.max()))):
        if found > classes:
            raise DatasetError(
                f"{what}: value {found} is no class of a vocabulary of {classes} (ignore is "
                f"{ignore}); the label map belongs to another vocabulary"
            )
    counts = np.bincount(
        ((classes + 1) * prediction.astype(np.int64) + truth).ravel(), minlength=(classes + 1) ** 2
    )
    return counts.reshape(classes + 1, classes + 1)


def class_figures(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """IoU and accuracy of each class, (K,) float64 in percent."""
    hit, labelled, predicted = _areas(matrix)
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = np.where(labelled > 0, 100 * hit / (labelled + predicted - hit), np.nan)
        accuracy = np.where(labelled > 0, 100 * hit / labelled, np.nan)
    return iou, accuracy


def _areas(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    inner = matrix[:-1, :-1].astype(np.float64)
    return np.diag(inner), matrix[:, :-1][:-1].sum(0).astype(np.float64), inner.sum(1)


def figures(matrix: np.ndarray, unseen: Sequence[int] = ()) -> dict[str, float]:
    """The reported figures of a confusion matrix.

    Parameters
    ----------
    matrix : (K + 1, K + 1) int64
    unseen : class ids; without any, the seen and unseen figures are left out

    Returns
    -------
    mIoU, mIoU_labelled, fwIoU, mACC, pACC; with `unseen` also seen_IoU, unseen_IoU, hIoU (harmonic
    mean of the two), the three over labelled classes alone (`*_labelled`), and how many those are.
    """
    iou, accuracy = class_figures(matrix)
    hit, labelled, predicted = _areas(matrix)
    total = labelled.sum()
    found = {
        "mIoU": _ratio(np.nansum(iou), np.count_nonzero(labelled + predicted)),
        "mIoU_labelled": _ratio(np.nansum(iou), np.count_nonzero(labelled)),
        "fwIoU": _ratio(np.nansum(iou * labelled), total),
        "mACC": _ratio(np.nansum(accuracy), np.count_nonzero(labelled)),
        "pACC": _ratio(100 * hit.sum(), total),
    }
    if len(unseen) == 0:
        return found
    is_unseen = np.zeros(len(iou), bool)
    is_unseen[list(unseen)] = True
    parts = {"seen": iou[~is_unseen], "unseen": iou[is_unseen]}
    for name, part in parts.items():
        present = part[~np.isnan(part)]
        found[f"{name}_IoU"] = _ratio(part.sum(), len(part))
        found[f"{name}_IoU_labelled"] = _ratio(present.sum(), len(present))
        found[f"{name}_classes_labelled"] = float(len(present))
    found["hIoU"] = harmonic(found["seen_IoU"], found["unseen_IoU"])
    found["hIoU_labelled"] = harmonic(found["seen_IoU_labelled"], found["unseen_IoU_labelled"])
    return found


def harmonic(a: float, b: float) -> float:
    """Harmonic mean; 0 where both are 0."""
    return 2 * a * b / (a + b) if a + b != 0 else 0.0


def _ratio(a: Any, b: Any) -> float:
    return float(a / b) if b else float("nan")
