"""Block Lanczos with thick restart for the largest eigenvalues of S = D^-1/2 W D^-1/2.

The known null vector is locked from the start, every
new block is orthogonalised against the whole basis, and Rayleigh-Ritz runs in float64 whatever the
precision of the products.

A Krylov space from a block of b vectors holds at most b copies of an eigenvalue. When b equal
values are found above the last one requested, there may be more of them, and the solve is repeated
with twice the block.

References
----------
Golub & Underwood, Mathematical Software III, 1977 (block Lanczos).
Wu & Simon, SIAM J. Matrix Anal. Appl. 22(2), 2000 (thick restart).
"""

from __future__ import annotations

import numpy as np

from eigen.solvers.problem import NormalizedProblem

# Orthonormal vectors and their products with S.
Multiplied = tuple[np.ndarray, np.ndarray]

# With a stored matrix each product costs the same; 2 finds double eigenvalues (mirror symmetry).
BLOCK = 2
# An operator that recomputes its entries multiplies many vectors at almost the cost of one.
OPERATOR_BLOCK = 64
# Blocks in the basis besides the vectors that a restart keeps: a restart applies a polynomial of
# that degree. An operator's blocks are wide, and each is a pass over all pairs of nodes.
BASIS_BLOCKS, OPERATOR_BASIS_BLOCKS = 30, 8
# Basis vectors per pair below which the pairs cannot have converged: no check is made.
LEAST_BASIS = 3
# One more block reduces residuals by less than this factor: from further away, two are added.
FAR = 100
# Re-orthogonalise until a pass keeps at least this fraction of the norm ("twice is enough").
MOSTLY_NEW, MOST_PASSES = 0.1, 6
# Below this tolerance float32 products do not suffice, and float64 is used.
FLOAT32_TOLERANCE = 1e-6


