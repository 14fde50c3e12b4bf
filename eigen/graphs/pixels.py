"""The pixel graph: nodes are pixels, or the cells of a coarser grid laid over the whole photo.

Two kinds of edges, both weighted by the colours of their ends and by the similarity of the features
interpolated there:

- *neighbours*: the eight cells around each. They carry the borders, at the resolution of the grid.
- *links*: the photo is divided into about a thousand blocks, and each block is linked to those
  nearest to it in colour, place and features. A link is a handful of edges between cells at the
  same position in the two blocks. They join what the eye joins across gaps, cost little memory,
  and weigh the same against the neighbours at any resolution.

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
# What counts as distance 1 in the search for links: the longer side of the photo times 1/0.3, 100
# CIELAB units, features at a distance of 1/0.3 (orthogonal ones are at 1.4).
PLACE, FEATURES = 0.3, 0.3
LAB = 100.0
# Principal components of the features that are interpolated; they hold what tells regions apart.
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
    features : ndarray, shape (h*w, d), float32
        Unit rows, row-major over `grid`.
    grid : tuple of int
        (h, w) of the extractor.
    image : ndarray, shape (H, W, 3), uint8
    cells : Cells, optional
        Where the extractor's grid lies in `image`; by default it covers the image exactly.

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
    maps = _feature_maps(features, grid, size, cells, node_grid)

    def weight(a: tuple, b: tuple) -> np.ndarray:
        difference = colours[a] - colours[b]
        squared = np.einsum("...c,...c->...", difference, difference)
        similarity = np.einsum("...c,...c->...", maps[a], maps[b])
        return np.exp(squared / (-2 * spec.colour_width**2)) * (
            np.maximum(similarity, 0) ** spec.feature_power
        )

    index = np.arange(n, dtype=np.int32).reshape(node_grid)
    ends, others, weights = [], [], []
    for down, right in STEPS:
        a, b = _shifted(node_grid, down, right)
        ends.append(index[a].ravel())
        others.append(index[b].ravel())
        weights.append((weight(a, b) + np.float32(FLOOR)).ravel())
    if spec.links:
        a, b, share = _links(colours, maps, spec.links)
        ends.append(index[a])
        others.append(index[b])
        weights.append(weight(a, b) * np.float32(share))
    i, j, w = np.concatenate(ends), np.concatenate(others), np.concatenate(weights)
    W = sparse.csr_array(
        (np.concatenate([w, w]), (np.concatenate([i, j]), np.concatenate([j, i]))), shape=(n, n)
    )
    W.eliminate_zeros()
    return W, node_grid


def _node_grid(spec: PixelSpec, size: tuple[int, int]) -> tuple[int, int]:
    step = spec.step
    while -(-size[0] // step) * -(-size[1] // step) > spec.max_nodes:
        step += 1
    return -(-size[0] // step), -(-size[1] // step)


def _shifted(grid: tuple[int, int], down: int, right: int) -> tuple[tuple, tuple]:
    """Slices that pair each cell with the one `down` rows below and `right` columns on."""
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
    """Unit features at the nodes, (h, w, components): projected, interpolated, made unit again."""
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
    """Edges of the links: (rows, columns) of their two ends, and the weight of each against 1."""
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
    # over the block; the same for every photo.
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
    found = nearest(points, count + 1)
    block = np.repeat(np.arange(len(points)), found.shape[1])
    other = found.ravel()
    pairs = np.unique(
        np.minimum(block, other).astype(np.int64) * len(points) + np.maximum(block, other)
    )
    first, second = np.divmod(pairs, len(points))
    apart = first != second
    return first[apart], second[apart]
