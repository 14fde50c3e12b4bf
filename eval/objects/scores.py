"""How well objects were found: CorLoc, first-object IoU, and the measures of saliency sets.

An image without any object in the results is a miss: it counts with IoU 0, and everything is
background.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from data.trees.object_sets import Truth

CORLOC_IOU = 0.5
BETA_SQUARED = 0.3
"""Precision counts more than recall (Achanta et al., CVPR 2009)."""
THRESHOLDS = np.linspace(0, 1, 101)
RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class Found:
    """An object in the results: box (x, y, width, height), mask (H, W) bool, score."""

    box: tuple[float, ...]
    mask: np.ndarray
    score: float


def box_iou(box: tuple[float, ...] | np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU of one box (x, y, width, height) with each of (m, 4) boxes, (m,)."""
    x, y, width, height = box
    right, bottom = boxes[:, 0] + boxes[:, 2], boxes[:, 1] + boxes[:, 3]
    across = np.minimum(x + width, right) - np.maximum(x, boxes[:, 0])
    down = np.minimum(y + height, bottom) - np.maximum(y, boxes[:, 1])
    common = np.clip(across, 0, None) * np.clip(down, 0, None)
    return common / (width * height + boxes[:, 2] * boxes[:, 3] - common)


def mask_iou(mask: np.ndarray, other: np.ndarray) -> float:
    """IoU of two (H, W) bool masks; 1 where both are empty."""
    union = np.count_nonzero(mask | other)
    return np.count_nonzero(mask & other) / union if union else 1.0


@dataclass
class ObjectScores:
    """Scores of a data set, image by image; `add` each, then `summary`."""

    corloc: list[float] = field(default_factory=list)
    first_iou: list[float] = field(default_factory=list)
    iou: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    precision: list[np.ndarray] = field(default_factory=list)
    recall: list[np.ndarray] = field(default_factory=list)
    without: int = 0

    def add(self, found: list[Found], truth: Truth) -> None:
        """Count one image in; the first object is the one of highest score, the earlier of equal.

        Images without true objects say nothing about localisation and are left out.
        """
        if not len(truth.boxes):
            return
        self.without += not found
        first = max(found, key=lambda one: one.score) if found else None
        best = box_iou(first.box, truth.boxes).max() if first else 0.0
        self.corloc.append(float(best >= CORLOC_IOU))
        if len(truth.masks):
            overlaps = [mask_iou(first.mask, mask) for mask in truth.masks] if first else [0.0]
            self.first_iou.append(max(overlaps))
            self._add_foreground(found, np.logical_or.reduce(truth.masks))

    def _add_foreground(self, found: list[Found], target: np.ndarray) -> None:
        saliency = np.zeros(target.shape)
        for one in found:
            saliency[one.mask] = np.maximum(saliency[one.mask], one.score)
        foreground = saliency > 0
        self.iou.append(mask_iou(foreground, target))
        self.accuracy.append(float(np.mean(foreground == target)))
        true = np.histogram(saliency[foreground & target], THRESHOLDS)[0]
        all_ = np.histogram(saliency[foreground], THRESHOLDS)[0]
        hits, claimed = true[::-1].cumsum()[::-1], all_[::-1].cumsum()[::-1]
        self.precision.append(np.where(claimed > 0, hits / np.maximum(claimed, 1), 0))
        self.recall.append(hits / max(1, target.sum()))

    def summary(self) -> dict[str, float]:
        """Means over images; `max_f` at the one threshold that is best for the whole set."""
        result = {"images": float(len(self.corloc)), "without_object": float(self.without)}
        for name in ("corloc", "first_iou", "iou", "accuracy"):
            values = getattr(self, name)
            if values:
                result[name] = float(np.mean(values))
        if self.precision:
            p, r = np.mean(self.precision, axis=0), np.mean(self.recall, axis=0)
            f = (1 + BETA_SQUARED) * p * r / np.maximum(BETA_SQUARED * p + r, 1e-12)
            result["max_f"] = float(f.max())
        return result

    def interval(self, name: str, *, seed: int = 0) -> tuple[float, float]:
        """95 % interval of the mean of one of the lists, by resampling images."""
        return bootstrap_mean(np.array(getattr(self, name)), seed=seed)


def bootstrap_mean(values: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean of (n,) values over `RESAMPLES` resamples."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)
