"""The whole chain on one picture: image -> features -> graph -> certified eigenpairs."""

from __future__ import annotations

import numpy as np

from eigen import graphs
from eigen.extractors import Extractor
from eigen.extractors import extractor as make_extractor
from eigen.pairs import Eigenpairs
from eigen.solve import TOLERANCE, solve


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
        See `eigen.solve.solve`.

    Raises
    ------
    eigen.affinity.AffinityError
        The features make no valid graph (NaN).
    eigen.solve.TooFewNodes
        The picture has fewer nodes than pairs are wanted.
    eigen.solve.ConvergenceError
        No solver of the chain reached the tolerance.
    """
    if isinstance(extractor, str):
        extractor = make_extractor(extractor)
    features = extractor([image])[0]
    grid = extractor.grid(image.shape[:2])
    built = graphs.build(graph or graphs.GraphSpec(), features, grid, image)
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
    return Eigenpairs(
        eigenvalues=solution.eigenvalues,
        vectors=solution.vectors.T.reshape(k, *graph.grid).astype(np.float32),
        residual=solution.residual.astype(np.float32),
        solver=solution.solver,
        size=(int(size[0]), int(size[1])),
    )
