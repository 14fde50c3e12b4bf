"""From K eigenvectors to k groups of nodes, three ways, all deterministic.

The eigenvectors of a graph of k clear groups are a rotation of their indicator vectors. Each way
here returns the share (n, k) of every node in every group, so that shares, not labels, are brought
to pixels; the label of a node is its largest share.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from data.errors import SettingError
from eigen.segment_spec import METHODS

MOST_ITERATIONS = 100
RESTARTS = 10


def discretise(vectors: np.ndarray, method: str = "rotation", *, seed: int = 0) -> np.ndarray:
    """Shares of nodes in as many groups as there are vectors.

    Parameters
    ----------
    vectors : ndarray, shape (n, k)
        The first k eigenvectors, the constant one among them.
    method : {"rotation", "cluster_qr", "kmeans"}
        Yu & Shi's alternating rotation, the pivoted QR of Damle et al., or k-means on unit rows.
    seed : int
        Of k-means; the others draw nothing.

    Returns
    -------
    ndarray, shape (n, k), float64
        Larger is more; comparable within a row.

    Raises
    ------
    SettingError
        Unknown method, or fewer nodes than groups.
    """
    if method not in METHODS:
        raise SettingError(f"method: expected one of {', '.join(METHODS)}, found {method!r}")
    n, k = vectors.shape
    if k > n:
        raise SettingError(f"k: {k} segments of {n} nodes; ask for fewer, or use a finer grid")
    rows = unit_rows(vectors)
    if method == "kmeans":
        return _kmeans(rows, seed)
    rotation = qr_rotation(vectors)
    if method == "cluster_qr":
        return np.abs(rows @ rotation)
    return _rotated(rows, rotation)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1, float64; a row of zeros stays."""
    rows = np.asarray(vectors, np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


def qr_rotation(vectors: np.ndarray) -> np.ndarray:
    """The rotation (k, k) that brings the k most independent rows nearest to the axes.

    References
    ----------
    Damle, Minden & Ying, Simple, direct and efficient multi-way spectral clustering, Information
    and Inference 8(1), 2019, algorithm 1.
    """
    rows = np.asarray(vectors, np.float64)
    k = rows.shape[1]
    _, _, pivots = scipy.linalg.qr(rows.T, mode="economic", pivoting=True, check_finite=False)
    left, _, right = np.linalg.svd(rows[pivots[:k]].T)
    return left @ right


def _rotated(rows: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Shares by the rotation that is nearest to some partition, found by turns.

    The published start is a random row and those most orthogonal to it; the pivots of QR are the
    same idea without the draw.

    References
    ----------
    Yu & Shi, Multiclass spectral clustering, ICCV 2003, section 3.
    """
    n, k = rows.shape
    nearness = 0.0
    for _ in range(MOST_ITERATIONS):
        labels = np.argmax(rows @ rotation, axis=1)
        sums = np.zeros((k, k))
        np.add.at(sums, labels, rows)
        left, singular, right = np.linalg.svd(sums)
        if singular.sum() - nearness <= n * np.finfo(np.float64).eps:
            break
        nearness = singular.sum()
        rotation = (left @ right).T
    return rows @ rotation


def _kmeans(rows: np.ndarray, seed: int) -> np.ndarray:
    """Minus the squared distance to each centre."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    k = rows.shape[1]
    groups = min(k, len(np.unique(rows, axis=0)))
    # One thread: sums in another order could move a node that lies between two centres.
    with threadpool_limits(1):
        centres = KMeans(groups, n_init=RESTARTS, random_state=seed).fit(rows).cluster_centers_
    shares = np.full(rows.shape, -np.inf)
    shares[:, :groups] = -((rows[:, None] - centres) ** 2).sum(axis=-1)
    return shares
