"""Move the borders of a segmentation to those of the image, and leave the area of each class alone.

A network is unsure at borders and of what it was not trained on, so smoothing its probabilities and
taking the larger one shrinks the classes it is less sure of. Shape should move, size should stay:
after smoothing, constants are added to the classes so that each keeps the area that the network
gave it.

Smoothing is diffusion on the pixel graph of the image [1], (D (1 + mu) - W) x = mu D p, which is
the spectral filter mu / (mu + lambda) of all eigenvectors at once and needs none of them.

[1] Zhou et al., "Learning with local and global consistency", NIPS 2003.
"""

from __future__ import annotations

import cv2
import numpy as np
import scipy.sparse as sp

from data.arguments import check_type, described, whole
from data.errors import SettingError
from eigen.graphs import pixels
from eigen.graphs.pixels import PixelSpec
from eigen.pairs import Cells, Eigenpairs
from eigen.solvers.solution import ConvergenceError
from eigen.upsample import upsample, upsample_pairs

STEP = 3  # pixels per side of a node of the graph
MU, MU_OF_COLOURS = 0.1, 0.3
"""Chosen on seen classes (docs/fusion.md), with eigenvectors in the graph and without."""

TOLERANCE = 1e-3  # of the residual, relative to the right side; probabilities need no more
_GUIDE = 8  # side of the cells on which planes enter the graph as features
_SWEEPS = 20


def refine(
    scores: np.ndarray,
    image: np.ndarray | None = None,
    *,
    eigenpairs: Eigenpairs | None = None,
    mu: float | None = None,
    step: int = STEP,
) -> np.ndarray:
    """Refine the class scores of any model by the shapes in the image.

    Parameters
    ----------
    scores : ndarray, shape (C, H, W), float
        Logits or log-probabilities of C >= 2 classes. For one class against the rest, stack zeros
        and its log-odds.
    image : ndarray, shape (H, W, 3), uint8, RGB, optional
        Colours carry the borders. One of `image` and `eigenpairs` is needed, both may be given.
    eigenpairs : Eigenpairs, optional
        Of the image: nodes that differ in them are joined less.
    mu : float, optional
        Weight of the scores against smoothness; less smooths more. By default `MU`, of colours
        alone `MU_OF_COLOURS`.
    step : int
        Side in pixels of a node of the graph: 1 is slowest and finest.

    Returns
    -------
    ndarray, shape (C, H, W), float32
        The class with the largest value at a pixel is the refined one. Each class covers as many
        pixels as in `scores`, up to ties.

    Raises
    ------
    SettingError
        Scores of another shape, not finite, or neither image nor eigenpairs of that size.
    ConvergenceError
        The linear system was not solved to `TOLERANCE`.
    """
    if np.asarray(scores).dtype.kind not in "fiu":
        raise SettingError(f"scores: expected numbers, found {described(scores)}")
    with np.errstate(over="ignore"):  # what becomes infinite is refused below
        scores = np.asarray(scores, np.float32)
    if mu is None:
        mu = MU_OF_COLOURS if eigenpairs is None else MU
    _check(scores, image, eigenpairs, mu)
    size = scores.shape[1], scores.shape[2]
    planes = None if eigenpairs is None else upsample_pairs(eigenpairs, size)
    probabilities = softmax(scores)
    graph = graph_of(image, planes, size, step=whole("step", step))
    smooth = diffused(probabilities, graph, mu=mu)
    areas = np.bincount(scores.argmax(0).ravel(), minlength=len(scores))
    return smooth + offsets(smooth, areas)[:, None, None]


