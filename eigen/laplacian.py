"""The eigenproblem as posed: (D - W) v = lambda D v, held in its symmetric normalised form.

L_sym = I - S with S = D^-1/2 W D^-1/2 has eigenvalues in [0, 2]; an eigenvector u of L_sym gives
v = D^-1/2 u (Shi & Malik, IEEE PAMI 22(8), 2000, eq. 6-7). L_sym sqrt(d) = 0, and sqrt(d) spans its
null space if the graph is connected. S is never formed: products scale the vectors instead.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from eigen import affinity
from eigen.affinity import Affinity, TriangleAffinity


class NormalizedProblem:
    """What every solver is given.

    Parameters
    ----------
    W : affinity, shape (n, n)
        See `eigen.affinity`.
    grid : tuple of int, optional
        (h, w) of the nodes, for solvers that start on a coarser grid.
    check : bool
        Hold W to the contract of an affinity; False for graphs made by `eigen.graphs`.

    Attributes
    ----------
    degree, sqrt_degree : ndarray, shape (n,), float64
    null_vector : ndarray, shape (n,), float64
        sqrt_degree at unit length.

    Raises
    ------
    AffinityError
        W breaks the contract; names the first bad node.
    """

    def __init__(self, W: Affinity, *, grid: tuple[int, int] | None = None, check: bool = True):
        dtype = W.dtype if W.dtype in (np.float32, np.float64) else np.dtype(np.float64)
        if sp.issparse(W):
            W = sp.csr_array(W, dtype=dtype)
        elif isinstance(W, np.ndarray):
            W = W.astype(dtype, copy=False)
        self.degree = affinity.degrees(W)
        if check:
            affinity.check(W, self.degree)
        # Products read half of a dense matrix; from here on it is symmetric.
        self.W = TriangleAffinity(np.triu(W)) if isinstance(W, np.ndarray) else W
        self.grid = grid
        self.sqrt_degree = np.sqrt(self.degree)
        self.null_vector = self.sqrt_degree / np.linalg.norm(self.sqrt_degree)
        self._scale = {np.dtype(np.float64): 1 / self.sqrt_degree[:, None]}

    @property
    def n(self) -> int:
        """Number of nodes."""
        return self.W.shape[0]

    @property
    def is_sparse(self) -> bool:
        return isinstance(self.W, sp.csr_array)

    @property
    def joins_neighbours(self) -> bool:
        """Whether a sparse W joins every node to those beside and below it on the grid."""
        if self.grid is None or not isinstance(self.W, sp.csr_array):
            return False
        width = self.grid[1]
        inside = np.arange(1, self.n) % width != 0
        beside, below = self.W.diagonal(1), self.W.diagonal(width)
        return bool(np.all(beside[inside] > 0) and np.all(below > 0))

    @property
    def reach(self) -> int:
        """Largest distance of two joined nodes of a sparse W, in places of the node order."""
        entries = sp.coo_array(self.W)
        return int(np.abs(entries.row - entries.col).max(initial=0))

    def similarity(self, vectors: np.ndarray) -> np.ndarray:
        """S @ vectors, shape (n, m), in the dtype of `vectors`.

        float32 vectors with a float32 W are multiplied in float32. float64 vectors are multiplied
        and added in float64, whatever W is stored in.
        """
        if vectors.dtype not in self._scale:
            self._scale[vectors.dtype] = self._scale[np.dtype(np.float64)].astype(vectors.dtype)
        scale = self._scale[vectors.dtype]
        scaled = scale * vectors
        return scale * (self.W @ scaled if self.is_sparse else self.W.matmat(scaled))

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
