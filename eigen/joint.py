"""Several images, or the frames of a video, as one graph: eigenvectors that agree across them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.arguments import check_type
from data.errors import SettingError
from eigen.extractors import Extractor
from eigen.extractors import extractor as make_extractor
from eigen.extractors.contract import cells_of
from eigen.graphs import cosine
from eigen.graphs.affinity import Affinity
from eigen.graphs.build import STORED_NODES
from eigen.leading import leading
from eigen.pairs import Cells, Eigenpairs, Size
from eigen.picture import MAX_PATCHES, reduced
from eigen.segments.discretise import discretise
from eigen.segments.partition import (
    Segments,
    canonical_order,
    number_of_segments,
    pixel_shares,
)
from eigen.solvers.solution import Solution
from eigen.solvers.solve import solve
from eigen.solvers.spec import SolveSpec
from eigen.threads import one_pool

_SOLVE = SolveSpec()


@dataclass(frozen=True, eq=False)
class JointEigenpairs:
    """The K smallest eigenpairs of one graph over several images.

    Attributes
    ----------
    eigenvalues : ndarray, shape (K,), float64
    residual : ndarray, shape (K,), float32
        Of the vectors over all nodes, as in `eigen.pairs.Eigenpairs`.
    solver : str
    images : tuple of Eigenpairs
        Each image's part of the vectors: one scale and one sign for all. A part by itself is
        neither normalised nor orthogonal.
    """

    eigenvalues: np.ndarray
    residual: np.ndarray
    solver: str
    images: tuple[Eigenpairs, ...]


@one_pool()
def joint_eigenvectors(
    images: Sequence[np.ndarray],
    extractor: Extractor | str,
    k: int = 5,
    *,
    tolerance: float = _SOLVE.tolerance,
    drop_trivial: bool = False,
    seed: int = 0,
    max_patches: int = MAX_PATCHES,
) -> JointEigenpairs:
    """Eigenpairs of the patch graph over all images: every patch is compared with every other.

    The affinity max(X X^T, 0) is stored up to `eigen.graphs.build.STORED_NODES` nodes in all, and
    computed in products beyond.

    Parameters
    ----------
    images : sequence of ndarray, shape (H, W, 3), uint8, RGB
        Of any sizes.
    extractor : Extractor or str
    k, tolerance, drop_trivial, seed
        As `eigen.eigenvectors`.
    max_patches : int
        An image of more patches is reduced first.

    Raises
    ------
    SettingError
        No image.
    GraphError
        Features that make no valid graph, or fewer nodes than pairs.
    eigen.solvers.solve.ConvergenceError
        No solver reached the tolerance.
    """
    if not len(images):
        raise SettingError("images: expected one or more, found none")
    if isinstance(extractor, str):
        extractor = make_extractor(extractor)
    features, grids, cells = [], [], []
    for image in images:
        view = reduced(image, extractor.patch, max_patches)
        features.append(extractor([view])[0])
        grids.append(extractor.grid(view.shape[:2]))
        cells.append(cells_of(extractor, image.shape[:2], view.shape[:2]))
    rows = np.concatenate(features)
    stored = len(rows) <= STORED_NODES
    W: Affinity = cosine.dense(rows) if stored else cosine.CosineAffinity(rows)
    spec = SolveSpec(k=k, tolerance=tolerance, drop_trivial=drop_trivial, seed=seed)
    solution = solve(W, spec, check=False)
    return _parts(solution, grids, [image.shape[:2] for image in images], cells)


def _parts(
    solution: Solution, grids: list[Size], sizes: list[Size], cells: list[Cells]
) -> JointEigenpairs:
    residual = solution.residual.astype(np.float32)
    ends = np.cumsum([h * w for h, w in grids])
    parts = np.split(solution.vectors.astype(np.float32), ends[:-1])
    images = tuple(
        Eigenpairs(
            eigenvalues=solution.eigenvalues,
            vectors=part.T.reshape(-1, *grid),
            residual=residual,
            solver=solution.solver,
            size=(int(size[0]), int(size[1])),
            cells=place,
        )
        for part, grid, size, place in zip(parts, grids, sizes, cells, strict=True)
    )
    return JointEigenpairs(solution.eigenvalues, residual, solution.solver, images)


def joint_segments(
    joint: JointEigenpairs, k: int | None = None, method: str = "rotation", *, seed: int = 0
) -> list[Segments]:
    """One partition of all images: a segment number means the same in each of them.

    Parameters
    ----------
    joint : JointEigenpairs
    k, method, seed
        As `eigen.segments.segments`.

    Raises
    ------
    SettingError
        More segments than eigenpairs, or an unknown method.
    """
    check_type("joint", joint, JointEigenpairs, "what `joint_eigenvectors` returns")
    k = number_of_segments(joint.images[0], k)
    parts = [leading(pairs, k) for pairs in joint.images]
    rows = np.concatenate([part.vectors.reshape(k, -1).T for part in parts])
    shares = discretise(rows, method, seed=seed)
    ends = np.cumsum([part.grid[0] * part.grid[1] for part in parts])
    split = np.split(shares, ends[:-1])
    labels = [
        pixel_shares(share, part).argmax(axis=0) for share, part in zip(split, parts, strict=True)
    ]
    order = canonical_order(labels, k)
    return [
        Segments(order[pixels], order[share.argmax(axis=1).reshape(part.grid)], k)
        for pixels, share, part in zip(labels, split, parts, strict=True)
    ]
