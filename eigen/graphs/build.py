"""From the features of a picture to the graph whose Laplacian is solved.

Two kinds, one interface: nodes of a *patch* graph are the extractor's patches, those of a *pixel*
graph are pixels or the cells of a coarser grid. Every graph built here keeps the contract of
`eigen.graphs.affinity`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp

from data.errors import GraphError, SettingError
from eigen.graphs import colour, cosine, pixels
from eigen.graphs.affinity import Affinity, weighted_sum
from eigen.graphs.pixels import PixelSpec
from eigen.pairs import Cells
from eigen.threads import one_pool

# A dense float32 affinity of more nodes than this (1.6 GB) is not stored but computed in products.
STORED_NODES = 20_000


@dataclass(frozen=True)
class GraphSpec:
    """Which graph to build.

    Attributes
    ----------
    kind : "patch" or "pixel"
    neighbours : int or None
        Patch graph: the largest similarities kept in each row, the node's own among them; None
        keeps all.
    colour : "none", "knn" or "random_walk"
        Patch graph: the colour affinity added, see `eigen.graphs.colour`.
    colour_weight : float
        Lambda, the weight of the colour affinity; 0 leaves it out.
    pixels : PixelSpec
        Pixel graph: its own parameters, see `eigen.graphs.pixels`.
    """

    kind: str = "patch"
    neighbours: int | None = None
    colour: str = "none"
    colour_weight: float = 0.0
    pixels: PixelSpec = field(default_factory=PixelSpec)

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, ("patch", "pixel"))
        _one_of("colour", self.colour, ("none", "knn", "random_walk"))
        if self.neighbours is not None and self.neighbours < 2:
            raise SettingError(f"neighbours: expected 2 or more, found {self.neighbours}")
        if not 0 <= self.colour_weight < np.inf:
            raise SettingError(f"colour_weight: expected 0 or more, found {self.colour_weight}")


def _one_of(field: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SettingError(f"{field}: expected one of {', '.join(allowed)}, found {value!r}")


@dataclass(frozen=True, eq=False)
class Graph:
    """An affinity W (n, n), float32; the grid (h, w) of its nodes, n = h*w; where they lie."""

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
    """The graph of one picture.

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
            f"a grid of {grid[0]} x {grid[1]} nodes needs as many features, found "
            f"{len(features)} rows"
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
    if spec.colour == "none" or spec.colour_weight == 0:
        return W
    return weighted_sum(W, _colour_affinity(spec, grid, image), spec.colour_weight)


def _colour_affinity(spec: GraphSpec, grid: tuple[int, int], image: np.ndarray) -> sp.csr_array:
    colours = colour.resize_for_grid(image, grid)
    if spec.colour == "knn":
        return colour.knn_affinity(colours)
    return colour.random_walk_affinity(colours)
