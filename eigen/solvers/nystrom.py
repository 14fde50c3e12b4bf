"""Eigenvectors of a sample of nodes, extended to all: fast, but accurate only to several degrees.

Gives solvers and single passes a start where the affinity is too large to be stored.

References
----------
Fowlkes, Belongie, Chung & Malik, IEEE PAMI 26(2), 2004.
"""

from __future__ import annotations

import numpy as np

from eigen.graphs import cosine
from eigen.graphs.cosine import CosineAffinity
from eigen.solvers.solve import solve
from eigen.solvers.spec import SolveSpec

# Sampling perturbs the vectors by more than this.
TOLERANCE = 3e-3


def extended(
    W: CosineAffinity, count: int, sample: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Smallest eigenvectors v on a sample, extended to all nodes, and estimated degrees.

    A node's entries are the mean of the sample's, weighted by its similarity to them.

    Parameters
    ----------
    W : CosineAffinity, shape (n, n)
    count : int
        Vectors, the constant one among them.
    sample : int
        Nodes drawn; `count` to n of them, at most `eigen.graphs.cosine.MOST_STORED`.
    seed : int
        Of the sample.

    Returns
    -------
    vectors : ndarray, shape (n, count), float32
        Column 0 is 1.
    degree : ndarray, shape (n,), float32
        Estimated from the sample.

    Raises
    ------
    GraphError
        `count` is more than `sample`, or `sample` more than can be stored.
    """
    n = W.shape[0]
    chosen = np.random.default_rng([seed, n]).choice(n, sample, replace=False)
    spec = SolveSpec(k=count, tolerance=TOLERANCE, seed=seed)
    vectors = solve(cosine.dense(W.features[chosen]), spec, check=False).vectors
    weighted = np.ascontiguousarray(np.column_stack([np.ones_like(vectors[:, :1]), vectors]))
    sums = np.concatenate([cosine.product(rows, weighted) for rows in W.columns(chosen)])
    # A node that resembles nothing in the sample gets 0.
    extension = sums[:, 1:] / np.maximum(sums[:, :1], np.finfo(sums.dtype).tiny)
    extension[:, 0] = 1
    return extension, sums[:, 0] * (n / sample)
