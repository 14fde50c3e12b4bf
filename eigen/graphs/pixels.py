"""The pixel graph: nodes are pixels, or the cells of a coarser grid laid over the whole image.

Two kinds of edges, both weighted by the colours of their ends and by the similarity of the features
interpolated there:

- *neighbours*: the eight cells around each. They carry the borders, at the resolution of the grid.
- *links*: the image is divided into about a thousand blocks, and each block is linked to those
  nearest to it in colour, position and features. A link is a few edges between cells at the same
  position in the two blocks. Links join regions across gaps, cost little memory, and keep the same
  weight relative to the neighbours at any resolution.

Contract: as `eigen.graphs.affinity`: CSR, float32, exactly symmetric, non-negative, no zero row.
The graph is connected: neighbours never weigh less than `FLOOR`.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy import sparse

from eigen.graphs.colour import nearest
from eigen.graphs.cosine import check_features
from eigen.graphs.spec import PixelSpec
from eigen.pairs import Cells
from eigen.upsample import upsample

# Least weight of a neighbour; the largest is 1 + FLOOR.
FLOOR = 1e-2
# Down, right and the two diagonals: each pair of neighbours once.
STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))
BLOCKS = 1000
EDGES_OF_A_LINK = 8
# Distance 1 in the search for links: 1/0.3 of the longer side of the image, 100 CIELAB units, or a
# distance of 1/0.3 between features (orthogonal ones are at 1.4).
PLACE, FEATURES = 0.3, 0.3
LAB = 100.0
# Principal components of the features that are interpolated; they suffice to separate regions.
COMPONENTS = 16


def build(
    spec: PixelSpec,
    features: np.ndarray,
    grid: tuple[int, int],
    image: np.ndarray,
    cells: Cells | None = None,
) -> tuple[sparse.csr_array, tuple[int, int]]:
    """The pixel graph of one image.

    Parameters
    ----------
    spec : PixelSpec
    features, grid, image, cells
        As `eigen.graphs.build.build`.

    Returns
    -------
    W : csr_array, shape (n, n), float32
    node_grid : tuple of int
        (ceil(H / step), ceil(W / step)) for the step in effect; its product is n.

    Raises
    ------
    GraphError
        Features that are not finite unit rows; names the patch.
    """
    check_features(features)
    size = image.shape[:2]
    node_grid = _node_grid(spec, size)
    n = node_grid[0] * node_grid[1]
    if n == 1:
        return sparse.csr_array(np.ones((1, 1), np.float32)), node_grid
    colours = cv2.cvtColor(_resized(image.astype(np.float32) / 255, node_grid), cv2.COLOR_RGB2LAB)
    i, j, w = _edges(spec, colours, _feature_maps(features, grid, size, cells, node_grid))
    W = sparse.csr_array(
        (np.concatenate([w, w]), (np.concatenate([i, j]), np.concatenate([j, i]))), shape=(n, n)
    )
    W.eliminate_zeros()
    return W, node_grid


def _edges(
    spec: PixelSpec, colours: np.ndarray, maps: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both ends of each edge, once, and its weight."""

    def weight(a: tuple, b: tuple) -> np.ndarray:
        difference = colours[a] - colours[b]
        squared = np.einsum("...c,...c->...", difference, difference)
        similarity = np.einsum("...c,...c->...", maps[a], maps[b])
        return np.exp(squared / (-2 * spec.colour_width**2)) * (
            np.maximum(similarity, 0) ** spec.feature_power
        )

    height, width = colours.shape[:2]
    index = np.arange(height * width, dtype=np.int32).reshape(height, width)
    ends, others, weights = [], [], []
    for down, right in STEPS:
        a, b = _shifted((height, width), down, right)
        ends.append(index[a].ravel())
        others.append(index[b].ravel())
        weights.append((weight(a, b) + np.float32(FLOOR)).ravel())
    if spec.links:
        a, b, share = _links(colours, maps, spec.links)
        ends.append(index[a])
        others.append(index[b])
        weights.append(weight(a, b) * np.float32(share))
    return np.concatenate(ends), np.concatenate(others), np.concatenate(weights)


