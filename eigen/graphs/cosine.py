"""Affinities of features: cosine similarity with negative values set to 0, W = max(X X^T, 0).

Three representations: `dense` stores a triangle of W, `nearest` the largest entries of each row,
`CosineAffinity` only X. X is (n, d) with rows of length 1, so the diagonal of W is 1 and no
row is empty.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import scipy.sparse as sp
from scipy.linalg import blas, get_blas_funcs
from tqdm import tqdm

from data.errors import GraphError
from eigen.graphs.affinity import TriangleAffinity

UNIT_TOLERANCE = 1e-3
# Similarities computed at a time where whole rows are needed (64 MiB).
BLOCK_ENTRIES = 1 << 24
# OpenBLAS 0.3.30 crashed in SYRK on two threads from about 27,900 nodes; 24,000 take 2.3 GB.
MOST_STORED = 24_000
# Side of a tile of similarities that are used once and discarded: it stays in the cache.
SIDE = 1 << 10
# From this many nodes a pass takes minutes on a CPU and shows a progress bar.
LONG = 100_000


def check_features(features: np.ndarray) -> None:
    """Raise `GraphError` unless `features` is (n, d) with finite rows of length 1."""
    if features.ndim != 2 or 0 in features.shape:
        raise GraphError(f"features: expected (n, d) with n, d >= 1, found {features.shape}")
    length = np.sqrt(np.einsum("nd,nd->n", features, features))
    bad = ~(np.abs(length - 1) <= UNIT_TOLERANCE)  # negated, so that NaN is bad
    if bad.any():
        node = int(np.argmax(bad))
        raise GraphError(
            f"features of node {node}: expected unit length, found {length[node]:.6g}; "
            "divide each row by its norm, and leave out or quarantine rows that have none"
        )


def dense(features: np.ndarray, *, clip: bool = True) -> TriangleAffinity:
    """max(X X^T, 0), the affinity of the published eigenvectors.

    Parameters
    ----------
    features : ndarray, shape (n, d), float32, unit rows
    clip : bool
        False keeps negative similarities; the result is then no valid affinity.

    Returns
    -------
    TriangleAffinity, shape (n, n), float32

    Raises
    ------
    GraphError
        As `check_features`, or more nodes than `MOST_STORED`.

    References
    ----------
    Melas-Kyriazi et al., Deep Spectral Methods, CVPR 2022, section 3.2.
    """
    check_features(features)
    n = len(features)
    if n > MOST_STORED:
        raise GraphError(
            f"features: expected at most {MOST_STORED} nodes for a stored matrix, found {n}; use "
            "CosineAffinity, which computes its products from the features"
        )
    W = np.zeros((n, n), np.float32)
    # BLAS is column-major: its lower triangle is the upper one in row-major order.
    blas.ssyrk(1.0, features.T, trans=1, lower=1, c=W.T, overwrite_c=True)
    affinity = TriangleAffinity(W)
    if clip:
        affinity.clip()
    return affinity


def nearest(features: np.ndarray, neighbours: int) -> sp.csr_array:
    """The `neighbours` largest entries of each row of max(X X^T, 0), symmetrised by maximum.

    Exact: all n^2 similarities are computed, a block of rows at a time. The node itself is one of
    its neighbours; ties are broken by index. Zeros are not stored.

    Parameters
    ----------
    features : ndarray, shape (n, d), float32, unit rows
    neighbours : int, >= 2
        At least the node and one other; n or more gives every entry.

    Returns
    -------
    csr_array, shape (n, n), float32, sorted indices

    Raises
    ------
    GraphError
        As `check_features`, or fewer than 2 neighbours.
    """
    check_features(features)
    if neighbours < 2:
        raise GraphError(f"neighbours: expected 2 or more, the node among them, found {neighbours}")
    n = len(features)
    k = min(neighbours, n)
    block = max(1, BLOCK_ENTRIES // n)
    columns, values = [], []
    for start in range(0, n, block):
        similarity = features[start : start + block] @ features.T
        chosen = _largest(similarity, k)
        columns.append(chosen)
        values.append(np.take_along_axis(similarity, chosen, axis=1))
    data = np.maximum(np.concatenate(values), 0).ravel()
    indices = np.concatenate(columns).ravel()
    W = sp.csr_array((data, indices, np.arange(0, n * k + 1, k)), shape=(n, n))
    W.eliminate_zeros()
    W = W.maximum(W.T).tocsr()
    W.sort_indices()
    return W


def _largest(rows: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k largest entries of each row, larger first, ties by column."""
    count, n = rows.shape
    width = max(1, min(64, n // (4 * k)))
    # Each of the k largest group maxima is an entry of the row, so the k-th of them is not above
    # the row's k-th largest entry: only what reaches it needs to be sorted.
    whole = n - n % width
    maxima = rows[:, :whole].reshape(count, -1, width).max(axis=2)
    bound = np.partition(maxima, -k, axis=1)[:, -k]
    row, column = np.nonzero(rows >= bound[:, None])
    order = np.lexsort((column, -rows[row, column], row))
    first = np.searchsorted(row, np.arange(count))
    return column[order][first[:, None] + np.arange(k)]


def _similarities(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """max(A B^T, 0), C order, by the BLAS that keeps its threads, see `eigen.threads`."""
    (gemm,) = get_blas_funcs(("gemm",), (a,))
    similarity = gemm(1.0, b.T, a.T, trans_a=1).T
    return np.maximum(similarity, 0, out=similarity)


def product(weights: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """weights @ vectors, of one dtype, `vectors` in C order, by the BLAS of `_similarities`."""
    (gemm,) = get_blas_funcs(("gemm",), (weights, vectors))
    # BLAS is column-major: it gets the transposes, which are contiguous in that order.
    if weights.flags.c_contiguous:
        return gemm(1.0, vectors.T, weights.T).T
    return gemm(1.0, vectors.T, weights, trans_b=1).T


class CosineAffinity:
    """max(X X^T, 0) that is never stored: each product recomputes it, a tile at a time.

    A product with m vectors takes n^2 (d + 2 m) operations, so many vectors cost little more than
    one. Memory is one tile of similarities.
    """

    def __init__(self, features: np.ndarray):
        check_features(features)
        self.features = np.ascontiguousarray(features)
        self.shape = (len(features), len(features))
        self.dtype = self.features.dtype

    def matmat(self, vectors: np.ndarray) -> np.ndarray:
        """W @ vectors; products in the dtype of `vectors`, similarities in that of the features.

        Tiles are added in float64.
        """
        vectors = np.ascontiguousarray(vectors)
        result = np.zeros(vectors.shape)
        for rows, columns in self._tiles():
            similarity = _similarities(self.features[rows], self.features[columns])
            similarity = similarity.astype(vectors.dtype, copy=False)
            result[rows] += product(similarity, vectors[columns])
            if columns != rows:  # the transposed tile
                result[columns] += product(similarity.T, vectors[rows])
        return result.astype(vectors.dtype, copy=False)

    def _tiles(self) -> Iterable[tuple[slice, slice]]:
        """Pairs of slices that cover the upper triangle; with a progress bar for long passes."""
        n = len(self.features)
        slices = [slice(start, start + SIDE) for start in range(0, n, SIDE)]
        pairs = itertools.combinations_with_replacement(slices, 2)
        total = len(slices) * (len(slices) + 1) // 2
        disable = True if n < LONG else None  # None: on where stderr is a terminal
        return tqdm(pairs, f"pass over {n} nodes", total, unit="tile", leave=False, disable=disable)

    def columns(self, chosen: np.ndarray) -> Iterator[np.ndarray]:
        """The chosen columns of W, in blocks of rows."""
        columns = self.features[chosen]
        rows = max(1, BLOCK_ENTRIES // len(chosen))
        for start in range(0, len(self.features), rows):
            yield _similarities(self.features[start : start + rows], columns)
