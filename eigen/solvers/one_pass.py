"""Eigenpairs from a single pass over all pairs of nodes, for affinities too large for several.

Vectors of a sample are extended to all nodes (`eigen.solvers.nystrom`). Then one pass over W gives
three things at once: the degrees, the best vectors of the span (Rayleigh-Ritz), and their exact
residuals. So the result is certified like any other, to the accuracy reached: a few thousandths,
where repeated passes reach 1e-5.
"""

from __future__ import annotations

import numpy as np

from data.errors import GraphError, SettingError
from eigen.graphs.cosine import CosineAffinity
from eigen.solvers.canonical import canonical_vectors
from eigen.solvers.nystrom import extended
from eigen.solvers.problem import orthonormal
from eigen.solvers.solution import Solution, measured, unit_vectors
from eigen.threads import one_pool

# A pass over n nodes costs as much as a sample of n / 2 nodes, so one of n / 8 adds little. At most
# 16,384 nodes are stored: 1 GiB.
SAMPLE_SHARE, MOST_SAMPLED = 8, 1 << 14


@one_pool()
def one_pass(
    W: CosineAffinity, k: int, *, columns: int = 32, sample: int | None = None, seed: int = 0
) -> Solution:
    """The k smallest pairs of (D - W) v = lambda D v within the span of extended vectors.

    Parameters
    ----------
    W : CosineAffinity, shape (n, n)
    k : int
    columns : int
        Vectors extended; those beyond k compensate for the mixing by sampling.
    sample : int, optional
        Nodes of the sample; by default an eighth of all, at most 16,384.
    seed : int
        Of the sample.

    Returns
    -------
    Solution
        `residual` states how accurate the pairs are; there is no tolerance.

    Raises
    ------
    SettingError
        Not 1 <= k <= columns <= sample <= n.
    GraphError
        As `ritz`: the features have fewer than k independent directions.
    """
    n = W.shape[0]
    if sample is None:
        sample = min(n, max(columns, min(n // SAMPLE_SHARE, MOST_SAMPLED)))
    if not 1 <= k <= columns <= sample <= n:
        raise SettingError(
            f"k, columns, sample: expected 1 <= k <= columns <= sample <= {n} nodes, found {k}, "
            f"{columns}, {sample}"
        )
    guess, _ = extended(W, columns, sample, seed)
    product = W.matmat(guess)
    # Column 0 is constant: its product is the degrees.
    return ritz(guess, product, product[:, 0].astype(np.float64), k, seed=seed)


def ritz(
    guess: np.ndarray, product: np.ndarray, degree: np.ndarray, k: int, *, seed: int = 0
) -> Solution:
    """Best k pairs of (D - W) v = lambda D v in the span of `guess`, and their residuals.

    Parameters
    ----------
    guess : ndarray, shape (n, m)
    product : ndarray, shape (n, m)
        W `guess`.
    degree : ndarray, shape (n,), float64

    Raises
    ------
    GraphError
        The span has fewer than k dimensions.
    """
    root = np.sqrt(degree)[:, None]
    # Rayleigh-Ritz of S = D^-1/2 W D^-1/2 on D^1/2 guess.
    basis, products = orthonormal(guess * root, product / root)
    if basis.shape[1] < k:
        raise GraphError(
            f"k: expected at most {basis.shape[1]}, the dimension of the span, found {k}; request "
            "fewer pairs, or more columns"
        )
    projected = basis.T @ products
    theta, y = np.linalg.eigh((projected + projected.T) / 2)
    theta, y = theta[::-1][:k], y[:, ::-1][:, :k]
    v = canonical_vectors(1 - theta, basis @ y, root[:, 0], seed=seed, dtype=guess.dtype)
    u = unit_vectors(v, root[:, 0])
    # The returned vectors lie in the span: their product needs no further pass.
    return measured("one_pass", v, u, products @ (basis.T @ u))
