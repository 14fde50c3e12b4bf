"""The eigenproblem as posed: (D - W) v = lambda D v, in its symmetric normalised form.

L_sym = I - S with S = D^-1/2 W D^-1/2 has eigenvalues in [0, 2]; an eigenvector u of L_sym gives
v = D^-1/2 u (Shi & Malik, IEEE PAMI 22(8), 2000, eq. 6-7). L_sym sqrt(d) = 0, and sqrt(d) spans its
null space if the graph is connected. S is never formed: products scale the vectors instead.
"""

from __future__ import annotations

import functools

import numpy as np
import scipy.sparse as sp

from eigen.graphs import affinity
from eigen.graphs.affinity import Affinity, TriangleAffinity
from eigen.graphs.cosine import CosineAffinity

# A vector this short relative to the longest is the rounding of a zero.
NO_LENGTH = 1e-5
# Squared relative length below which directions are left out: normalising them would multiply the
# rounding of their products by more than ten.
RANK_TOLERANCE = 1e-2


class NormalizedProblem:
    """The normalised eigenproblem of an affinity, as solvers take it.

    Parameters
    ----------
    W : affinity, shape (n, n)
        See `eigen.graphs.affinity`.
    grid : tuple of int, optional
        (h, w) of the nodes, for solvers that start on a coarser grid.
    check : bool
        Check W against the contract of an affinity; not needed for `eigen.graphs.build.build`.

    Raises
    ------
    GraphError
        W breaks the contract; names the first bad node.
    """

    def __init__(self, W: Affinity, *, grid: tuple[int, int] | None = None, check: bool = True):
        dtype = W.dtype if W.dtype in (np.float32, np.float64) else np.dtype(np.float64)
        if sp.issparse(W):
            W = sp.csr_array(W, dtype=dtype)
        elif isinstance(W, np.ndarray):
            W = W.astype(dtype, copy=False)
        # Unit features guarantee the contract, and the degrees cost a pass.
        if not isinstance(W, CosineAffinity):
            self.degree = affinity.degrees(W)
            if check:
                affinity.check(W, self.degree)
        # Products read only the upper half of a dense matrix.
        self.W = TriangleAffinity(np.triu(W)) if isinstance(W, np.ndarray) else W
        self.grid = grid
        self._scale: dict[np.dtype, np.ndarray] = {}

    @functools.cached_property
    def degree(self) -> np.ndarray:
        """Row sums of W, (n,) float64; of an affinity that is never stored, when first needed."""
        return affinity.degrees(self.W)

    @functools.cached_property
    def sqrt_degree(self) -> np.ndarray:
        """Square roots of the degrees, (n,) float64."""
        return np.sqrt(self.degree)

    @functools.cached_property
    def null_vector(self) -> np.ndarray:
        """`sqrt_degree` at unit length, a null vector of L_sym."""
        return self.sqrt_degree / np.linalg.norm(self.sqrt_degree)

    @property
    def n(self) -> int:
        """Number of nodes."""
        return self.W.shape[0]

    @property
    def is_sparse(self) -> bool:
        """Whether W is a sparse array."""
        return isinstance(self.W, sp.csr_array)

    @property
    def joins_neighbours(self) -> bool:
        """Whether a sparse W joins every node to its right and lower neighbours on the grid."""
        if self.grid is None or not isinstance(self.W, sp.csr_array):
            return False
        width = self.grid[1]
        inside = np.arange(1, self.n) % width != 0
        right, below = self.W.diagonal(1), self.W.diagonal(width)
        return bool(np.all(right[inside] > 0) and np.all(below > 0))

    @property
    def reach(self) -> int:
        """Largest distance of two joined nodes of a sparse W, as a difference of node indices."""
        entries = sp.coo_array(self.W)
        return int(np.abs(entries.row - entries.col).max(initial=0))

    def similarity(self, vectors: np.ndarray) -> np.ndarray:
        """S @ vectors, shape (n, m), in the dtype of `vectors`.

        float32 vectors with a float32 W are multiplied in float32. float64 vectors are multiplied
        and added in float64, whatever the dtype of W.
        """
        if vectors.dtype not in self._scale:
            self._scale[vectors.dtype] = (1 / self.sqrt_degree[:, None]).astype(vectors.dtype)
        scale = self._scale[vectors.dtype]
        scaled = scale * vectors
        return scale * (self.W @ scaled if self.is_sparse else self.W.matmat(scaled))

    def product(self, vectors: np.ndarray) -> np.ndarray:
        """W @ vectors, shape (n, m); the degrees too, by the same pass, if they are not known yet.

        They are then as exact as the dtype of `vectors`.
        """
        if "degree" in self.__dict__:
            return self.W.matmat(vectors)
        products = self.W.matmat(np.hstack([np.ones_like(vectors[:, :1]), vectors]))
        self.degree = products[:, 0].astype(np.float64)
        return products[:, 1:]

    def laplacian(self) -> sp.csr_array:
        """L_sym of a sparse W, float64."""
        scale = sp.diags_array(1 / self.sqrt_degree)
        S = scale @ sp.csr_array(self.W, dtype=np.float64) @ scale
        return (sp.eye_array(self.n) - S).tocsr()

    def dense_laplacian(self) -> np.ndarray:
        """L_sym, (n, n) float64, of any W; for small n."""
        scale = 1 / self.sqrt_degree
        return np.eye(self.n) - self.whole_affinity() * scale[:, None] * scale

    def whole_affinity(self) -> np.ndarray:
        """W as one (n, n) array."""
        if isinstance(self.W, TriangleAffinity | sp.csr_array):
            return self.W.toarray()
        return self.W.matmat(np.eye(self.n, dtype=self.W.dtype))

    def residual(self, eigenvalues: np.ndarray, u: np.ndarray) -> np.ndarray:
        """|L_sym u - lambda u| of each column of u at unit length, (K,) float64.

        Products of W as posed with float64 vectors, added in float64.
        """
        u = np.asarray(u, np.float64)
        u = u / np.linalg.norm(u, axis=0)
        return np.linalg.norm(u - self.similarity(u) - eigenvalues * u, axis=0)


def orthonormal(vectors: np.ndarray, products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An orthonormal basis of the span of `vectors`, and the same combinations of `products`.

    Parameters
    ----------
    vectors, products : ndarray, shape (n, m), float64
        `products` is any linear map of `vectors`.

    Returns
    -------
    basis, products : ndarray, shape (n, r)
        r < m where vectors depend on each other.
    """
    length = np.linalg.norm(vectors, axis=0)
    length = np.where(length > length.max() * NO_LENGTH, length, np.inf)
    unit = vectors / length
    squares, directions = np.linalg.eigh(unit.T @ unit)
    kept = squares > RANK_TOLERANCE
    combination = directions[:, kept] / np.sqrt(squares[kept])
    return unit @ combination, (products / length) @ combination
