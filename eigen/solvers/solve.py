"""Certified eigenpairs of an affinity: choose a solver, check its result, try the next.

Every pair is accepted or rejected by the residual of the problem as posed, recomputed in float64
from W and the vectors returned. With `solver="auto"` a solver that misses the tolerance is followed
by the next of its chain; a named solver is the only one tried. When none reaches the tolerance,
`ConvergenceError` states what each reached.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from data.errors import GraphError
from eigen.graphs.affinity import Affinity
from eigen.solvers.problem import NormalizedProblem
from eigen.solvers.registry import SOLVERS
from eigen.solvers.solution import ConvergenceError, Solution, certify
from eigen.solvers.spec import SolveSpec
from eigen.threads import one_pool

logger = logging.getLogger(__name__)

DENSE_NODES = 256
# Beyond this a full eigensolver takes minutes and gigabytes: it is no fallback.
DENSE_FALLBACK_NODES = 6000


@one_pool()
def solve(
    W: Affinity | NormalizedProblem,
    spec: SolveSpec | int = 5,
    *,
    grid: tuple[int, int] | None = None,
    start: np.ndarray | None = None,
    check: bool = True,
) -> Solution:
    """Certified eigenpairs of (D - W) v = lambda D v.

    Parameters
    ----------
    W : affinity, shape (n, n), float32 or float64
        See `eigen.graphs.affinity`; or a problem made from one.
    spec : SolveSpec or int
        Pairs, solver, tolerance and seed; an integer is K, with defaults for the rest.
    grid : tuple of int, optional
        (h, w) of the nodes; with it, solvers for pixel graphs start from a coarser grid.
    start : ndarray, shape (n, m), optional
        Guess for the unit vectors u = D^(1/2) v.
    check : bool
        Check first that W keeps the contract of an affinity.

    Raises
    ------
    GraphError
        W violates its contract, or the graph has fewer nodes than pairs.
    ConvergenceError
        No solver that was tried reached the tolerance.
    """
    spec = SolveSpec(k=spec) if isinstance(spec, int) else spec
    problem = (
        W if isinstance(W, NormalizedProblem) else NormalizedProblem(W, grid=grid, check=check)
    )
    count = spec.k + spec.drop_trivial
    if count > problem.n:
        raise GraphError(
            f"k: expected at most {problem.n - spec.drop_trivial} eigenpairs of a graph of "
            f"{problem.n} nodes, found {spec.k}; ask for fewer, or use a larger image"
        )
    attempts: dict[str, str] = {}
    for name in chain(problem, count) if spec.solver == "auto" else [spec.solver]:
        try:
            pairs = SOLVERS[name]()(
                problem, count, tolerance=spec.tolerance, seed=spec.seed, start=start
            )
            solution = certify(problem, name, *pairs, seed=spec.seed)
        except np.linalg.LinAlgError as error:
            attempts[name] = f"{error}"
            continue
        if np.all(solution.residual <= spec.tolerance):
            return solution.without_first() if spec.drop_trivial else solution
        attempts[name] = f"residual {np.max(solution.residual):.2e}"
        logger.info("%s missed the tolerance %g: %s", name, spec.tolerance, attempts[name])
    raise ConvergenceError(spec.tolerance, attempts)


def chain(problem: NormalizedProblem, k: int) -> Sequence[str]:
    """Names of the solvers to try, in order, for this kind and size of graph."""
    # For a few hundred nodes LAPACK takes milliseconds; and where n < 5 (k + 2), the smallest basis
    # that separates k vectors would be most of the space.
    if problem.n <= DENSE_NODES or problem.n < 5 * (k + 2):
        return ["dense"]
    last = ["dense"] if problem.n <= DENSE_FALLBACK_NODES else []
    # Pixel graphs: eigenvalues and their gaps shrink with the number of nodes, too far for products
    # alone. Planar ones have a sparse factor: as fast as multigrid up to about 50,000 nodes, half
    # as fast at 240,000, with residuals of 3e-8 at any tolerance. Long edges fill the factor in.
    if problem.grid is not None and problem.joins_neighbours:
        planar = problem.reach <= problem.grid[1] + 1
        sparse = ["shift_invert", "lobpcg"] if planar else ["lobpcg", "shift_invert"]
        return [*sparse, "lanczos", *last]
    # Patch graphs, and any sum with one: the largest eigenvalues of S are well separated from the
    # bulk near 0, so some tens of products find them, at any size.
    return ["lanczos", "lobpcg", *last] if problem.is_sparse else ["lanczos", *last]
