"""Eigenpairs of one image and the geometry of their grid: what everything above `eigen` reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.arguments import pair
from data.errors import SettingError

Size = tuple[int, int]


@dataclass(frozen=True)
class Cells:
    """Where the cells of a node grid lie in the image, in image pixels.

    Cell (i, j) covers rows `top + i * height` to `top + (i + 1) * height`, and columns likewise.
    The grid need not end where the image does: whole patches leave a strip uncovered at the lower
    and right border, and a patch larger than the image reaches beyond it.

    Attributes
    ----------
    height, width : float
        Extent of a cell; not an integer where the image was resized before features were computed.
    top, left : float
        Upper left corner of cell (0, 0).
    """

    height: float
    width: float
    top: float = 0.0
    left: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.height < np.inf and 0 < self.width < np.inf):
            raise SettingError(
                f"cells: expected a height and a width above 0, found {self.height} x {self.width}"
            )

    @classmethod
    def of_patches(cls, patch: int) -> Cells:
        """Square patches of `patch` pixels, laid from the upper left corner of the image."""
        return cls(patch, patch)

    @classmethod
    def over(cls, size: Size, grid: Size) -> Cells:
        """The cells of a grid (h, w) that covers an image of `size` (H, W) exactly."""
        rows, columns = pair("grid", grid)
        return cls(size[0] / rows, size[1] / columns)

    @classmethod
    def inferred(cls, size: Size, grid: Size) -> Cells:
        """The most plausible cells where they were not recorded, as in shards of version 1.

        Squares of the largest integer side P with grid == (max(1, H // P), max(1, W // P)); where
        there is none, the grid is taken to cover the image. On small images several sides fit, and
        the largest is not always the one that was used.
        """
        # A single cell may be larger than the image, so it sets no upper bound.
        upper = [n // cells for n, cells in zip(size, grid, strict=True) if cells > 1]
        side = min(upper) if upper else max(size)
        fits = side >= 1 and all(
            max(1, n // side) == cells for n, cells in zip(size, grid, strict=True)
        )
        return cls(side, side) if fits else cls.over(size, grid)

    def resized(self, size: Size, target: Size) -> Cells:
        """The same cells after the image is resized from `size` to `target`, both (H, W)."""
        if size == target:
            return self
        down, right = target[0] / size[0], target[1] / size[1]
        return Cells(self.height * down, self.width * right, self.top * down, self.left * right)


@dataclass(frozen=True, eq=False, repr=False)
class Eigenpairs:
    """The K smallest eigenpairs of (D - W) v = lambda D v on the node grid of one image.

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
        (H, W) of the image in pixels.
    cells : Cells
        Where the nodes lie in the image.
    """

    eigenvalues: np.ndarray
    vectors: np.ndarray
    residual: np.ndarray
    solver: str
    size: Size
    cells: Cells

    @property
    def k(self) -> int:
        """Number of pairs."""
        return len(self.eigenvalues)

    @property
    def grid(self) -> Size:
        """Node grid (h, w)."""
        return self.vectors.shape[1], self.vectors.shape[2]

    def __repr__(self) -> str:
        shown = np.array2string(self.eigenvalues, precision=4, threshold=6, edgeitems=3)
        return (
            f"Eigenpairs(k={self.k}, grid={self.grid}, size={self.size}, solver={self.solver!r}, "
            f"eigenvalues={shown})"
        )
