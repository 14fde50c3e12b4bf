"""The contract that every affinity W keeps, its check, and what affinities of any kind can do.

1. W is (n, n): an ndarray, a CSR array, or an operator with `shape`, `dtype` and `matmat`.
2. Symmetric, up to rounding of its type.
3. Non-negative and finite.
4. No zero row. An isolated node has no place in a normalised Laplacian, so it is refused and
   named; `with_self_loops` makes it a separate component. (The published pipeline sets its
   degree to 1, which leaves an eigenvalue of exactly 1; no graph built here has such a node.)

Nodes are the patches of a grid, row-major. float32 unless the caller brings float64.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias, runtime_checkable

import cv2
import numpy as np
import scipy.sparse as sp
from scipy.linalg import blas

from data.errors import GraphError

# float64 values that stay in a core's cache while they are used (1 MiB).
CACHED = 1 << 17
# Rows of a dense affinity read at a time where their entries are only added or compared.
ROWS_AT_ONCE = 256


@runtime_checkable
class AffinityOperator(Protocol):
    """An affinity known by its products only."""

    shape: tuple[int, int]
    dtype: np.dtype

    def matmat(self, vectors: np.ndarray) -> np.ndarray:
        """W @ vectors, (n, m), in the dtype of `vectors`."""


class TriangleAffinity:
    """A dense affinity kept as its upper triangle.

    Half the memory traffic of a full matrix, which is what bounds its products.

    Parameters
    ----------
    array : ndarray, shape (n, n), float32 or float64, C order
        Upper triangular: zeros below the diagonal (`numpy.triu` of a full one). Not copied.
    """

    def __init__(self, array: np.ndarray):
        self.array = np.ascontiguousarray(array)
        self.shape, self.dtype = array.shape, array.dtype

    def matmat(self, vectors: np.ndarray) -> np.ndarray:
        """W @ vectors, (n, m): in the dtype of W, or in float64 for float64 vectors."""
        if vectors.dtype != self.dtype:
            return self._widened_product(vectors)
        symv = blas.ssymv if self.dtype == np.float32 else blas.dsymv
        result = np.empty(vectors.shape, self.dtype, order="F")
        # GEMM with so thin a matrix was slower than a SYMV for each of up to four vectors, at every
        # size from 1,000 to 8,000 nodes. BLAS counts by columns: its lower triangle is this upper.
        for j in range(vectors.shape[1]):
            symv(1.0, self.array.T, vectors[:, j], y=result[:, j], overwrite_y=True, lower=1)
        return result

    def _widened_product(self, vectors: np.ndarray) -> np.ndarray:
        """The product in float64, widening as many rows of W as stay in the cache."""
        n = len(self.array)
        height = max(16, CACHED // n)
        vectors = np.asarray(vectors, np.float64)
        result = np.zeros(vectors.shape)
        for start in range(0, n, height):
            stop = min(start + height, n)
            rows = self.array[start:stop, start:].astype(np.float64)
            result[start:stop] += rows @ vectors[start:]
            np.fill_diagonal(rows, 0)
            result[start:] += rows.T @ vectors[start:stop]
        return result

    def clip(self) -> None:
        """Set negative entries to 0, in place."""
        for start in range(0, len(self.array), ROWS_AT_ONCE):
            rows = self.array[start : start + ROWS_AT_ONCE, start:]
            # OpenCV's loop took a quarter of the time of np.maximum(rows, 0, out=rows).
            cv2.threshold(rows, 0, 0, cv2.THRESH_TOZERO, dst=rows)

    def degrees(self) -> np.ndarray:
        """Row sums of W, (n,), added in float64."""
        result = -self.array.diagonal().astype(np.float64)  # it counts in both sums below
        for start in range(0, len(self.array), ROWS_AT_ONCE):
            rows = self.array[start : start + ROWS_AT_ONCE, start:]
            result[start : start + ROWS_AT_ONCE] += _sums(rows, axis=1)
            result[start:] += _sums(rows, axis=0)
        return result

    def add(self, other: sp.csr_array, weight: float) -> None:
        """Add weight * other, a symmetric sparse affinity, in place."""
        if not other.has_canonical_format:  # indexed addition counts a repeated entry once
            other = other.copy()
            other.sum_duplicates()
        entries = other.tocoo()
        upper = entries.row <= entries.col
        weights = np.asarray(weight * entries.data[upper], self.dtype)
        self.array[entries.row[upper], entries.col[upper]] += weights

    def toarray(self) -> np.ndarray:
        """The whole matrix, (n, n), exactly symmetric."""
        return self.array + np.triu(self.array, 1).T


def _sums(array: np.ndarray, *, axis: int) -> np.ndarray:
    """Sums along an axis, float64; NumPy's own would widen the array first."""
    return cv2.reduce(array, axis, cv2.REDUCE_SUM, dtype=cv2.CV_64F).ravel()


