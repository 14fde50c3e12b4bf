"""Eigenpairs from a single pass over all pairs of nodes, for affinities too large for several.

Vectors of a sample are extended to all nodes (`eigen.solvers.nystrom`). Then one pass over W gives
three things at once: the degrees, the best vectors of the span (Rayleigh-Ritz), and their
residuals, which nothing was left out of. So the result is certified like any other, to what it
reached: some thousandths, where repeated passes reach 1e-5.
"""

from __future__ import annotations

import numpy as np

from data.errors import SettingError
from eigen.graphs.cosine import CosineAffinity
from eigen.solvers.canonical import canonical_vectors
from eigen.solvers.nystrom import extended
from eigen.solvers.problem import orthonormal
from eigen.solvers.solution import Solution, measured, unit_vectors
from eigen.threads import one_pool

# A pass over n nodes costs as much as a sample of n / 2 would; an eighth is a quarter of that, and
# at most 16,384 are stored: 1 GiB.
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
        Vectors extended; those beyond k make room for what sampling mixes.
    sample : int, optional
        Nodes solved to the end; an eighth of all, at most 16,384, unless given.
    seed : int
        Of the sample.

    Returns
    -------
    Solution
        `residual` tells how accurate the pairs are; none is refused.

    Raises
    ------
    SettingError
        Sizes that do not fit each other.
    LinAlgError
        As `ritz`: the image has fewer colours than pairs were asked for.
    """
    n = W.shape[0]
    if sample is None:
        sample = min(n, max(columns, min(n // SAMPLE_SHARE, MOST_SAMPLED)))
    if not 1 <= k <= columns <= sample <= n:
        raise SettingError(
            f"expected 1 <= pairs <= columns <= sample <= nodes, found {k}, {columns}, {sample}, "
            f"{n}: change `k`, `columns` or `sample`"
        )
    guess, _ = extended(W, columns, sample, seed)
    image = W.matmat(guess)
    # Column 0 is constant: its product is the degrees.
    return ritz(guess, image, image[:, 0].astype(np.float64), k, seed=seed)


def ritz(
    guess: np.ndarray, image: np.ndarray, degree: np.ndarray, k: int, *, seed: int = 0
) -> Solution:
    """Best k pairs of (D - W) v = lambda D v in the span of `guess`, and their residuals.

    Parameters
    ----------
    guess : ndarray, shape (n, m)
    image : ndarray, shape (n, m)
        W `guess`.
    degree : ndarray, shape (n,), float64

    Raises
    ------
    LinAlgError
        The span has fewer than k dimensions.
    """
    root = np.sqrt(degree)[:, None]
    # Rayleigh-Ritz of S = D^-1/2 W D^-1/2 on D^1/2 guess.
    basis, products = orthonormal(guess * root, image / root)
    if basis.shape[1] < k:
        raise np.linalg.LinAlgError(
            f"{k} pairs were asked of a span of {basis.shape[1]} dimensions: ask for fewer, "
            "or for more columns"
        )
    projected = basis.T @ products
    theta, y = np.linalg.eigh((projected + projected.T) / 2)
    theta, y = theta[::-1][:k], y[:, ::-1][:, :k]
    v = canonical_vectors(1 - theta, basis @ y, root[:, 0], seed=seed, dtype=guess.dtype)
    u = unit_vectors(v, root[:, 0])
    # The vectors as they are handed back lie in the span: their product needs no further pass.
    return measured("one_pass", v, u, products @ (basis.T @ u))
