"""Several objects from one graph: cut, take the object out, cut what is left.

MaskCut (CutLER) solves the whole dense problem again for each object, with the nodes of earlier
objects tied to nothing. Here the nodes leave the graph instead: the affinity is stored once, each
round works on the part of it that remains, by products alone, and starts from the eigenvectors of
the round before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.errors import GraphError, SettingError
from eigen.graphs.affinity import TriangleAffinity
from eigen.objects.graph import restricted
from eigen.objects.rules import MOST_CORNERS, seed_component
from eigen.solvers.problem import NormalizedProblem
from eigen.solvers.solution import Solution
from eigen.solvers.solve import solve
from eigen.solvers.spec import SolveSpec

TOLERANCE = 1e-4
PAIRS = 3
"""The constant vector, the cut, and the next one: their gap tells how clear the cut is."""


@dataclass(frozen=True, eq=False)
class Cut:
    """One round.

    Attributes
    ----------
    mask : ndarray, shape (h, w), bool
        Nodes of the object.
    vector : ndarray, shape (h, w), float32
        The Fiedler vector of the nodes that remained, its sign such that the object is positive;
        NaN at nodes of earlier objects.
    gap : float, 0 to 1
        (lambda_3 - lambda_2) / lambda_3: 0 where another cut is as good.
    residual : float
        Largest residual of the eigenpairs used.
    """

    mask: np.ndarray
    vector: np.ndarray
    gap: float
    residual: float


def rounds(
    W: TriangleAffinity,
    grid: tuple[int, int],
    count: int,
    *,
    least_nodes: int = 1,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> list[Cut]:
    """Up to `count` objects, in the order in which they were cut out.

    Parameters
    ----------
    W : TriangleAffinity, shape (h*w, h*w)
        As `eigen.objects.graph.thresholded` makes it.
    grid : tuple of int
        (h, w) of the nodes.
    count : int
        Rounds. Fewer objects come back where too few nodes remain.
    least_nodes : int
        Smaller objects leave the graph like others, and are not returned.
    tolerance, seed
        See `eigen.solvers.solve.solve`.

    Raises
    ------
    SettingError
        `count` below 1.
    GraphError
        W is not an affinity of that grid.
    eigen.solvers.solve.ConvergenceError
        No solver reached the tolerance.

    References
    ----------
    Wang et al., Cut and learn for unsupervised object detection and instance segmentation, CVPR
    2023, section 3.2.
    """
    if count < 1:
        raise SettingError(f"count: expected 1 object or more, found {count}")
    if W.shape[0] != grid[0] * grid[1]:
        raise GraphError(f"an affinity of {W.shape[0]} nodes does not fit a grid of {grid}")
    solving = SolveSpec(k=PAIRS, tolerance=tolerance, seed=seed)
    remaining = np.arange(W.shape[0])
    guess: np.ndarray | None = None
    cuts: list[Cut] = []
    for number in range(count):
        if len(remaining) < PAIRS:
            break
        part = W if number == 0 else restricted(W, remaining)
        problem = NormalizedProblem(part, check=False)
        solution = solve(problem, solving, start=guess)
        cut = _cut(solution, remaining, grid)
        if cut.mask.sum() >= least_nodes:
            cuts.append(cut)
        stays = ~cut.mask.flat[remaining]
        # Unit vectors of the whole are a guess at those of the part.
        guess = (solution.vectors[:, 1:] * problem.sqrt_degree[:, None])[stays]
        remaining = remaining[stays]
    return cuts


def _cut(solution: Solution, nodes: np.ndarray, grid: tuple[int, int]) -> Cut:
    vector = np.full(grid, np.nan, np.float32)
    vector.flat[nodes] = solution.vectors[:, 1]
    mask = seed_component(vector, at_most_corners=MOST_CORNERS)
    if np.nanmean(vector[mask]) < np.nanmean(vector):
        vector = -vector
    second, third = solution.eigenvalues[1], solution.eigenvalues[2]
    gap = (third - second) / third if third > 0 else 0.0
    return Cut(mask, vector, float(gap), float(solution.residual.max()))