def block_lanczos(
    problem: NormalizedProblem,
    k: int,
    tolerance: float,
    seed: int,
    first: np.ndarray | Multiplied,
    block: int,
    max_restarts: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Largest k Ritz pairs of S; as good as they are after `max_restarts`.

    Parameters
    ----------
    first : ndarray, shape (n, block), or a pair of them
        The first block; or orthonormal vectors, orthogonal to the null vector, and their products.

    Returns
    -------
    theta : ndarray, shape (k,), float64, descending
    u : ndarray, shape (n, k)
    """
    basis = _Basis(problem, block, dtype_of_products(problem, tolerance), keep=k + block, seed=seed)
    residual = basis.begin(*first) if isinstance(first, tuple) else basis.grow(first)
    restarts, next_check = 0, min(LEAST_BASIS * k, problem.n)
    while True:
        if basis.size >= next_check or basis.is_full or basis.is_everything:
            theta, y = basis.ritz()
            estimate = np.linalg.norm(residual @ y[-residual.shape[1] :, :k], axis=0)
            converged = len(theta) >= k and estimate.max() <= tolerance / 2
            if converged or basis.is_everything or (basis.is_full and restarts == max_restarts):
                return theta[:k], basis.combine(y[:, :k])
            if estimate.max() > FAR * tolerance:
                next_check = basis.size + 2 * block
            if basis.is_full:
                basis.compress(theta, y)
                restarts += 1
        residual = basis.grow(residual)


def random_block(n: int, block: int, seed: int, start: np.ndarray | None) -> np.ndarray:
    """Random vectors (n, block); the columns of `start` replace the first of them."""
    first = np.random.default_rng([seed, n]).standard_normal((n, block))
    if start is not None:
        first[:, : start.shape[1]] = start[:, :block]
    return first


def fills_block(theta: np.ndarray, block: int, tolerance: float) -> bool:
    """Whether `block` values agree within the tolerance, above the last one requested.

    Index 0 is the locked null vector, which is no member of the Krylov space.
    """
    values = theta[1:]
    return bool(np.any(values[: len(values) - block] - values[block - 1 : -1] <= tolerance))


def dtype_of_products(problem: NormalizedProblem, tolerance: float) -> type:
    """Precision of the products."""
    narrow = problem.W.dtype == np.float32 and tolerance >= FLOAT32_TOLERANCE
    return np.float32 if narrow else np.float64


class _Basis:
    """Orthonormal Q, grown by blocks, with its projection H = Q^T S Q.

    Column 0 is the null vector, for which S u = u is known.
    """

    def __init__(
        self, problem: NormalizedProblem, block: int, dtype: type, *, keep: int, seed: int
    ):
        self._problem, self._block, self._keep = problem, block, keep
        blocks = OPERATOR_BASIS_BLOCKS if block >= OPERATOR_BLOCK else BASIS_BLOCKS
        capacity = min(problem.n, 1 + keep + blocks * block)
        self._q: np.ndarray = np.zeros((problem.n, capacity), dtype, order="F")
        self._q[:, 0] = problem.null_vector
        self._h = np.zeros((capacity, capacity))
        self._h[0, 0] = 1
        self.size = self._before_last = 1
        self._rng = np.random.default_rng([seed, problem.n, 1])

    @property
    def is_everything(self) -> bool:
        """Whether Q spans the whole space."""
        return self.size == self._problem.n

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another block."""
        return self.size + self._block > self._q.shape[1]

    def begin(self, new: np.ndarray, products: np.ndarray) -> np.ndarray:
        """Add orthonormal vectors, orthogonal to the null vector, whose products are known.

        Returns what `grow` does.
        """
        self._append(new)
        return self._project(products.astype(self._q.dtype))

    def grow(self, candidates: np.ndarray) -> np.ndarray:
        """Add the part of `candidates` (n, block) that is new, and multiply it.

        Returns S q - Q Q^T S q of the vectors q that were added.
        """
        self._append(self._new_part(candidates))
        return self._project(self._problem.similarity(self._q[:, self._before_last : self.size]))

    def _new_part(self, candidates: np.ndarray) -> np.ndarray:
        """Orthonormal, orthogonal to the basis; random directions replace dependent columns."""
        new = candidates[:, : self._problem.n - self.size].astype(self._q.dtype)
        for _ in range(MOST_PASSES):
            length = np.sqrt(np.einsum("nb,nb->b", new, new))
            new -= self._span @ (self._span.T @ new)
            new, r = np.linalg.qr(new)
            remaining = np.abs(np.diag(r)) / np.maximum(length, np.finfo(new.dtype).tiny)
            dependent = remaining <= 10 * np.finfo(new.dtype).eps
            if dependent.any():
                draw = self._rng.standard_normal((len(new), int(dependent.sum())))
                new[:, dependent] = draw
            elif remaining.min() >= MOSTLY_NEW:
                break
            # The small remainder of a vector suffers from cancellation: it needs another pass.
        return new

    def _append(self, new: np.ndarray) -> None:
        self._before_last, self.size = self.size, self.size + new.shape[1]
        self._q[:, self._before_last : self.size] = new

    def _project(self, product: np.ndarray) -> np.ndarray:
        """Fill H for the last block; returns the part of its product outside the basis."""
        columns = self._span.T @ product
        product -= self._span @ columns
        self._h[: self.size, self._before_last : self.size] = columns
        self._h[self._before_last : self.size, : self.size] = columns.T
        return product

    @property
    def _span(self) -> np.ndarray:
        return self._q[:, : self.size]

    def ritz(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues of H, largest first, and their vectors in terms of Q."""
        h = self._h[: self.size, : self.size]
        theta, y = np.linalg.eigh((h + h.T) / 2)
        return theta[::-1], y[:, ::-1]

    def combine(self, y: np.ndarray) -> np.ndarray:
        """Q y, in the dtype of Q."""
        return self._span @ y.astype(self._q.dtype)

    def compress(self, theta: np.ndarray, y: np.ndarray) -> None:
        """Keep the Ritz vectors of the largest values, which makes room for new blocks."""
        kept = min(self._keep, self.size)
        self._q[:, :kept] = self.combine(y[:, :kept])
        self._h[:] = 0
        self._h[range(kept), range(kept)] = theta[:kept]
        self.size = kept
