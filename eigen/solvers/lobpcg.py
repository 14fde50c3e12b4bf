"""LOBPCG with a multigrid preconditioner, for large sparse graphs.

Pixel graphs have eigenvalues of 1e-6 to 1e-3 and similarly small gaps: too many products for
Lanczos, too much fill-in for a factorisation. Multigrid makes the number of steps nearly
independent of the size, and its coarse levels give the first guess.

Differences from `scipy.sparse.linalg.lobpcg`: the known null vector is removed from the start
instead of being iterated on; the three bases live in one array, so that a step takes two Gram
products and two updates; converged columns are no longer preconditioned; most steps run in float32
and the last ones, if the tolerance requires it, in float64; and convergence is decided by the
residual of the problem as posed, in float64.

References
----------
Knyazev, SIAM J. Sci. Comput. 23(2), 2001.
Stathopoulos and Wu, SIAM J. Sci. Comput. 23(6), 2002 (orthonormal basis from a Gram matrix).
"""

from __future__ import annotations

import logging

import numpy as np
from scipy import sparse

from eigen.solvers.dense import dense
from eigen.solvers.multigrid import Multigrid
from eigen.solvers.problem import NormalizedProblem

logger = logging.getLogger(__name__)

SPARE = 2
# SciPy multiplies a sparse matrix by 8 vectors faster than by 6 or 7 (5.2 against 5.7 and 6.6 ms).
BLOCK = 8
# Relative squared length below which a direction counts as dependent and is left out.
DEPENDENT = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-11}
# Residuals below this are rounding in float32.
FLOAT32_FLOOR = 2e-6
# Aim a little below the tolerance: rounding the result to the graph's precision adds to it.
MARGIN = 0.9
# Steps without a smaller residual after which a precision is exhausted.
PATIENCE = 8


