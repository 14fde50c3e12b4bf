"""The whole chain on one image: image -> features -> graph -> certified eigenpairs."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np

from data.errors import SettingError
from eigen.extractors import Extractor
from eigen.extractors import extractor as make_extractor
from eigen.extractors.contract import cells_of, patch_grid
from eigen.extractors.spec import MAX_PATCHES
from eigen.graphs.build import Graph, GraphSpec, build
from eigen.pairs import Cells, Eigenpairs
from eigen.solvers.solution import Solution
from eigen.solvers.solve import solve
from eigen.solvers.spec import SolveSpec

_SOLVE = SolveSpec()
_extractor_named = functools.lru_cache(maxsize=4)(make_extractor)
"""By name alone: weights then come from the hub or a package, and do not change."""


@dataclass(frozen=True, eq=False)
class Features:
    """Features of one image.

    Attributes
    ----------
    rows : ndarray, shape (h*w, d), float32, unit rows, row-major over `grid`
    grid : tuple of int
        Patches (h, w).
    cells : Cells
        Where they lie in the image.
    size : tuple of int
        (H, W) of the image in pixels, before it was reduced.
    """

    rows: np.ndarray
    grid: tuple[int, int]
    cells: Cells
    size: tuple[int, int]


def reduced(image: np.ndarray, patch: int, max_patches: int = MAX_PATCHES) -> np.ndarray:
    """The image, or a smaller one of the same proportions with at most `max_patches` patches.

    The time of a dense graph grows with the square of its nodes: an image of 12,000 x 8,000 pixels
    has 375,000 patches of 16 pixels, and would take days.
    """
    if max_patches < 1:
        raise SettingError(f"max_patches: expected 1 or more; found {max_patches}")
    height, width = image.shape[:2]
    patches = math.prod(patch_grid((height, width), patch))
    if patches <= max_patches:
        return image
    scale = math.sqrt(max_patches / patches)
    size = max(1, int(width * scale)), max(1, int(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def features_of(
    image: np.ndarray, extractor: Extractor, max_patches: int = MAX_PATCHES
) -> Features:
    """Features of an image (H, W, 3) uint8, reduced first to at most `max_patches` patches."""
    pixels = reduced(image, extractor.patch, max_patches)
    size, resized = (image.shape[0], image.shape[1]), (pixels.shape[0], pixels.shape[1])
    cells = cells_of(extractor, size, resized)
    return Features(extractor([pixels])[0], extractor.grid(resized), cells, size)


def graph_of(
    image: np.ndarray,
    extractor: Extractor,
    graph: GraphSpec | None = None,
    max_patches: int = MAX_PATCHES,
) -> Graph:
    """The graph of an image (H, W, 3) uint8; errors as `eigen.graphs.build.build`."""
    features = features_of(image, extractor, max_patches)
    return build(graph or GraphSpec(), features.rows, features.grid, image, features.cells)


def eigenvectors(
    image: np.ndarray,
    extractor: Extractor | str,
    k: int = _SOLVE.k,
    *,
    graph: GraphSpec | None = None,
    solver: str = _SOLVE.solver,
    tolerance: float = _SOLVE.tolerance,
    drop_trivial: bool = _SOLVE.drop_trivial,
    seed: int = _SOLVE.seed,
    max_patches: int = MAX_PATCHES,
) -> Eigenpairs:
    """Eigenpairs of one image.

    Parameters
    ----------
    image : ndarray, shape (H, W, 3), uint8, RGB
    extractor : Extractor or str
        An extractor made by `eigen.extractor`, or the name of one; the last four are cached.
    k : int
        Number of pairs; the constant eigenvector is the first of them unless `drop_trivial`.
    graph : GraphSpec, optional
        Default: the dense patch graph, W = max(X X^T, 0).
    solver, tolerance, drop_trivial, seed
        See `eigen.solvers.spec.SolveSpec`.
    max_patches : int
        A larger image is reduced first, see `reduced`.

    Raises
    ------
    SettingError
        A setting out of its range or without effect.
    GraphError
        The features do not make a valid graph (NaN), or there are fewer nodes than pairs.
    eigen.solvers.solution.ConvergenceError
        No solver that was tried reached the tolerance.
    """
    spec = SolveSpec(k=k, solver=solver, tolerance=tolerance, drop_trivial=drop_trivial, seed=seed)
    if isinstance(extractor, str):
        extractor = _extractor_named(extractor)
    size = (image.shape[0], image.shape[1])
    return from_graph(graph_of(image, extractor, graph, max_patches), size, spec)


def from_graph(graph: Graph, size: tuple[int, int], spec: SolveSpec | int = _SOLVE) -> Eigenpairs:
    """Eigenpairs of a graph over an image of `size` (H, W); errors as `eigenvectors`."""
    solution = solve(graph.W, spec, grid=graph.grid)
    return from_solution(solution, graph.grid, size, graph.cells)


def from_solution(
    solution: Solution, grid: tuple[int, int], size: tuple[int, int], cells: Cells
) -> Eigenpairs:
    """A solution on a node grid (h, w), as eigenpairs of an image of `size` (H, W)."""
    return Eigenpairs(
        eigenvalues=solution.eigenvalues,
        vectors=solution.vectors.T.reshape(-1, *grid).astype(np.float32),
        residual=solution.residual.astype(np.float32),
        solver=solution.solver,
        size=(int(size[0]), int(size[1])),
        cells=cells,
    )
