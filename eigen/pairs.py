"""Eigenpairs of one picture: what the whole of `eigen` produces and everything above it reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """The K smallest eigenpairs of (D - W) v = lambda D v on the node grid of one picture.

    Attributes
    ----------
    eigenvalues : ndarray, shape (K,), float64, ascending, in [0, 2]
    vectors : ndarray, shape (K, h, w), float32
        D-orthonormal, sign fixed by `eigen.solvers.canonical.fix_signs`. Index 0 is the constant
        vector unless the solve dropped it.
    residual : ndarray, shape (K,), float32
        2-norm of L_sym u - lambda u for the unit vector u = D^(1/2) v, recomputed from the problem
        as posed.
    solver : str
        Name of the solver whose result this is.
    size : tuple of int
        (H, W) of the picture in pixels.
    """

    eigenvalues: np.ndarray
    vectors: np.ndarray
    residual: np.ndarray
    solver: str
    size: tuple[int, int]

    @property
    def k(self) -> int:
        """Number of pairs."""
        return len(self.eigenvalues)

    @property
    def grid(self) -> tuple[int, int]:
        """Node grid (h, w)."""
        return self.vectors.shape[1], self.vectors.shape[2]