Affinity: TypeAlias = np.ndarray | sp.csr_array | AffinityOperator


def with_self_loops(W: sp.csr_array) -> sp.csr_array:
    """W with weight 1 on the diagonal of each node that has no edge."""
    isolated = np.asarray(W.sum(axis=1)).ravel() == 0
    return (W + sp.diags_array(isolated.astype(W.dtype))).tocsr()


def weighted_sum(W: Affinity, other: sp.csr_array, weight: float) -> Affinity:
    """W + weight * other; a dense W is changed in place and returned.

    Raises
    ------
    GraphError
        The shapes differ, or `weight` is negative or not finite.
    """
    if W.shape != other.shape:
        raise GraphError(f"affinities: expected equal shapes, found {W.shape} and {other.shape}")
    if not 0 <= weight < np.inf:
        raise GraphError(f"weight: expected a finite number, 0 or more, found {weight}")
    if isinstance(W, TriangleAffinity):
        W.add(other, weight)
        return W
    if isinstance(W, sp.csr_array):
        return (W + other * np.asarray(weight, other.dtype)).tocsr()
    if isinstance(W, np.ndarray):
        return W + other * np.asarray(weight, W.dtype)
    return SumAffinity(W, other, weight)


class SumAffinity:
    """operator + weight * sparse, never stored."""

    def __init__(self, operator: AffinityOperator, sparse: sp.csr_array, weight: float):
        self.operator, self.sparse = operator, (sparse * np.asarray(weight, sparse.dtype)).tocsr()
        self.shape, self.dtype = operator.shape, operator.dtype

    def matmat(self, vectors: np.ndarray) -> np.ndarray:
        """W @ vectors."""
        return self.operator.matmat(vectors) + self.sparse @ vectors


def degrees(W: Affinity) -> np.ndarray:
    """Row sums of W, (n,), added in float64."""
    if isinstance(W, np.ndarray):
        return W.sum(axis=1, dtype=np.float64)
    if isinstance(W, TriangleAffinity):
        return W.degrees()
    ones = np.ones((W.shape[0], 1))
    # Not W.sum(): SciPy adds the entries of a float32 matrix in float32.
    return (W @ ones if isinstance(W, sp.csr_array) else W.matmat(ones))[:, 0]


def check(W: Affinity, degree: np.ndarray) -> None:
    """Check W against the contract of this module, in a few passes over its entries.

    Symmetry is tested by the product with a random vector from either side. An operator is trusted
    to be symmetric and non-negative.

    Raises
    ------
    GraphError
        Names the first bad node.
    """
    if len(W.shape) != 2 or W.shape[0] != W.shape[1] or W.shape[0] == 0:
        raise GraphError(f"affinity: expected (n, n) with n >= 1, found {W.shape}")
    _refuse(~np.isfinite(degree), "has weights that are not finite", "look for NaN in its features")
    if isinstance(W, np.ndarray | sp.csr_array):
        entries: np.ndarray = W.data if isinstance(W, sp.csr_array) else W
        if entries.size and entries.min() < 0:
            negative = np.bincount(np.nonzero(W < 0)[0], minlength=W.shape[0]) > 0
            _refuse(negative, "has negative weights", "set similarities below 0 to 0")
        probe = np.random.default_rng(0).uniform(1, 2, (W.shape[0],)).astype(W.dtype)
        difference = np.abs(W @ probe - W.T @ probe)
        allowed = 100 * np.finfo(W.dtype).eps * (degree + degree.max() * 1e-3)
        _refuse(difference > allowed, "has asymmetric weights", "use (W + W.T) / 2")
    _refuse(
        degree <= 0, "is isolated", "give it a self-loop (eigen.graphs.affinity.with_self_loops)"
    )


def _refuse(bad: np.ndarray, what: str, remedy: str) -> None:
    if bad.any():
        raise GraphError(
            f"affinity: node {int(np.argmax(bad))} {what} ({int(bad.sum())} such nodes); {remedy}"
        )