def _node_grid(spec: PixelSpec, size: tuple[int, int]) -> tuple[int, int]:
    step = spec.step
    while -(-size[0] // step) * -(-size[1] // step) > spec.max_nodes:
        step += 1
    return -(-size[0] // step), -(-size[1] // step)


def _shifted(grid: tuple[int, int], down: int, right: int) -> tuple[tuple, tuple]:
    """Slices that pair each cell with the one `down` rows below it and `right` columns after."""
    height, width = grid
    first = slice(0, max(0, height - down)), slice(max(0, -right), width - max(0, right))
    second = slice(down, height), slice(max(0, right), width - max(0, -right))
    return first, second


def _resized(planes: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) averaged over the cells of a coarser grid."""
    if planes.shape[:2] == grid:
        return planes
    return cv2.resize(planes, (grid[1], grid[0]), interpolation=cv2.INTER_AREA)


def _feature_maps(
    features: np.ndarray,
    grid: tuple[int, int],
    size: tuple[int, int],
    cells: Cells | None,
    node_grid: tuple[int, int],
) -> np.ndarray:
    """Unit features at the nodes, (h, w, components): projected, interpolated, normalised again."""
    _, directions = np.linalg.eigh((features.T @ features).astype(np.float64))
    projected = features @ directions[:, -COMPONENTS:].astype(np.float32)
    planes = upsample(projected.T.reshape(-1, *grid), size, cells=cells)
    maps = np.stack([_resized(plane, node_grid) for plane in planes], axis=-1)
    length = np.sqrt(np.einsum("hwc,hwc->hw", maps, maps))
    maps /= np.maximum(length, np.finfo(np.float32).tiny)[..., None]
    return maps


def _links(
    colours: np.ndarray, maps: np.ndarray, count: int
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray], float]:
    """Edges of the links: (rows, columns) of their two ends, and the factor of their weights."""
    height, width = colours.shape[:2]
    side = max(2, round(np.sqrt(height * width / BLOCKS)))
    # Blocks cut off by the border have no partner for each of their cells.
    rows, columns = height // side, width // side
    if rows * columns < 2:
        none = np.empty(0, np.intp)
        return (none, none), (none, none), 1.0
    first, second = _block_pairs(colours, maps, (rows, columns), side, count)
    edges = min(EDGES_OF_A_LINK, side * side)
    # Links of one block use its cells in turn, in an order that spreads neighbours in the order
    # over the block; the same for every image.
    order = np.random.default_rng(0).permutation(side * side)
    cell = order[np.arange(len(first) * edges) % (side * side)].reshape(len(first), edges)
    down, right = np.divmod(cell, side)

    def at(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        row, column = np.divmod(block, columns)
        return (row[:, None] * side + down).ravel(), (column[:, None] * side + right).ravel()

    return at(first), at(second), EDGES_OF_A_LINK / edges


def _block_pairs(
    colours: np.ndarray, maps: np.ndarray, blocks: tuple[int, int], side: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each pair of linked blocks once, the smaller index first, in ascending order."""
    height, width = blocks[0] * side, blocks[1] * side

    def means(planes: np.ndarray) -> np.ndarray:
        tiles = planes[:height, :width].reshape(blocks[0], side, blocks[1], side, -1)
        return tiles.mean(axis=(1, 3)).reshape(blocks[0] * blocks[1], -1)

    place = np.indices(blocks).reshape(2, -1).T * (PLACE / max(blocks))
    points = np.hstack([means(colours) / LAB, means(maps) * FEATURES, place])
    neighbours = nearest(points, count + 1)
    block = np.repeat(np.arange(len(points)), neighbours.shape[1])
    other = neighbours.ravel()
    pairs = np.unique(
        np.minimum(block, other).astype(np.int64) * len(points) + np.maximum(block, other)
    )
    first, second = np.divmod(pairs, len(points))
    apart = first != second
    return first[apart], second[apart]
