"""From a smoothed probability to a mask: where to cut.

| cut | the mask |
|---|---|
| `half` | where the map is above one half |
| `area` | as many pixels as the network took, those of the largest values |
| `pieces` | the same within the surroundings of each connected piece of the network's mask |
| `mass` | as many pixels as the network's probabilities sum to |
| `mean` | as many pixels as the mean of `half` and `area` |

A network is unsure of classes that it was not trained on; smoothing lowers its probabilities at the
border of their objects, and one half then shrinks them. Shape should move, size should stay.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from data.errors import SettingError


def probability(margin: np.ndarray) -> np.ndarray:
    """Log-odds to probability, float32."""
    return 1 / (1 + np.exp(-np.clip(margin, -30, 30)))


def cut(margin: np.ndarray, smooth: np.ndarray, rule: str) -> np.ndarray:
    """The mask of a smoothed map.

    Parameters
    ----------
    margin : ndarray, (H, W), float32
        The network's log-odds; above 0 is its mask.
    smooth : ndarray, (H, W), float
        What smoothing made of its probability.
    rule : one of `CUTS`

    Returns
    -------
    ndarray, (H, W), bool

    Raises
    ------
    SettingError
        Unknown rule.
    """
    if rule not in CUTS:
        raise SettingError(f"cut: expected one of {', '.join(CUTS)}, found {rule!r}")
    return CUTS[rule](margin, smooth)


def _half(margin: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    return smooth > 0.5


def _area(margin: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    return _largest(margin, smooth, int(np.count_nonzero(margin > 0)))


def _mass(margin: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    return _largest(margin, smooth, round(float(probability(margin).sum(dtype=np.float64))))


def _mean(margin: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    areas = int(np.count_nonzero(margin > 0)), int(np.count_nonzero(smooth > 0.5))
    return _largest(margin, smooth, round(sum(areas) / 2))


def _pieces(margin: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    mask = margin > 0
    if mask.all() or not mask.any():
        return mask
    _, labels = cv2.distanceTransformWithLabels(
        (~mask).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_CCOMP
    )
    found = np.zeros_like(mask)
    for label in np.unique(labels):
        around = labels == label
        area = int(np.count_nonzero(mask & around))
        found[around] = _largest(margin[around], smooth[around], area)
    return found


def _largest(margin: np.ndarray, smooth: np.ndarray, area: int) -> np.ndarray:
    """The `area` largest values; among equals the network's own order decides."""
    if area <= 0 or area >= smooth.size or np.ptp(smooth) == 0:
        return margin > 0
    threshold = np.partition(smooth, smooth.size - area, axis=None)[smooth.size - area]
    mask = smooth > threshold
    equal = np.flatnonzero(smooth == threshold)
    order = np.argsort(-margin.ravel()[equal], kind="stable")
    mask.ravel()[equal[order[: area - np.count_nonzero(mask)]]] = True
    return mask


CUTS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "half": _half,
    "area": _area,
    "pieces": _pieces,
    "mass": _mass,
    "mean": _mean,
}
