"""Eigenvectors of a sample of nodes, extended to all of them: fast, but accurate only
to several degrees.

A start for solvers and single passes, where the affinity is too large to be stored.

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

# Sampling blurs vectors by more than this.
TOLERANCE = 3e-3


def extended(
    W: CosineAffinity, count: int, sample: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Smallest vectors v of the generalised problem on a sample, at all nodes, and degrees there.

    A node's entries are the mean of the sample's, weighted by its similarity to them.

    Parameters
    ----------
    W : CosineAffinity, shape (n, n)
    count : int
        Vectors, the constant one among them.
    sample : int
        Nodes drawn; `count` to n of them, at most `eigen.graphs.cosine.MOST_STORED`.
    seed : int
        Of the draw.

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
    among = cosine.dense(W.features[chosen])
    vectors = solve(among, spec, check=False).vectors
    del among
    weighted = np.ascontiguousarray(np.column_stack([np.ones_like(vectors[:, :1]), vectors]))
    sums = np.concatenate([cosine.product(rows, weighted) for rows in W.columns(chosen)])
    # A node that resembles nothing in the sample gets 0.
    found = sums[:, 1:] / np.maximum(sums[:, :1], np.finfo(sums.dtype).tiny)
    found[:, 0] = 1
    return found, sums[:, 0] * (n / sample)
