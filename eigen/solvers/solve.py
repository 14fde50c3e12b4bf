"""Certified eigenpairs of an affinity: choose a solver, check what it returns, try the next.

Every pair is judged by the residual of the problem as posed, recomputed here from W in float64 and
for the very numbers that are handed back. A solver that misses the tolerance is followed by the
next of its chain; when all have missed, `ConvergenceError` carries what each reached.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from data.errors import EigenshapeError, GraphError
from eigen.graphs.affinity import Affinity
from eigen.solvers.canonical import canonical_vectors
from eigen.solvers.problem import NormalizedProblem
from eigen.threads import one_pool

logger = logging.getLogger(__name__)

SOLVERS = ("dense", "lanczos", "batched", "shift_invert", "lobpcg")
TOLERANCE = 1e-5
DENSE_NODES = 256
# Beyond this a full eigensolver takes minutes and gigabytes; it is no fallback any more.
DENSE_FALLBACK_NODES = 6000

Solver = Callable[..., tuple[np.ndarray, np.ndarray]]


class ConvergenceError(EigenshapeError, RuntimeError):
    """No solver of the chain reached the tolerance.

    Attributes
    ----------
    attempts : dict of str to str
        What each solver reached, or the error it ended with.
    """

    def __init__(self, tol: float, attempts: dict[str, str]):
        super().__init__(tol, attempts)  # all arguments, so that it can be sent between processes
        self.tol, self.attempts = tol, attempts

    def __str__(self) -> str:
        told = "; ".join(f"{name}: {outcome}" for name, outcome in self.attempts.items())
        return (
            f"no solver reached a residual of {self.tol:g} ({told}); "
            "raise the tolerance, name another solver, or leave this picture out"
        )


@dataclass(frozen=True, eq=False)
class Solution:
    """The K smallest eigenpairs of (D - W) v = lambda D v.

    Attributes
    ----------
    eigenvalues : ndarray, shape (K,), float64, ascending
    vectors : ndarray, shape (n, K), dtype of W (float32 or float64)
        D-orthonormal, signs by `eigen.solvers.canonical.fix_signs`, repeated eigenvalues by
        `eigen.solvers.canonical.canonical_basis`.
    residual : ndarray, shape (K,), float64
        |L_sym u - lambda u| for u = D^(1/2) v at unit length, of `vectors` as they are.
    solver : str
    """

    eigenvalues: np.ndarray
    vectors: np.ndarray
    residual: np.ndarray
    solver: str


@one_pool()
def solve(
    W: Affinity | NormalizedProblem,
    k: int,
    *,
    grid: tuple[int, int] | None = None,
    solver: str = "auto",
    tol: float = TOLERANCE,
    drop_trivial: bool = False,
    seed: int = 0,
    start: np.ndarray | None = None,
    check: bool = True,
) -> Solution:
    """Certified eigenpairs of (D - W) v = lambda D v.

    Parameters
    ----------
    W : affinity, shape (n, n), float32 or float64
        See `eigen.graphs.affinity`; or a problem made from one.
    k : int
        Pairs to return.
    grid : tuple of int, optional
        (h, w) of the nodes; solvers for pixel graphs start from a coarser grid if they know it.
    solver : str
        "auto", or one of `SOLVERS`, which is then the only one tried.
    tol : float
        Largest residual accepted. float32 graphs reach about 1e-6, float64 ones 1e-12.
    drop_trivial : bool
        Leave out the constant eigenvector, and return the k after it.
    seed : int
        Decides every random draw.
    start : ndarray, shape (n, m), optional
        Guess for the unit vectors u = D^(1/2) v.
    check : bool
        Hold W to the contract of an affinity first.

    Raises
    ------
    GraphError
        The graph has fewer nodes than pairs.
    ConvergenceError
        No solver of the chain reached `tol`.
    GraphError
        W breaks its contract.
    """
    problem = (
        W if isinstance(W, NormalizedProblem) else NormalizedProblem(W, grid=grid, check=check)
    )
    wanted = k + drop_trivial
    if k < 1 or wanted > problem.n:
        raise GraphError(
            f"{k} eigenpairs{' beside the constant one' if drop_trivial else ''} of a graph of "
            f"{problem.n} nodes: ask for fewer, or use a larger picture or a finer grid"
        )
    attempts: dict[str, str] = {}
    for name in chain(problem, wanted) if solver == "auto" else [solver]:
        try:
            solution = certify(
                problem,
                name,
                *_load(name)(problem, wanted, tol=tol, seed=seed, start=start),
                seed=seed,
            )
        except np.linalg.LinAlgError as error:
            attempts[name] = f"{error}"
            continue
        if np.all(solution.residual <= tol):
            return without_first(solution) if drop_trivial else solution
        attempts[name] = f"residual {np.max(solution.residual):.2e}"
        logger.info("%s missed the tolerance %g: %s", name, tol, attempts[name])
    raise ConvergenceError(tol, attempts)


def chain(problem: NormalizedProblem, k: int) -> Sequence[str]:
    """Names of the solvers to try, in order, for this kind and size of graph."""
    # A few hundred nodes: LAPACK takes milliseconds. And an iterative basis of 5 (k + 2) vectors,
    # the least that separates k of them, is then most of the space.
    if problem.n <= DENSE_NODES or problem.n < 5 * (k + 2):
        return ["dense"]
    last = ["dense"] if problem.n <= DENSE_FALLBACK_NODES else []
    # Pixel graphs: eigenvalues and their gaps shrink with the number of nodes, too far for products
    # alone. Planar ones keep a factor sparse: as quick as multigrid to some 50,000 nodes, half as
    # quick at 240,000, and its residuals are 3e-8 at any tolerance. Long edges fill the factor in.
    if problem.grid is not None and problem.joins_neighbours:
        planar = problem.reach <= problem.grid[1] + 1
        sparse = ["shift_invert", "lobpcg"] if planar else ["lobpcg", "shift_invert"]
        return [*sparse, "lanczos", *last]
    # Patch graphs, and any sum with one: the wanted eigenvalues of S stand clear of a bulk near 0,
    # so a Krylov space of some tens of products holds them, at any size.
    return ["lanczos", "lobpcg", *last] if problem.is_sparse else ["lanczos", *last]


def certify(
    problem: NormalizedProblem, name: str, eigenvalues: np.ndarray, u: np.ndarray, *, seed: int
) -> Solution:
    """Bring a solver's pairs to their canonical form and measure the residuals of the result."""
    v = canonical_vectors(eigenvalues, u, problem.sqrt_degree, seed=seed, dtype=problem.W.dtype)
    unit = unit_vectors(v, problem.sqrt_degree)
    return judged(name, v, unit, problem.similarity(unit))


def unit_vectors(v: np.ndarray, sqrt_degree: np.ndarray) -> np.ndarray:
    """u = D^(1/2) v at unit length, (n, K) float64."""
    u = v * sqrt_degree[:, None]
    return u / np.linalg.norm(u, axis=0)


def judged(name: str, v: np.ndarray, u: np.ndarray, image: np.ndarray) -> Solution:
    """The solution v, with Rayleigh quotients and residuals of its unit vectors u; image = S u."""
    values = np.sort(1 - np.einsum("nk,nk->k", u, image))
    residual = np.linalg.norm(u - image - values * u, axis=0)
    return Solution(values, v, residual, name)


def without_first(solution: Solution) -> Solution:
    """The solution less its constant vector."""
    return Solution(
        solution.eigenvalues[1:], solution.vectors[:, 1:], solution.residual[1:], solution.solver
    )


def _load(name: str) -> Solver:
    if name not in SOLVERS:
        raise ValueError(f"solver: expected auto or one of {', '.join(SOLVERS)}, found {name!r}")
    # On demand: one of them needs pyamg, another SuperLU, none the other's.
    return getattr(importlib.import_module(f"eigen.solvers.{name}"), name)
