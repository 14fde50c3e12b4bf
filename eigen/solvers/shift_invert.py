"""Inverse iteration by a sparse factorisation, for planar and banded graphs.

ARPACK on (L_sym - SIGMA I)^-1 with a small negative shift: the unshifted matrix is singular, and a
Laplacian shifted down is positive definite. Exact to rounding, and fast while the factor is sparse:
on a grid it grows as n log n. A graph with long edges everywhere (nearest neighbours in feature
space) fills it in, so the fill-in is estimated first and such a graph is refused.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import reverse_cuthill_mckee
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh, splu

from eigen.solvers.dense import dense
from eigen.solvers.problem import NormalizedProblem

SIGMA = -1e-5
# Entries of the factor, 12 bytes each: 6 GB.
MAX_FILL = 500_000_000


def shift_invert(
    problem: NormalizedProblem,
    k: int,
    *,
    tolerance: float,
    seed: int,
    start: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k smallest pairs of L_sym of a sparse planar or banded graph.

    Parameters
    ----------
    tolerance : float
        Passed to ARPACK relative to its eigenvalues 1 / (lambda - SIGMA), which is stricter.
    seed : int
        Decides the start vector where `start` is None.
    start : ndarray, shape (n, m), optional
        Guess for the eigenvectors; the sum of its columns starts the iteration.

    Returns
    -------
    eigenvalues : ndarray, shape (k,), float64, ascending
    u : ndarray, shape (n, k), float64, orthonormal

    Raises
    ------
    numpy.linalg.LinAlgError
        W is not sparse, its factor would fill in, or ARPACK did not converge.
    """
    if problem.n < 5 * (k + 2):
        return dense(problem, k, tolerance=tolerance, seed=seed)
    if not problem.is_sparse:
        raise np.linalg.LinAlgError("shift_invert: needs a sparse graph; use lanczos")
    laplacian = problem.laplacian()
    fill = fill_estimate(laplacian)
    if fill > MAX_FILL:
        raise np.linalg.LinAlgError(
            f"shift_invert: the factor may take {fill:.1e} entries, more than {MAX_FILL:.0e}; "
            "use lobpcg or lanczos for a graph with long edges"
        )
    shifted = (laplacian - SIGMA * sparse.eye_array(problem.n)).tocsc()
    # Symmetric mode: the matrix is positive definite, so its diagonal serves as pivots.
    factor = splu(
        shifted, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    inverse = LinearOperator(shifted.shape, matvec=factor.solve, dtype=np.float64)
    if start is None:
        v0 = np.random.default_rng(seed).standard_normal(problem.n)
    else:
        v0 = np.asarray(start, np.float64).sum(axis=1)
    try:
        values, vectors = eigsh(
            laplacian, k, sigma=SIGMA, which="LM", OPinv=inverse, v0=v0, tol=0.1 * tolerance
        )
    except ArpackNoConvergence as error:
        raise np.linalg.LinAlgError(f"shift_invert: {error}") from error
    order = np.argsort(values)
    return values[order], vectors[:, order]


def fill_estimate(matrix: sparse.csr_array) -> float:
    """Upper bound of the entries of a factor of a symmetric matrix, in linear time.

    The lesser of two bounds: the profile after reverse Cuthill-McKee ordering, which is exact for
    an envelope factorisation, and, where that ordering shows the graph to be no wider than a
    planar one (bandwidth at most 4 sqrt(n)), 31 n log2 n / 4, the bound of nested dissection on an
    n-node grid (George and Liu 1981, section 8.1).
    """
    n = matrix.shape[0]
    order = reverse_cuthill_mckee(sparse.csr_array(matrix), symmetric_mode=True)
    position = np.empty(n, np.int64)
    position[order] = np.arange(n)
    entries = matrix.tocoo()
    row, column = position[entries.row], position[entries.col]
    first = np.arange(n)
    np.minimum.at(first, row, column)
    reach = np.arange(n) - first
    profile = float(reach.sum() + n)
    if reach.max() <= 4 * np.sqrt(n):
        return min(profile, 31 / 4 * n * max(1.0, np.log2(n)))
    return profile
