"""Verify stored eigenpairs against a graph rebuilt from the image, without running a solver.

Anyone who has the images can check the residuals that a shard states.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.errors import ShardError
from eigen.graphs.build import Graph
from eigen.pairs import Eigenpairs
from eigen.solvers.problem import NormalizedProblem


@dataclass(frozen=True)
class Verdict:
    """How well the stored pairs of an image solve its eigenproblem.

    Attributes
    ----------
    residual : float
        Largest 2-norm of L_sym u - lambda u over the pairs, recomputed.
    stored : float
        Largest residual stored with them.
    orthonormality : float
        Largest entry of |V^T D V - I|.
    """

    residual: float
    stored: float
    orthonormality: float

    def holds(self, tolerance: float) -> bool:
        """Whether the pairs meet the tolerance, and the residuals stored with them."""
        # Vectors are stored in float32, so neither figure can be better than its rounding.
        as_stored = abs(self.residual - self.stored) <= 1e-6 + 0.05 * self.stored
        return as_stored and self.residual <= tolerance and self.orthonormality <= 1e-4


def verify(pairs: Eigenpairs, graph: Graph) -> Verdict:
    """Recompute the residuals of `pairs` on the graph of their image.

    Raises
    ------
    ShardError
        The pairs' grid is not the graph's: they belong to another image or configuration.
    """
    if pairs.grid != graph.grid:
        raise ShardError(
            f"eigenpairs: expected the image's grid {graph.grid}, found {pairs.grid}; they belong "
            "to another image or configuration"
        )
    problem = NormalizedProblem(graph.W, grid=graph.grid)
    u = pairs.vectors.reshape(pairs.k, -1).T.astype(np.float64) * problem.sqrt_degree[:, None]
    orthonormality = np.abs(u.T @ u - np.eye(pairs.k)).max()
    u /= np.linalg.norm(u, axis=0)
    residual = problem.residual(pairs.eigenvalues, u)
    return Verdict(float(residual.max()), float(pairs.residual.max()), float(orthonormality))
