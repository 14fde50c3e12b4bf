"""Is there an object at all? Contrast along its border and the gap in the spectrum behind it."""

from __future__ import annotations

import cv2
import numpy as np

JUST_NOTICEABLE = 2.3
"""CIELAB units: the smallest difference of two colours that people see (Mahy et al., 1994)."""


def is_flat(image: np.ndarray, grid: tuple[int, int]) -> bool:
    """Whether the cells of a grid differ in neither mean colour nor texture, as the eye sees them.

    Parameters
    ----------
    image : ndarray, shape (H, W, 3), uint8
    grid : tuple of int
        (h, w)
    """
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    cells = (grid[1], grid[0])
    mean = cv2.resize(lab, cells, interpolation=cv2.INTER_AREA)
    square = cv2.resize(lab[..., 0] ** 2, cells, interpolation=cv2.INTER_AREA)
    texture = np.sqrt(np.maximum(square - mean[..., 0] ** 2, 0))
    colours = mean.reshape(-1, 3)
    farthest = np.linalg.norm(colours - np.median(colours, axis=0), axis=1).max()
    return bool(max(farthest, np.ptp(texture)) < JUST_NOTICEABLE)


def contrast(features: np.ndarray, mask: np.ndarray) -> float:
    """How much less similar neighbours are across the boundary of a mask than within, 0 to 1.

    0: the border follows nothing in the features. 1: the two sides have nothing in common.

    Parameters
    ----------
    features : ndarray, shape (h*w, d), unit rows
    mask : ndarray, shape (h, w), bool
    """
    planes = features.reshape(*mask.shape, -1)
    near = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    across, within = [], []
    for first, second in (
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
    ):
        similarity = np.einsum("hwd,hwd->hw", planes[first], planes[second])
        border = mask[first] != mask[second]
        across.append(similarity[border])
        # Only the object and its surroundings: the sky beyond says nothing about this border.
        within.append(similarity[~border & near[first] & near[second]])
    if not sum(map(len, across)) or not sum(map(len, within)):
        return 0.0
    inside = float(np.concatenate(within).mean())
    if inside <= 0:
        return 0.0
    return float(np.clip(1 - np.concatenate(across).mean() / inside, 0, 1))


def spectral_gap(eigenvalues: np.ndarray) -> float:
    """Largest relative gap behind a non-constant eigenvector, 0 to 1: how clear the best cut is.

    Parameters
    ----------
    eigenvalues : ndarray, shape (K,), ascending, the constant vector's among them
    """
    if len(eigenvalues) < 3:
        return 0.0
    above = np.maximum(eigenvalues[2:], np.finfo(np.float64).tiny)
    return float(np.clip(np.diff(eigenvalues)[1:] / above, 0, 1).max())