def _check(
    scores: np.ndarray, image: np.ndarray | None, eigenpairs: Eigenpairs | None, mu: float
) -> None:
    if scores.ndim != 3 or len(scores) < 2 or 0 in scores.shape or not np.isfinite(scores).all():
        raise SettingError(
            f"scores: expected finite numbers of shape (C, H, W) with C >= 2, found {scores.shape}"
        )
    if image is None and eigenpairs is None:
        raise SettingError("refine: give the image, its eigenpairs, or both")
    if eigenpairs is not None:
        check_type("eigenpairs", eigenpairs, Eigenpairs, "Eigenpairs")
    if image is not None and (
        getattr(image, "dtype", None) != np.uint8 or image.ndim != 3 or image.shape[2] != 3
    ):
        raise SettingError(f"image: expected (H, W, 3) uint8, found {described(image)}")
    found = {
        "image": None if image is None else image.shape[:2],
        "eigenpairs": None if eigenpairs is None else eigenpairs.size,
    }
    for name, size in found.items():
        if size is not None and size != scores.shape[1:]:
            raise SettingError(
                f"{name}: expected the size of the scores, {scores.shape[1:]}, found {size}"
            )
    if not isinstance(mu, int | float | np.number) or not 0 < mu < np.inf:
        raise SettingError(f"mu: expected more than 0, found {mu}")


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities of logits (C, ...), float32."""
    powers = np.exp(scores - scores.max(0))
    return (powers / powers.sum(0)).astype(np.float32)


def graph_of(
    image: np.ndarray | None,
    planes: np.ndarray | None,
    size: tuple[int, int],
    *,
    step: int = STEP,
) -> tuple[sp.csr_array, tuple[int, int]]:
    """Pixel graph of an image's colours and of planes (K, H, W), and its node grid.

    Without the image colours are equal everywhere, without planes features are.
    """
    grid = max(1, size[0] // _GUIDE), max(1, size[1] // _GUIDE)
    rows = np.ones((grid[0] * grid[1], 1), np.float32)
    if planes is not None and len(planes):
        deviations = planes.std((1, 2))
        varying = planes[deviations > 1e-4 * max(float(np.abs(planes).max()), 1e-8)]
        small = [cv2.resize(plane, grid[::-1], interpolation=cv2.INTER_AREA) for plane in varying]
        columns = [(p - p.mean()).ravel() / max(float(p.std()), 1e-12) for p in small]
        rows = np.stack([rows[:, 0], *columns], axis=1).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    if image is None:
        image = np.zeros((*size, 3), np.uint8)
    return pixels.build(PixelSpec(step=step), rows, grid, image, Cells.over(size, grid))


def diffused(
    maps: np.ndarray, graph: tuple[sp.csr_array, tuple[int, int]], *, mu: float
) -> np.ndarray:
    """Solve (D (1 + mu) - W) x = mu D p for each map p, (C, H, W) float32, on a node grid.

    Conjugate gradients on the normalised system ((1 + mu) I - S) y = mu D^(1/2) p, whose condition
    number is at most (2 + mu) / mu for every graph.
    """
    W, grid = graph
    size = maps.shape[1], maps.shape[2]
    small = np.stack([cv2.resize(p, grid[::-1], interpolation=cv2.INTER_AREA) for p in maps])
    root = np.sqrt(W.sum(1)).astype(np.float32)
    S = sp.csr_array(W.multiply(1 / root[:, None]).multiply(1 / root[None]))
    start = small.reshape(len(maps), -1).T * root[:, None]
    solution = _conjugate_gradients(S, 1 + mu, mu * start, start)
    found = (solution / root[:, None]).T.reshape(-1, *grid)
    return upsample(found.astype(np.float32), size, cells=Cells.over(size, grid))


def _conjugate_gradients(
    S: sp.csr_array, shift: float, right: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Solve (shift I - S) x = right for several right sides (n, C) at once."""
    x = start.copy()
    residual = right - (shift * x - S @ x)
    direction, squared = residual.copy(), np.einsum("nc,nc->c", residual, residual)
    enough = TOLERANCE**2 * np.einsum("nc,nc->c", right, right)
    for _ in range(1000):
        if (squared <= enough).all():
            return x
        image = shift * direction - S @ direction
        length = squared / np.maximum(np.einsum("nc,nc->c", direction, image), 1e-30)
        x += length * direction
        residual -= length * image
        previous, squared = squared, np.einsum("nc,nc->c", residual, residual)
        direction = residual + squared / np.maximum(previous, 1e-30) * direction
    worst = float(np.sqrt((squared / np.maximum(enough, 1e-30)).max()) * TOLERANCE)
    raise ConvergenceError(TOLERANCE, {"conjugate gradients": f"residual {worst:.2e}"})


def offsets(maps: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Constants (C,) with which class c is the largest of (C, H, W) maps on areas[c] pixels.

    One class after the other is set exactly, given the others, until nothing moves: an auction. Of
    two classes the first sweep is the answer. A class of area 0 gets -inf.
    """
    flat = maps.reshape(len(maps), -1)
    constants = np.where(areas > 0, 0.0, -np.inf).astype(np.float32)
    present = np.flatnonzero(areas)
    if len(present) < 2:
        return constants
    for _ in range(_SWEEPS):
        before = constants.copy()
        for c in present[1:]:
            rivals = [k for k in present if k != c]
            lead = flat[c] - (flat[rivals] + constants[rivals, None]).max(0)
            constants[c] = -_threshold(lead, int(areas[c]))
        if np.allclose(before[present], constants[present], atol=1e-5):
            break
    return constants


def _threshold(values: np.ndarray, count: int) -> float:
    """A value that `count` of the values exceed, up to ties; half way to the next one."""
    ordered = np.partition(values, (len(values) - count - 1, len(values) - count))
    return float(ordered[len(values) - count - 1] + ordered[len(values) - count]) / 2