def lobpcg(
    problem: NormalizedProblem,
    k: int,
    *,
    tolerance: float,
    seed: int,
    start: np.ndarray | None = None,
    maxiter: int = 200,
) -> tuple[np.ndarray, np.ndarray]:
    """The k smallest pairs of L_sym of a sparse graph.

    Parameters
    ----------
    problem : NormalizedProblem
        With a sparse W.
    tolerance : float
        Residual to stop at; the iteration aims a little lower.
    seed : int
        Of the random columns, where `start` or the coarse levels give too few.
    start : ndarray, shape (n, m), optional
        Guess for the eigenvectors; by default from the coarse levels of the multigrid.
    maxiter : int
        Steps in all, after which the best pairs so far are returned.

    Returns
    -------
    eigenvalues : ndarray, shape (k,), float64, ascending
    u : ndarray, shape (n, k), float64, orthonormal; u[:, 0] is the problem's null vector

    Raises
    ------
    numpy.linalg.LinAlgError
        W is not sparse, or the search broke down (weights that are not finite).
    """
    width = -(-(k - 1 + SPARE) // BLOCK) * BLOCK
    if problem.n < 5 * width:  # a search space of 3 * width would be most of R^n
        return dense(problem, k, tolerance=tolerance, seed=seed)
    if not problem.is_sparse:
        raise np.linalg.LinAlgError("lobpcg: needs a sparse graph; use lanczos for a dense one")
    laplacian = problem.laplacian()
    multigrid = Multigrid(laplacian, problem.null_vector, grid=problem.grid)
    null = problem.null_vector[:, None]
    guess = multigrid.start(width + 1) if start is None else start
    x = _completed(guess, null, width, seed)
    aim = MARGIN * tolerance
    for dtype, floor in ((np.float32, FLOAT32_FLOOR), (np.float64, 0.0)):
        search = _Search(laplacian.astype(dtype), null.astype(dtype), multigrid)
        x, steps = search.run(x.astype(dtype), wanted=k - 1, aim=max(aim, floor), maxiter=maxiter)
        maxiter -= steps
        values, x, residual = rayleigh_ritz(laplacian, x.astype(np.float64), null)
        worst = residual[: k - 1].max(initial=0.0)
        logger.debug("%s: %d steps, residual %.1e", np.dtype(dtype), steps, worst)
        if worst <= aim or maxiter <= 0:
            break
    return np.append(0.0, values[: k - 1]), np.hstack([null, x[:, : k - 1]])


def _completed(guess: np.ndarray, null: np.ndarray, width: int, seed: int) -> np.ndarray:
    """At least `width` orthonormal columns orthogonal to `null`: the guess, then random ones."""
    x = _orthonormal(guess, null)
    missing = width - x.shape[1]
    if missing <= 0:
        return x
    random = np.random.default_rng(seed).standard_normal((len(x), missing))
    return _orthonormal(np.hstack([x, random]), null)


def _orthonormal(x: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the span of x without `null`; dependent columns are left out."""
    length = np.linalg.norm(x, axis=0)
    x = x - null @ (null.T @ x)
    remaining = np.linalg.norm(x, axis=0)
    independent = remaining > DEPENDENT[np.dtype(np.float64)] * length
    x = x[:, independent] / remaining[independent]
    lengths, directions = np.linalg.eigh(x.T @ x)
    kept = lengths > DEPENDENT[np.dtype(np.float64)]
    return x @ (directions[:, kept] / np.sqrt(lengths[kept]))


def rayleigh_ritz(
    laplacian: sparse.csr_array, x: np.ndarray, null: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best pairs in the span of x, orthogonal to `null`, with their residuals; all float64."""
    x = _orthonormal(x, null)
    product = laplacian @ x
    values, rotation = np.linalg.eigh(x.T @ product)
    x, product = x @ rotation, product @ rotation
    return values, x, np.linalg.norm(product - x * values, axis=0)


class _Search:
    """The iteration in one precision: that of the matrix and of the null vector."""

    def __init__(self, laplacian: sparse.csr_array, null: np.ndarray, multigrid: Multigrid) -> None:
        self.laplacian, self.null, self.multigrid = laplacian, null, multigrid
        self.dtype = laplacian.dtype

    def run(
        self, x: np.ndarray, *, wanted: int, aim: float, maxiter: int
    ) -> tuple[np.ndarray, int]:
        """Iterate from orthonormal x (n, m) until `wanted` residuals are at most `aim`.

        Returns the vectors and the number of steps taken.
        """
        n, m = x.shape
        # Columns: current vectors, previous directions, preconditioned residuals.
        basis = np.zeros((n, 3 * m), self.dtype)
        product = np.zeros((n, 3 * m), self.dtype)
        basis[:, :m], product[:, :m] = x, self.laplacian @ x
        values, rotation = np.linalg.eigh((x.T @ product[:, :m]).astype(np.float64))
        for block in (basis, product):
            block[:, :m] = block[:, :m] @ rotation.astype(self.dtype)
        best, since, old = np.inf, 0, m
        for step in range(maxiter):
            x = basis[:, :m]
            residual = x * -values.astype(self.dtype)
            residual += product[:, :m]
            norms = np.sqrt(np.einsum("nm,nm->m", residual, residual))
            worst = norms[:wanted].max(initial=0.0)
            if not np.isfinite(worst):
                raise np.linalg.LinAlgError("lobpcg: the residual is not finite")
            best, since = (worst, 0) if worst < best else (best, since + 1)
            if worst <= aim or since > PATIENCE:
                return x, step
            new = old + self._extend(basis, product, residual[:, norms > aim], m, old)
            values, coefficients = self._ritz(basis[:, :new], product[:, :new], m)
            for block in (basis, product):
                block[:, : 2 * m] = block[:, :new] @ coefficients
            old = 2 * m
        return basis[:, :m], maxiter

    def _extend(
        self, basis: np.ndarray, product: np.ndarray, residual: np.ndarray, m: int, at: int
    ) -> int:
        """Write preconditioned residuals and products at column `at`; returns their number."""
        new = self.multigrid.precondition(residual.astype(np.float32, copy=False))
        new = new.astype(self.dtype, copy=False)
        known = np.hstack([self.null, basis[:, :m]])
        new -= known @ (known.T @ new)
        new /= np.sqrt(np.einsum("nm,nm->m", new, new))
        end = at + new.shape[1]
        basis[:, at:end], product[:, at:end] = new, self.laplacian @ new
        return new.shape[1]

    def _ritz(
        self, basis: np.ndarray, product: np.ndarray, m: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The m smallest Ritz values in the span of the basis, and the coefficients of 2m columns.

        These are the new vectors, and the same without their part in the old vectors.
        """
        gram = (basis.T @ basis).astype(np.float64)
        energy = (basis.T @ product).astype(np.float64)
        scale = np.diag(gram) ** -0.5
        lengths, directions = np.linalg.eigh(gram * scale * scale[:, None])
        kept = lengths > DEPENDENT[self.dtype]
        orthonormal = scale[:, None] * directions[:, kept] / np.sqrt(lengths[kept])
        projected = orthonormal.T @ energy @ orthonormal
        values, vectors = np.linalg.eigh((projected + projected.T) / 2)
        coefficients = np.tile(orthonormal @ vectors[:, :m], 2)
        coefficients[:m, m:] = 0
        return values[:m], coefficients.astype(self.dtype)
