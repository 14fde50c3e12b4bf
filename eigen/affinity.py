"""Affinities of unit-length features, and the contract that every affinity W keeps.

1. W is (n, n): a dense ndarray, a CSR array, or an operator with `shape`, `dtype` and `matmat`.
2. Symmetric, up to rounding of its type.
3. Non-negative and finite.
4. No zero row. An isolated node has no place in a normalised Laplacian, so it is refused and
   named; `with_self_loops` makes it a component of its own. (The published pipeline sets its
   degree to 1, which leaves an eigenvalue of exactly 1; no graph built here has such a node.)

Nodes are the patches of a grid, row-major. float32 unless the caller brings float64.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import scipy.sparse as sp

UNIT_TOLERANCE = 1e-3
ROWS_IN_CACHE = 64


class AffinityError(ValueError):
    """Features or an affinity break the contract; names the first bad node."""


@runtime_checkable
class AffinityOperator(Protocol):
    """An affinity known by its products only."""

    shape: tuple[int, int]
    dtype: np.dtype

    def matmat(self, vectors: np.ndarray) -> np.ndarray:
        """W @ vectors, (n, m), in the dtype of `vectors`."""


Affinity = np.ndarray | sp.csr_array | AffinityOperator


def check_features(features: np.ndarray) -> None:
    """Raise `AffinityError` unless `features` is (n, d) with finite rows of length 1."""
    if features.ndim != 2 or 0 in features.shape:
        raise AffinityError(f"features: expected (n, d) with n, d >= 1, found {features.shape}")
    length = np.sqrt(np.einsum("nd,nd->n", features, features))
    bad = ~(np.abs(length - 1) <= UNIT_TOLERANCE)  # written so that NaN is bad
    if bad.any():
        node = int(np.argmax(bad))
        raise AffinityError(
            f"features of node {node}: expected unit length, found {length[node]:.6g}; "
            "divide each row by its norm, and leave out or quarantine rows that have none"
        )


def dense(features: np.ndarray) -> np.ndarray:
    """max(X X^T, 0), the affinity of the published eigenvectors.

    Parameters
    ----------
    features : ndarray, shape (n, d), float32, unit rows

    Returns
    -------
    ndarray, shape (n, n), float32, exactly symmetric, diagonal 1

    Raises
    ------
    AffinityError
        As `check_features`.

    References
    ----------
    Melas-Kyriazi et al., Deep Spectral Methods, CVPR 2022, section 3.2.
    """
    check_features(features)
    W = features @ features.T  # NumPy sees the transpose and computes one triangle (BLAS syrk)
    for start in range(0, len(W), ROWS_IN_CACHE):
        rows = W[start : start + ROWS_IN_CACHE]
        np.maximum(rows, 0, out=rows)
    return W


def nearest(features: np.ndarray, neighbours: int) -> sp.csr_array:
    """The `neighbours` largest entries of each row of max(X X^T, 0), symmetrised by maximum.

    Exact: all n^2 similarities are looked at, a block of rows at a time. The node itself is one of
    its neighbours; equal similarities are taken in order of index. Zeros are not stored.

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
    AffinityError
        As `check_features`, or fewer than 2 neighbours.
    """
    check_features(features)
    if neighbours < 2:
        raise AffinityError(
            f"neighbours: expected 2 or more, the node among them, found {neighbours}"
        )
    n = len(features)
    k = min(neighbours, n)
    block = max(1, (1 << 23) // n)
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


def with_self_loops(W: sp.csr_array) -> sp.csr_array:
    """W with weight 1 on the diagonal of each node that has no edge."""
    isolated = np.asarray(W.sum(axis=1)).ravel() == 0
    return (W + sp.diags_array(isolated.astype(W.dtype))).tocsr()


def weighted_sum(W: Affinity, other: sp.csr_array, weight: float) -> Affinity:
    """W + weight * other. A dense W is changed in place and returned.

    Raises
    ------
    AffinityError
        The shapes differ, or `weight` is negative or not finite.
    """
    if W.shape != other.shape:
        raise AffinityError(f"affinities of shape {W.shape} and {other.shape} cannot be added")
    if not 0 <= weight < np.inf:
        raise AffinityError(f"weight of an affinity: expected 0 or more, found {weight}")
    if isinstance(W, np.ndarray):
        entries = other.tocoo(copy=True)
        entries.sum_duplicates()  # indexed addition counts a repeated entry once
        W[entries.row, entries.col] += np.asarray(weight * entries.data, W.dtype)
        return W
    if sp.issparse(W):
        return (W + other * np.asarray(weight, other.dtype)).tocsr()
    return SumAffinity(W, other, weight)


class CosineAffinity:
    """max(X X^T, 0) that is never stored: each product computes it again, a block at a time.

    Memory is one block (64 MiB); a product costs 2 n^2 (d + m) operations.
    """

    def __init__(self, features: np.ndarray):
        check_features(features)
        self.features = np.ascontiguousarray(features)
        self.shape = (len(features), len(features))
        self.dtype = self.features.dtype

    def matmat(self, vectors: np.ndarray) -> np.ndarray:
        """W @ vectors; products in the dtype of `vectors`, similarities in that of the features."""
        n = len(self.features)
        block = max(1, (1 << 24) // n)
        result = np.empty(vectors.shape, vectors.dtype)
        for start in range(0, n, block):
            similarity = self.features[start : start + block] @ self.features.T
            np.maximum(similarity, 0, out=similarity)
            result[start : start + block] = similarity @ vectors
        return result


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
    if sp.issparse(W):
        return np.asarray(W.sum(axis=1, dtype=np.float64)).ravel()
    return np.asarray(W.matmat(np.ones((W.shape[0], 1)))[:, 0], np.float64)


def check(W: Affinity, degree: np.ndarray) -> None:
    """Hold W to the contract of this module, in a few passes over its entries.

    Symmetry is tested by one product with a random vector from either side; for an operator, which
    cannot be multiplied from the left, it is the operator's own promise.

    Raises
    ------
    AffinityError
        Names the first bad node.
    """
    if len(W.shape) != 2 or W.shape[0] != W.shape[1] or W.shape[0] == 0:
        raise AffinityError(f"affinity: expected (n, n) with n >= 1, found {W.shape}")
    _refuse(~np.isfinite(degree), "has weights that are not finite", "look for NaN in its features")
    if isinstance(W, np.ndarray) or sp.issparse(W):
        entries = W if isinstance(W, np.ndarray) else W.data
        if entries.size and entries.min() < 0:
            lowest = W.min(axis=1)
            lowest = lowest if isinstance(lowest, np.ndarray) else lowest.toarray().ravel()
            _refuse(lowest < 0, "has negative weights", "set similarities below 0 to 0")
        probe = np.random.default_rng(0).uniform(1, 2, W.shape[0]).astype(W.dtype)
        difference = np.abs(W @ probe - W.T @ probe)
        allowed = 100 * np.finfo(W.dtype).eps * (degree + degree.max() * 1e-3)
        _refuse(difference > allowed, "has asymmetric weights", "use (W + W.T) / 2")
    _refuse(degree <= 0, "is isolated", "give it a self-loop (eigen.affinity.with_self_loops)")


def _refuse(bad: np.ndarray, what: str, remedy: str) -> None:
    if bad.any():
        raise AffinityError(
            f"affinity: node {int(np.argmax(bad))} {what} ({int(bad.sum())} such nodes); {remedy}"
        )
