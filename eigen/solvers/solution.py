"""A certified solution: canonical eigenpairs with the residuals of the problem as posed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.errors import EigenshapeError
from eigen.solvers.canonical import canonical_vectors
from eigen.solvers.problem import NormalizedProblem


class ConvergenceError(EigenshapeError, RuntimeError):
    """No solver that was tried reached the tolerance.

    Attributes
    ----------
    tolerance : float
    attempts : dict of str to str
        The residual that each solver reached, or its error.
    """

    def __init__(self, tolerance: float, attempts: dict[str, str]):
        super().__init__(tolerance, attempts)  # all arguments, so that the error survives pickling
        self.tolerance, self.attempts = tolerance, attempts

    def __str__(self) -> str:
        outcomes = "; ".join(f"{name}: {outcome}" for name, outcome in self.attempts.items())
        return (
            f"no solver reached a residual of {self.tolerance:g} ({outcomes}); "
            "raise the tolerance, name another solver, or leave this image out"
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
        |L_sym u - lambda u| for u = D^(1/2) v at unit length, from `vectors` as returned.
    solver : str
    """

    eigenvalues: np.ndarray
    vectors: np.ndarray
    residual: np.ndarray
    solver: str

    def without_first(self) -> Solution:
        """The solution without its constant vector."""
        return Solution(self.eigenvalues[1:], self.vectors[:, 1:], self.residual[1:], self.solver)


def certify(
    problem: NormalizedProblem, name: str, eigenvalues: np.ndarray, u: np.ndarray, *, seed: int
) -> Solution:
    """Bring a solver's pairs to their canonical form and measure the residuals of the result."""
    v = canonical_vectors(eigenvalues, u, problem.sqrt_degree, seed=seed, dtype=problem.W.dtype)
    unit = unit_vectors(v, problem.sqrt_degree)
    return measured(name, v, unit, problem.similarity(unit))


def unit_vectors(v: np.ndarray, sqrt_degree: np.ndarray) -> np.ndarray:
    """u = D^(1/2) v at unit length, (n, K) float64."""
    u = v * sqrt_degree[:, None]
    return u / np.linalg.norm(u, axis=0)


def measured(name: str, v: np.ndarray, u: np.ndarray, product: np.ndarray) -> Solution:
    """The solution v with the Rayleigh quotients and residuals of u = D^(1/2) v; product = S u."""
    values = np.sort(1 - np.einsum("nk,nk->k", u, product))
    residual = np.linalg.norm(u - product - values * u, axis=0)
    return Solution(values, v, residual, name)
