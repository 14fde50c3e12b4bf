"""The graphs that object discovery cuts: thresholded similarities, and what is left of a graph."""

from __future__ import annotations

import numpy as np

from data.errors import SettingError
from eigen.graphs import cosine
from eigen.graphs.affinity import ROWS_AT_ONCE, TriangleAffinity

FLOOR = 1e-5
"""Weight of the pairs below the threshold; it keeps the graph connected."""


def thresholded(features: np.ndarray, threshold: float, floor: float = FLOOR) -> TriangleAffinity:
    """1 where the cosine similarity of two nodes reaches `threshold`, `floor` elsewhere.

    Parameters
    ----------
    features : ndarray, shape (n, d), float32, unit rows
    threshold : float, -1 to 1
        0.2 in TokenCut, 0.15 in MaskCut.
    floor : float, more than 0

    Returns
    -------
    TriangleAffinity, shape (n, n), float32

    Raises
    ------
    SettingError
        `threshold` or `floor` out of range.
    GraphError
        As `eigen.graphs.cosine.dense`.

    References
    ----------
    Wang et al., Self-supervised transformers for unsupervised object discovery using normalized
    cut, CVPR 2022, equation 6.
    """
    if not -1 <= threshold <= 1:
        raise SettingError(f"threshold: expected a cosine from -1 to 1, found {threshold}")
    if not 0 < floor <= 1:
        raise SettingError(f"floor: expected more than 0 and at most 1, found {floor}")
    # Clipping at 0 would hide which similarities reach a negative threshold.
    similarity = cosine.dense(features, clip=False)
    for start in range(0, len(features), ROWS_AT_ONCE):
        rows = similarity.array[start : start + ROWS_AT_ONCE, start:]
        np.copyto(rows, np.triu(np.where(rows >= threshold, np.float32(1), np.float32(floor))))
    return similarity


def restricted(W: TriangleAffinity, nodes: np.ndarray) -> TriangleAffinity:
    """The affinity among some nodes, (m,) ascending indices, as a copy."""
    return TriangleAffinity(W.array[np.ix_(nodes, nodes)])
