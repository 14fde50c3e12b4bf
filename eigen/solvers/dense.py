"""Full symmetric eigensolver, for graphs of up to a few thousand nodes."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from eigen.solvers.problem import NormalizedProblem


def dense(
    problem: NormalizedProblem,
    k: int,
    *,
    tolerance: float,
    seed: int,
    start: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k smallest pairs of L_sym by LAPACK, in float64; O(n^3) time, 3 n^2 float64 of memory.

    A direct method: `tolerance`, `seed` and `start` have no effect.

    Returns
    -------
    eigenvalues : ndarray, shape (k,), float64, ascending
    u : ndarray, shape (n, k), float64, orthonormal

    Raises
    ------
    numpy.linalg.LinAlgError
        LAPACK did not converge.
    """
    laplacian = problem.dense_laplacian()
    try:
        return scipy.linalg.eigh(laplacian, subset_by_index=(0, k - 1), check_finite=False)
    except np.linalg.LinAlgError:
        # LAPACK's fast driver (syevr) fails on some matrices with many equal eigenvalues.
        values, u = scipy.linalg.eigh(laplacian, driver="evd", check_finite=False)
        return values[:k], u[:, :k]
