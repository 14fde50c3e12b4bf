"""The whole chain on one picture: image -> features -> graph -> certified eigenpairs."""

from __future__ import annotations

import math

import cv2
import numpy as np

from eigen.extractors import Extractor
from eigen.extractors import extractor as make_extractor
from eigen.extractors.contract import cells_of, patch_grid
from eigen.graphs import build as graphs
from eigen.pairs import Cells, Eigenpairs
from eigen.solvers.solve import TOLERANCE, Solution, solve

MAX_PATCHES = 10_000
"""The dense graph of so many patches takes 400 MB, and seconds to solve."""


def reduced(image: np.ndarray, patch: int, max_patches: int = MAX_PATCHES) -> np.ndarray:
    """The picture, or one of the same proportions that has at most `max_patches` patches.

    The time of a dense graph grows with the square of its nodes: a photo of 12,000 x 8,000 pixels
    has 375,000 patches of 16 pixels, and would take days.
    """
    height, width = image.shape[:2]
    patches = math.prod(patch_grid((height, width), patch))
    if patches <= max_patches:
        return image
    scale = math.sqrt(max_patches / patches)
    size = max(1, int(width * scale)), max(1, int(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def eigenvectors(
    image: np.ndarray,
    extractor: Extractor | str,
    k: int = 5,
    *,
    graph: graphs.GraphSpec | None = None,
    solver: str = "auto",
    tolerance: float = TOLERANCE,
    drop_trivial: bool = False,
    seed: int = 0,
    max_patches: int = MAX_PATCHES,
) -> Eigenpairs:
    """Eigenpairs of one picture.

    Parameters
    ----------
    image : ndarray, shape (H, W, 3), uint8, RGB
    extractor : Extractor or str
        What `eigen.extractor` makes, or its name.
    k : int
        Pairs wanted; the constant eigenvector is the first of them unless `drop_trivial`.
    graph : GraphSpec, optional
        Default: the dense patch graph, W = max(X X^T, 0).
    solver, tolerance, seed
        See `eigen.solvers.solve.solve`.
    max_patches : int
        A picture of more patches is reduced first, see `reduced`.

    Raises
    ------
    GraphError
        The features make no valid graph (NaN).
    GraphError
        The picture has fewer nodes than pairs are wanted.
    eigen.solvers.solve.ConvergenceError
        No solver of the chain reached the tolerance.
    """
    if isinstance(extractor, str):
        extractor = make_extractor(extractor)
    seen = reduced(image, extractor.patch, max_patches)
    features = extractor([seen])[0]
    grid = extractor.grid(seen.shape[:2])
    cells = cells_of(extractor, image.shape[:2], seen.shape[:2])
    built = graphs.build(graph or graphs.GraphSpec(), features, grid, image, cells)
    return from_graph(
        built,
        image.shape[:2],
        k,
        solver=solver,
        tolerance=tolerance,
        drop_trivial=drop_trivial,
        seed=seed,
    )


def from_graph(
    graph: graphs.Graph,
    size: tuple[int, int],
    k: int,
    *,
    solver: str = "auto",
    tolerance: float = TOLERANCE,
    drop_trivial: bool = False,
    seed: int = 0,
) -> Eigenpairs:
    """Eigenpairs of a graph over a picture of `size` (H, W); as `eigenvectors`."""
    solution = solve(
        graph.W,
        k,
        grid=graph.grid,
        solver=solver,
        tol=tolerance,
        drop_trivial=drop_trivial,
        seed=seed,
    )
    return from_solution(solution, graph.grid, size, graph.cells)


def from_solution(
    solution: Solution, grid: tuple[int, int], size: tuple[int, int], cells: Cells
) -> Eigenpairs:
    """A solver's result on a grid (h, w), as eigenpairs of an image of `size` (H, W)."""
    return Eigenpairs(
        eigenvalues=solution.eigenvalues,
        vectors=solution.vectors.T.reshape(-1, *grid).astype(np.float32),
        residual=solution.residual.astype(np.float32),
        solver=solution.solver,
        size=(int(size[0]), int(size[1])),
        cells=cells,
    )
