"""Build the graph of an image, whose Laplacian is solved, from its features.

Two kinds, one interface: nodes of a *patch* graph are the extractor's patches, those of a *pixel*
graph are pixels or the cells of a coarser grid. Every graph built here keeps the contract of
`eigen.graphs.affinity`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from data.errors import GraphError
from eigen.graphs import colour, cosine, pixels
from eigen.graphs.affinity import Affinity, weighted_sum
from eigen.graphs.spec import GraphSpec
from eigen.pairs import Cells
from eigen.threads import one_pool

# A dense float32 affinity of more nodes (1.6 GB) is not stored; products compute it again.
STORED_NODES = 20_000


@dataclass(frozen=True, eq=False)
class Graph:
    """An affinity W (n, n), float32; the grid (h, w) of its n = h*w nodes; where they lie."""

    W: Affinity
    grid: tuple[int, int]
    cells: Cells


@one_pool()
def build(
    spec: GraphSpec,
    features: np.ndarray,
    grid: tuple[int, int],
    image: np.ndarray,
    cells: Cells | None = None,
) -> Graph:
    """The graph of one image.

    Parameters
    ----------
    spec : GraphSpec
    features : ndarray, shape (h*w, d), float32
        Unit rows, row-major over `grid`.
    grid : tuple of int
        (h, w) of the extractor.
    image : ndarray, shape (H, W, 3), uint8
    cells : Cells, optional
        Where the extractor's grid lies in `image`; by default it covers the image exactly.

    Raises
    ------
    GraphError
        Features that are not finite unit rows, or not one for each node; names the node.
    """
    if len(features) != grid[0] * grid[1]:
        raise GraphError(
            f"features: expected {grid[0] * grid[1]} rows for a grid of {grid[0]} x {grid[1]} "
            f"nodes, found {len(features)}"
        )
    size = image.shape[0], image.shape[1]
    cells = cells or Cells.over(size, grid)
    if spec.kind == "pixel":
        W, node_grid = pixels.build(spec.pixels, features, grid, image, cells)
        return Graph(W, node_grid, Cells.over(size, node_grid))
    return Graph(_patch_affinity(spec, features, grid, image), grid, cells)


def _patch_affinity(
    spec: GraphSpec, features: np.ndarray, grid: tuple[int, int], image: np.ndarray
) -> Affinity:
    W: Affinity
    if spec.neighbours is not None:
        W = cosine.nearest(features, spec.neighbours)
    elif len(features) <= STORED_NODES:
        W = cosine.dense(features)
    else:
        W = cosine.CosineAffinity(features)
    if spec.colour == "none":
        return W
    return weighted_sum(W, _colour_affinity(spec, grid, image), spec.colour_weight)


def _colour_affinity(spec: GraphSpec, grid: tuple[int, int], image: np.ndarray) -> sp.csr_array:
    colours = colour.resize_for_grid(image, grid)
    if spec.colour == "knn":
        return colour.knn_affinity(colours)
    return colour.random_walk_affinity(colours)
