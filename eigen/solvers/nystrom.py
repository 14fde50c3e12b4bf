"""Eigenvectors of a sample of nodes, extended to all: fast, but accurate only to several degrees.

Gives solvers and single passes a start where the affinity is too large to be stored.

References
----------
Fowlkes, Belongie, Chung & Malik, IEEE PAMI 26(2), 2004.
"""

from __future__ import annotations

import numpy as np

from data.errors import GraphError
from eigen.graphs import cosine
from eigen.graphs.affinity import Affinity
from eigen.graphs.cosine import CosineAffinity
from eigen.solvers.canonical import canonical_vectors
from eigen.solvers.dense import dense
from eigen.solvers.krylov import BLOCK, block_lanczos, random_block
from eigen.solvers.problem import NormalizedProblem

# Sampling perturbs the vectors by more than this.
TOLERANCE = 3e-3
# A sample of so few nodes is solved by LAPACK.
DENSE_SAMPLE = 256
MOST_RESTARTS = 20


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
    vectors = _of_sample(cosine.dense(W.features[chosen]), count, seed)
    weighted = np.ascontiguousarray(np.column_stack([np.ones_like(vectors[:, :1]), vectors]))
    sums = np.concatenate([cosine.product(rows, weighted) for rows in W.columns(chosen)])
    # A node that resembles nothing in the sample gets 0.
    extension = sums[:, 1:] / np.maximum(sums[:, :1], np.finfo(sums.dtype).tiny)
    extension[:, 0] = 1
    return extension, sums[:, 0] * (n / sample)


def _of_sample(W: Affinity, count: int, seed: int) -> np.ndarray:
    """Smallest eigenvectors v (n, count) of a stored affinity, to a few thousandths."""
    problem = NormalizedProblem(W, check=False)
    if count > problem.n:
        raise GraphError(f"{count} eigenpairs of a sample of {problem.n} nodes; draw more nodes")
    if problem.n <= DENSE_SAMPLE or problem.n < 5 * (count + 2):
        values, u = dense(problem, count, tolerance=TOLERANCE, seed=seed)
    else:
        first = random_block(problem.n, BLOCK, seed, None)
        theta, u = block_lanczos(problem, count, TOLERANCE, seed, first, BLOCK, MOST_RESTARTS)
        values = 1 - theta
    return canonical_vectors(values, u, problem.sqrt_degree, seed=seed, dtype=problem.W.dtype)
