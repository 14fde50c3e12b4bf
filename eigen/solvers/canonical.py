"""Canonical eigenvectors: a rule for their signs, and for the basis of repeated eigenvalues."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import DTypeLike


def fix_signs(vectors: np.ndarray) -> np.ndarray:
    """Negate each column in which more than half of the entries are positive; on a tie, see below.

    With exactly half of the entries positive, the entry of largest magnitude (the first of equal
    ones) becomes negative. So the constant vector is negative.

    Parameters
    ----------
    vectors : ndarray, shape (n, K), float

    Returns
    -------
    ndarray, shape (n, K), same dtype
    """
    n = len(vectors)
    positive = np.count_nonzero(vectors > 0, axis=0)
    largest = np.take_along_axis(vectors, np.argmax(np.abs(vectors), axis=0)[None], axis=0)[0]
    negate = (2 * positive > n) | ((2 * positive == n) & (largest > 0))
    return np.where(negate, -vectors, vectors)


def canonical_vectors(
    eigenvalues: np.ndarray,
    u: np.ndarray,
    sqrt_degree: np.ndarray,
    *,
    seed: int,
    dtype: DTypeLike,
) -> np.ndarray:
    """D-orthonormal eigenvectors v = D^-1/2 u, clusters and signs chosen by rule.

    Parameters
    ----------
    eigenvalues : ndarray, shape (K,), float64, ascending
    u : ndarray, shape (n, K), float32 or float64
        Orthonormal eigenvectors of L_sym.
    sqrt_degree : ndarray, shape (n,), float64
    seed : int
        See `canonical_basis`.
    dtype : dtype
        Of the result.

    Returns
    -------
    ndarray, shape (n, K)
    """
    # Values closer than the rounding of the solver's products count as one eigenvalue.
    gap = max(4 * float(np.finfo(u.dtype).eps), 1e-10)
    null_vector = sqrt_degree / np.linalg.norm(sqrt_degree)
    u = canonical_basis(eigenvalues, u, null_vector, seed=seed, gap=gap)
    return fix_signs(u / sqrt_degree[:, None]).astype(dtype)


def canonical_basis(
    eigenvalues: np.ndarray, u: np.ndarray, null_vector: np.ndarray, *, seed: int, gap: float
) -> np.ndarray:
    """Choose the basis of each repeated eigenvalue so that it depends on the subspace alone.

    The null space begins with `null_vector`. Inside any other cluster, a chain of eigenvalues
    closer than `gap`, the basis is the one in which fixed random vectors become triangular: QR of
    their projections. A cluster cut off at K has no such basis: its subspace is not determined.

    Parameters
    ----------
    eigenvalues : ndarray, shape (K,), float64, ascending
    u : ndarray, shape (n, K)
        Orthonormal eigenvectors of L_sym.
    null_vector : ndarray, shape (n,), float64, unit length
    seed : int
        Of the fixed vectors; they depend on it and n only.
    gap : float
        A rotation inside a cluster changes a residual by at most the cluster's width.

    Returns
    -------
    ndarray, shape (n, K), float64
    """
    result = u.astype(np.float64)
    bounds = [0, *(np.flatnonzero(np.diff(eigenvalues) > gap) + 1), len(eigenvalues)]
    for start, stop in itertools.pairwise(bounds):
        members = result[:, start:stop]
        if start == 0:
            members = _beginning_with(null_vector, members)
        if stop - start > 1:
            fixed = np.random.default_rng([seed, len(u)]).standard_normal(members.shape)
            if start == 0:
                fixed[:, 0] = null_vector
            q, r = np.linalg.qr(members.T @ fixed)
            members = members @ (q * np.sign(np.diag(r)))
        result[:, start:stop] = members
    return result


def _beginning_with(first: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Orthonormal basis of as many vectors: `first`, then the rest of what the members span."""
    orthogonal = members - np.outer(first, first @ members)
    rest = np.linalg.svd(orthogonal, full_matrices=False)[0][:, : members.shape[1] - 1]
    return np.column_stack([first, rest])
