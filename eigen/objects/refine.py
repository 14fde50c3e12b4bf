"""Masks on the node grid, refined to pixels by the pixel graph."""

from __future__ import annotations

import cv2
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import cg

from eigen.graphs import pixels
from eigen.graphs.pixels import PixelSpec
from eigen.pairs import Cells
from eigen.threads import one_pool
from eigen.upsample import upsample

# Weight of the grid's answer at a pixel, next to 8 neighbours of weight 1 at most.
PRIOR_WEIGHT = 0.08
TOLERANCE, MOST_ITERATIONS = 1e-3, 300
# Neighbours alone: a mask is moved to the nearest edges, not to like colours elsewhere.
REFINEMENT = PixelSpec(step=2, max_nodes=100_000, links=0)


@one_pool()
def refine(
    masks: np.ndarray,
    image: np.ndarray,
    features: np.ndarray,
    *,
    cells: Cells | None = None,
    spec: PixelSpec = REFINEMENT,
) -> np.ndarray:
    """Share of each mask at each pixel: the labels of the grid, diffused on the pixel graph.

    Solves (D - W + c I) x = c x0 for the upsampled mask x0 and the prior weight c: x is the
    probability that a random walk from the pixel, stopped at rate c, ends in the mask.

    Parameters
    ----------
    masks : ndarray, shape (M, h, w), bool
        On the grid of the features.
    image : ndarray, shape (H, W, 3), uint8
    features : ndarray, shape (h*w, d), float32, unit rows
    cells : Cells, optional
        As `eigen.upsample.upsample`.
    spec : PixelSpec
        Links are left out.

    Returns
    -------
    ndarray, shape (M, H, W), float32, 0 to 1

    References
    ----------
    Grady, Random walks for image segmentation, IEEE PAMI 28(11), 2006 (the diffusion, with seeds);
    Zhou et al., Learning with local and global consistency, NIPS 2003 (with a prior everywhere).
    """
    size = image.shape[:2]
    grid = masks.shape[1:]
    W, nodes = pixels.build(
        spec.model_copy(update={"links": 0}), features, grid, image, cells or Cells.over(size, grid)
    )
    degree = np.asarray(W.sum(axis=1)).ravel()
    system = sparse.diags_array(degree + PRIOR_WEIGHT) - W
    scale = sparse.diags_array(1 / (degree + PRIOR_WEIGHT))
    result = np.empty((len(masks), *size), np.float32)
    priors = upsample(masks.astype(np.float32), size, cells=cells)
    for out, prior in zip(result, priors, strict=True):
        start = cv2.resize(prior, nodes[::-1], interpolation=cv2.INTER_AREA).ravel()
        x, _ = cg(
            system,
            PRIOR_WEIGHT * start,
            x0=start,
            rtol=TOLERANCE,
            maxiter=MOST_ITERATIONS,
            M=scale,
        )
        plane = x.reshape(nodes).astype(np.float32)
        out[:] = cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.clip(result, 0, 1)
