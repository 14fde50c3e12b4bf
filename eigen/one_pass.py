"""Eigenpairs from a single look at every pair of nodes, for affinities too large to multiply often.

A sample of the nodes is solved to the end, and its vectors are extended to all nodes (Nystrom).
Then one pass over W gives three things at once: the degrees, the best vectors of the span
(Rayleigh-Ritz), and their residuals, which nothing was left out of. So the result is certified like
any other, to what it reached: some thousandths, where repeated passes reach 1e-5.

References
----------
Fowlkes, Belongie, Chung & Malik, IEEE PAMI 26(2), 2004 (extension).
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from eigen import cosine
from eigen.canonical import canonical_vectors
from eigen.cosine import CosineAffinity
from eigen.solve import Solution, judged, solve, unit_vectors
from eigen.threads import one_pool

# A pass over n nodes costs as much as a sample of n / 2 would; an eighth is a quarter of that, and
# at most 16,384 are stored: 1 GiB.
SAMPLE_SHARE, MOST_SAMPLED = 8, 1 << 14
# Its vectors only start what follows: sampling blurs them by more than this.
SAMPLE_TOLERANCE = 1e-2
# A direction of float32 vectors that is this short, squared, is their rounding.
RANK_TOLERANCE = 1e-10


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
        `residual` says how near the pairs are; nothing is refused for being far.
    """
    n = W.shape[0]
    if sample is None:
        sample = min(n, max(columns, min(n // SAMPLE_SHARE, MOST_SAMPLED)))
    if not k <= columns <= sample <= n:
        raise ValueError(
            f"expected pairs <= columns <= sample <= nodes, found {k}, {columns}, {sample}, {n}"
        )
    guess, _ = extended(W, columns, sample, seed)
    image = W.matmat(guess)
    # Column 0 is constant: its product is the degrees.
    return ritz(guess, image, image[:, 0].astype(np.float64), k, seed=seed)


def extended(
    W: CosineAffinity, count: int, sample: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Smallest vectors v of the generalised problem on a sample, at all nodes, and degrees there.

    A node's entries are the mean of the sample's, weighted by its similarity to them.

    Returns
    -------
    vectors : ndarray, shape (n, count), float32
        Column 0 is 1.
    degree : ndarray, shape (n,), float32
        Estimated from the sample.
    """
    n = W.shape[0]
    chosen = np.random.default_rng([seed, n]).choice(n, sample, replace=False)
    among = cosine.dense(W.features[chosen])
    vectors = solve(among, count, tol=SAMPLE_TOLERANCE, seed=seed, check=False).vectors
    del among
    weighted = np.ascontiguousarray(np.column_stack([np.ones_like(vectors[:, :1]), vectors]))
    sums = np.concatenate([cosine.product(rows, weighted) for _, rows in W.columns(chosen)])
    # A node that resembles nothing in the sample gets 0.
    found = sums[:, 1:] / np.maximum(sums[:, :1], np.finfo(sums.dtype).tiny)
    found[:, 0] = 1
    return found, sums[:, 0] * (n / sample)


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
    # Rayleigh-Ritz of S = D^-1/2 W D^-1/2 on an orthonormal basis of D^1/2 guess.
    basis, products = guess * root, image / root
    size, directions = scipy.linalg.eigh(basis.T @ basis)
    kept = size > RANK_TOLERANCE * size[-1]
    if kept.sum() < k:
        raise np.linalg.LinAlgError(
            f"{k} pairs were asked of a span of {int(kept.sum())} dimensions: ask for fewer, "
            "or for more columns"
        )
    to_basis = directions[:, kept] / np.sqrt(size[kept])
    basis, products = basis @ to_basis, products @ to_basis
    projected = basis.T @ products
    theta, y = scipy.linalg.eigh((projected + projected.T) / 2)
    theta, y = theta[::-1][:k], y[:, ::-1][:, :k]
    v = canonical_vectors(1 - theta, basis @ y, root[:, 0], seed=seed, dtype=guess.dtype)
    u = unit_vectors(v, root[:, 0])
    # The vectors as they are handed back lie in the span: their product needs no pass of its own.
    return judged("one_pass", v, u, products @ (basis.T @ u))
