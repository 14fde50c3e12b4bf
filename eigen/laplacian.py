"""The eigenproblem as posed: (D - W) v = lambda D v, held in its symmetric normalised form.

L_sym = I - S with S = D^-1/2 W D^-1/2 has eigenvalues in [0, 2]; an eigenvector u of L_sym gives
v = D^-1/2 u (Shi & Malik, IEEE PAMI 22(8), 2000, eq. 6-7). L_sym sqrt(d) = 0, and sqrt(d) spans its
null space if the graph is connected. S is never formed: products scale the vectors instead.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.linalg import blas

from eigen import affinity
from eigen.affinity import Affinity

ROWS_IN_CACHE = 32


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
        self.W, self.grid = W, grid
        self.degree = affinity.degrees(W)
        if check:
            affinity.check(W, self.degree)
        self.sqrt_degree = np.sqrt(self.degree)
        self.null_vector = self.sqrt_degree / np.linalg.norm(self.sqrt_degree)
        self._scale = {np.dtype(np.float64): 1 / self.sqrt_degree[:, None]}

    @property
    def n(self) -> int:
        """Number of nodes."""
        return self.W.shape[0]

    @property
    def is_dense(self) -> bool:
        return isinstance(self.W, np.ndarray)

    @property
    def is_sparse(self) -> bool:
        return sp.issparse(self.W)

    def similarity(self, vectors: np.ndarray) -> np.ndarray:
        """S @ vectors, shape (n, m), in the dtype of `vectors`.

        float32 vectors with a float32 W are multiplied in float32. float64 vectors are multiplied
        and added in float64, whatever W is stored in.
        """
        if vectors.dtype not in self._scale:
            self._scale[vectors.dtype] = self._scale[np.dtype(np.float64)].astype(vectors.dtype)
        scale = self._scale[vectors.dtype]
        return scale * self._product(scale * vectors)

    def _product(self, vectors: np.ndarray) -> np.ndarray:
        if self.is_sparse:
            return self.W @ vectors
        if not self.is_dense:
            return self.W.matmat(vectors)
        if vectors.dtype == self.W.dtype:
            return _symmetric_product(self.W, vectors)
        return _widened_product(self.W, vectors)

    def laplacian(self) -> sp.csr_array:
        """L_sym of a sparse W, float64."""
        scale = sp.diags_array(1 / self.sqrt_degree)
        S = scale @ self.W.astype(np.float64) @ scale
        return (sp.eye_array(self.n) - S).tocsr()

    def dense_laplacian(self) -> np.ndarray:
        """L_sym, (n, n) float64, of any W; for small n."""
        if self.is_sparse:
            return self.laplacian().toarray()
        scale = 1 / self.sqrt_degree
        W = self.W if self.is_dense else self.W.matmat(np.eye(self.n))
        S = W * scale[:, None] * scale
        # (x + y) / 2 rounds the same either way round: exactly symmetric, as LAPACK assumes.
        return np.eye(self.n) - (S + S.T) / 2

    def residual(self, eigenvalues: np.ndarray, u: np.ndarray) -> np.ndarray:
        """|L_sym u - lambda u| of each column of u at unit length, (K,) float64.

        Products of W as posed with float64 vectors, added in float64.
        """
        u = np.asarray(u, np.float64)
        u = u / np.linalg.norm(u, axis=0)
        return np.linalg.norm(u - self.similarity(u) - eigenvalues * u, axis=0)


def _symmetric_product(W: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """W @ vectors, a vector at a time.

    SYMV reads one triangle of W, and memory is what bounds it; GEMM with so thin a matrix was slower
    than as many SYMVs for up to four vectors at every size from 1,000 to 8,000 nodes.
    """
    symv = blas.ssymv if W.dtype == np.float32 else blas.dsymv
    result = np.empty(vectors.shape, W.dtype, order="F")
    for j in range(vectors.shape[1]):
        symv(1.0, W.T, vectors[:, j], y=result[:, j], overwrite_y=True)
    return result


def _widened_product(W: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """float32 W @ float64 vectors in float64, widening as many rows of W as stay in the cache."""
    n = len(W)
    result = np.empty(vectors.shape)
    rows = np.empty((min(ROWS_IN_CACHE, n), n))
    for start in range(0, n, ROWS_IN_CACHE):
        stop = min(start + ROWS_IN_CACHE, n)
        np.copyto(rows[: stop - start], W[start:stop])
        np.matmul(rows[: stop - start], vectors, out=result[start:stop])
    return result
