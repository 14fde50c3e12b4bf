"""Objects as what a random walk is slow to reach from the frame of the image.

The eigenvectors, each divided by the root of its eigenvalue, place the nodes so that their squared
distance is the time a random walk takes from one to the other and back (commute time). Photographs
show their subject away from the border: nodes far from all of the frame's are objects, whatever
share of the image they take, and one decomposition serves any number of them.
"""

from __future__ import annotations

import numpy as np

from eigen.masks import otsu_threshold
from eigen.pairs import Eigenpairs

# Eigenvalues below this belong to separate components: the walk never arrives.
LEAST_EIGENVALUE = 1e-6
# The nearest share of the frame: a subject may touch the border, a single node of it is chance.
NEAREST = 0.1


def embedding(pairs: Eigenpairs) -> np.ndarray:
    """Commute-time coordinates of the nodes, (n, K) float64, the constant vector among them.

    References
    ----------
    Qiu & Hancock, Clustering and embedding using commute times, IEEE PAMI 29(11), 2007, section 3.
    """
    root = np.sqrt(np.maximum(pairs.eigenvalues, LEAST_EIGENVALUE))
    informative = pairs.eigenvalues > LEAST_EIGENVALUE
    vectors = pairs.vectors.reshape(pairs.k, -1).astype(np.float64)
    return (vectors[informative] / root[informative, None]).T


def frame(grid: tuple[int, int]) -> np.ndarray:
    """The nodes on the border of a grid, (h, w) bool."""
    mask = np.ones(grid, bool)
    mask[1:-1, 1:-1] = False
    return mask


def object_share(pairs: Eigenpairs, labels: np.ndarray, count: int) -> np.ndarray:
    """Share of each segment's nodes that are far from the frame, (count,) float32.

    Far is what Otsu's threshold of `distance_to_frame` leaves; 0 for a segment without nodes.

    Parameters
    ----------
    pairs : Eigenpairs
    labels : ndarray, shape (h, w)
        Segment of each node, below `count`.
    """
    distance = distance_to_frame(pairs)
    far = distance > otsu_threshold(distance)
    nodes = np.bincount(labels.ravel(), minlength=count)
    return (np.bincount(labels[far], minlength=count) / np.maximum(nodes, 1)).astype(np.float32)


def distance_to_frame(pairs: Eigenpairs, nearest: float = NEAREST) -> np.ndarray:
    """Root mean commute time of each node to the nearest part of the frame, (h, w) float64.

    Parameters
    ----------
    pairs : Eigenpairs
    nearest : float, 0 to 1
        Share of the frame's nodes, the nearest ones, over which the mean is taken.
    """
    points = embedding(pairs)
    border = points[frame(pairs.grid).ravel()]
    length = np.einsum("nk,nk->n", points, points)
    border_length = np.einsum("mk,mk->m", border, border)
    squared = length[:, None] + border_length - 2 * points @ border.T
    count = max(1, round(nearest * len(border)))
    close = np.partition(squared, count - 1, axis=1)[:, :count]
    return np.sqrt(np.maximum(close, 0).mean(axis=1)).reshape(pairs.grid)
