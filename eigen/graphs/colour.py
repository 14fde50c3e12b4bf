"""Colour affinities on the node grid, as Deep Spectral Methods adds them to the features'.

Contract: colours are (h, w, 3) floats from 0 to 1; an affinity is a symmetric (h*w, h*w) CSR matrix
of float32, non-negative, with a positive diagonal, so no row is empty. Nodes are row-major.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import sparse
from scipy.spatial import cKDTree

from eigen.threads import blas_threads


def resize_for_grid(image: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Colours of the nodes: the whole image resized to the grid by Pillow's bilinear filter.

    Parameters
    ----------
    image : ndarray, shape (H, W, 3), uint8
    grid : tuple of int
        (h, w).

    Returns
    -------
    ndarray, shape (h, w, 3), float64, multiples of 1/255 from 0 to 1
    """
    small = Image.fromarray(image).resize((grid[1], grid[0]), Image.Resampling.BILINEAR)
    return np.asarray(small) / 255


def knn_affinity(
    colours: np.ndarray,
    *,
    neighbours: tuple[int, ...] = (20, 10),
    position_weight: tuple[float, ...] = (2.0, 0.1),
) -> sparse.csr_array:
    """Count of nearest-neighbour relations in colour and position, both ways.

    After KNN matting (Chen, Li and Tang, CVPR 2012): for each pair (k, a) every node enters its k
    nearest nodes by (r, g, b, a x, a y), itself first, with x and y from 0 to 1 over the grid.
    A relation counts 1 each way, so the two published searches give entries of up to 4.

    Parameters
    ----------
    colours : ndarray, shape (h, w, 3), float, 0 to 1
    neighbours : tuple of int
        k of each search; fewer where the grid has fewer nodes.
    position_weight : tuple of float, same length
        a of each search; larger keeps neighbours closer in the image.

    Returns
    -------
    csr_array, shape (h*w, h*w), float32
    """
    height, width = colours.shape[:2]
    n = height * width
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    columns = []
    for k, weight in zip(neighbours, position_weight, strict=True):
        points = np.dstack([colours, weight * x, weight * y]).reshape(n, 5)
        # Published distances are between float32 points: their rounding decides most ties.
        columns.append(nearest(points.astype(np.float32), k))
    column = np.concatenate(columns, axis=1).astype(np.int32)
    starts = np.arange(0, column.size + 1, column.shape[1], dtype=np.int32)
    ones = np.ones(column.size, np.float32)
    counts = sparse.csr_array((ones, column.ravel(), starts), shape=(n, n))
    counts.sum_duplicates()
    return counts + counts.T.tocsr()


def nearest(points: np.ndarray, k: int) -> np.ndarray:
    """Indices of the k points nearest to each point, itself included, ties by index.

    Parameters
    ----------
    points : ndarray, shape (n, m), float
    k : int

    Returns
    -------
    ndarray, shape (n, min(k, n)), int64
    """
    n = len(points)
    k = min(k, n)
    tree = cKDTree(points)
    neighbours = np.empty((n, k), np.int64)
    unsettled, count = np.arange(n), k
    while len(unsettled):
        # One more than k shows whether it ties with the k-th; then twice as many each time.
        count = min(k + 1 if count == k else 2 * count, n)
        distance, index = _query(tree, points[unsettled], count)
        tied = (distance[:, 1:] == distance[:, :-1]).any(axis=1)
        order = np.lexsort((index[tied], distance[tied]), axis=1)
        index[tied] = np.take_along_axis(index[tied], order, axis=1)
        neighbours[unsettled] = index[:, :k]
        unsettled = unsettled[(distance[:, -1] == distance[:, k - 1]) & (count < n)]
    return neighbours


def _query(tree: cKDTree, points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices of the k nearest, (n, k) each."""
    distance, index = tree.query(points, k, workers=blas_threads())
    return distance.reshape(-1, k), index.reshape(-1, k)


def random_walk_affinity(colours: np.ndarray, *, sharpness: float = 900.0) -> sparse.csr_array:
    """Random walk weights exp(-sharpness |difference of colours|^2) over the 3x3 cells around each.

    Grady et al., "Random walks for interactive alpha-matting", VIIP 2005, as pymatting computes it:
    the cell itself counts, positions outside the image are moved onto its border and repeats are
    summed, so the diagonal is 1 inside, 2 on the border and 4 in the corners.

    Parameters
    ----------
    colours : ndarray, shape (h, w, 3), float, 0 to 1
    sharpness : float
        Inverse squared width of the colour kernel; 900 is published.

    Returns
    -------
    csr_array, shape (h*w, h*w), float32
    """
    height, width = colours.shape[:2]
    n = height * width
    flat = colours.reshape(n, 3)
    y, x = (at.ravel() for at in np.indices((height, width)))
    rows, columns = [], []
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            neighbour_y = np.clip(y + down, 0, height - 1)
            neighbour_x = np.clip(x + right, 0, width - 1)
            rows.append(np.arange(n))
            columns.append(neighbour_y * width + neighbour_x)
    row, column = np.concatenate(rows), np.concatenate(columns)
    weights = np.exp(-sharpness * ((flat[row] - flat[column]) ** 2).sum(1)).astype(np.float32)
    return sparse.csr_array((weights, (row, column)), shape=(n, n))
