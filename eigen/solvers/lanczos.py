"""The largest eigenvalues of S = D^-1/2 W D^-1/2 by block Lanczos (`eigen.solvers.krylov`).

It needs only products with W, and is the first choice for patch graphs, whose largest eigenvalues
are well separated from a dense cluster at 0. An affinity that is never stored starts from a sample
of its nodes, since each product with it is a pass over all pairs.
"""

from __future__ import annotations

import numpy as np

from eigen.graphs.affinity import SumAffinity
from eigen.graphs.cosine import CosineAffinity
from eigen.solvers.krylov import (
    BLOCK,
    OPERATOR_BLOCK,
    Multiplied,
    block_lanczos,
    dtype_of_products,
    fills_block,
    random_block,
)
from eigen.solvers.nystrom import extended
from eigen.solvers.problem import NormalizedProblem, orthonormal

# One node in this many is in the sample from which an operator's first block is computed.
SAMPLE_SHARE, LEAST_SAMPLE, MOST_SAMPLED = 8, 1024, 4096


def lanczos(
    problem: NormalizedProblem,
    k: int,
    *,
    tolerance: float,
    seed: int,
    start: np.ndarray | None = None,
    block: int | None = None,
    max_restarts: int = 20,
) -> tuple[np.ndarray, np.ndarray]:
    """The k smallest pairs of L_sym, by products with W alone.

    Parameters
    ----------
    start : ndarray, shape (n, m), optional
        A guess; its columns replace random ones of the first block. By default an affinity that is
        never stored starts from a sample of its nodes.
    block : int, optional
        Vectors multiplied at a time; doubled while an eigenvalue may have more copies.
    max_restarts : int
        Restarts after which the best pairs so far are returned.

    Returns
    -------
    eigenvalues : ndarray, shape (k,), float64, ascending
    u : ndarray, shape (n, k), orthonormal to the rounding of its dtype
        float32 if W is float32 and `tolerance` at least 1e-6, else float64.
    """
    if problem.n == 1:
        return np.zeros(1), np.ones((1, 1))
    # Added colours change the vectors, but those without colours are still a good start.
    operator = problem.W.operator if isinstance(problem.W, SumAffinity) else problem.W
    known = None
    if isinstance(operator, CosineAffinity):
        block = block or OPERATOR_BLOCK
        if start is None and problem.n > max(LEAST_SAMPLE, 2 * block):
            known = _sampled(problem, operator, block, dtype_of_products(problem, tolerance), seed)
    block = block or BLOCK
    while True:
        block = min(block, problem.n - 1)
        first = known or random_block(problem.n, block, seed, start)
        theta, u = block_lanczos(problem, k, tolerance, seed, first, block, max_restarts)
        if block >= min(k, problem.n - 1) or not fills_block(theta, block, tolerance):
            return 1 - theta, u
        block, known = 2 * block, None


def _sampled(
    problem: NormalizedProblem, operator: CosineAffinity, block: int, dtype: type, seed: int
) -> Multiplied | None:
    """A first block from a sample of the nodes, orthonormal, and its products with S.

    One pass gives the products and the degrees. None if the sample has no `block` independent
    vectors besides the constant one (an image of few colours).
    """
    share = min(problem.n // SAMPLE_SHARE, MOST_SAMPLED)
    sample = max(LEAST_SAMPLE, 2 * block, share)
    vectors, _ = extended(operator, block + 1, sample, seed)
    guess: np.ndarray = vectors[:, 1:].astype(dtype)
    product = problem.product(guess)
    root, null = problem.sqrt_degree[:, None], problem.null_vector[:, None]
    u, products = guess * root, product / root
    along = null.T @ u  # S null = null
    u, products = orthonormal(u - null * along, products - null * along)
    return (u, products) if u.shape[1] == block else None
