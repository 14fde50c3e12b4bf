"""From an eigenvector on the grid to the nodes of one object: the published single-object rules.

Each rule takes a grid and returns a (h, w) bool mask of one 4-connected region. Eigenvectors are
used with either sign.
"""

from __future__ import annotations

import cv2
import numpy as np

from data.errors import SettingError
from eigen.masks import largest_component

LOST_EXPANSION = 100
"""Nodes of lowest degree among which LOST looks for companions of its seed."""
MOST_CORNERS = 2
"""Corners of the image that an object may hold; with more, it is the background."""


def corners(mask: np.ndarray) -> int:
    """How many of the four corners of a (h, w) mask are set."""
    return int(mask[[0, 0, -1, -1], [0, -1, 0, -1]].sum())


def component_at(mask: np.ndarray, seed: int) -> np.ndarray:
    """The 4-connected component of a (h, w) bool mask that holds node `seed` (row-major).

    Empty where the seed is not in the mask.
    """
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    return mask & (labels == labels.flat[seed])


def fiedler_sign(vector: np.ndarray) -> np.ndarray:
    """Deep Spectral Methods: one sign of the Fiedler vector, without the corners of the image.

    Of the two sides the object is the one with fewer corners; if both have two, the smaller one.
    Its largest component is returned.

    Parameters
    ----------
    vector : ndarray, shape (h, w)

    References
    ----------
    Melas-Kyriazi et al., Deep Spectral Methods, CVPR 2022, section 3.3.
    """
    mask = vector > 0
    held = corners(mask)
    if held > MOST_CORNERS or (held == MOST_CORNERS and 2 * mask.sum() > mask.size):
        mask = ~mask
    return largest_component(mask)


def seed_component(vector: np.ndarray, *, at_most_corners: int | None = None) -> np.ndarray:
    """TokenCut: cut the Fiedler vector at its mean and keep the component of its largest entry.

    Parameters
    ----------
    vector : ndarray, shape (h, w)
        Nodes that take no part are NaN.
    at_most_corners : int, optional
        MaskCut: a side with more corners of the image is the background, and the component is that
        of the largest entry on the other side.

    References
    ----------
    Wang et al., CVPR 2022 (TokenCut), section 3.2; Wang et al., CVPR 2023 (CutLER), section 3.2.
    """
    vector = vector - np.nanmean(vector)
    if vector.flat[np.nanargmax(np.abs(vector))] < 0:
        vector = -vector
    if at_most_corners is not None and corners(vector > 0) > at_most_corners:
        vector = -vector
    seed = int(np.nanargmax(vector))
    return component_at(vector > 0, seed)


def seed_expansion(
    features: np.ndarray, grid: tuple[int, int], expansion: int = LOST_EXPANSION
) -> np.ndarray:
    """LOST: the node that resembles fewest others, expanded to what resembles it.

    Parameters
    ----------
    features : ndarray, shape (h*w, d), float32, unit rows
    grid : tuple of int
    expansion : int
        Nodes of lowest degree that may join the seed.

    Raises
    ------
    SettingError
        `expansion` below 1.

    References
    ----------
    Siméoni et al., Localizing objects with self-supervised transformers and no labels, BMVC 2021,
    section 3.2.
    """
    if expansion < 1:
        raise SettingError(f"expansion: expected 1 or more, found {expansion}")
    similarity = features @ features.T
    degree = np.count_nonzero(similarity >= 0, axis=1)
    order = np.argsort(degree, kind="stable")
    seed = int(order[0])
    candidates = order[:expansion]
    companions = candidates[similarity[seed, candidates] >= 0]
    mask = similarity[companions].sum(axis=0, dtype=np.float64) >= 0
    mask[seed] = True  # similar to itself, even after rounding
    return component_at(mask.reshape(grid), seed)
