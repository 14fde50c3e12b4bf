"""Objects of one image: boxes, pixel masks and confidences from eigenvectors, without training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from data.errors import SettingError
from eigen.extractors import Extractor
from eigen.extractors import extractor as make_extractor
from eigen.extractors.contract import cells_of
from eigen.graphs import cosine
from eigen.graphs.affinity import Affinity, TriangleAffinity
from eigen.graphs.build import STORED_NODES
from eigen.leading import leading
from eigen.masks import largest_component, otsu_threshold
from eigen.object_spec import ObjectSpec
from eigen.objects import confidence, rules
from eigen.objects.frame import distance_to_frame
from eigen.objects.graph import thresholded
from eigen.objects.refine import refine
from eigen.objects.rounds import rounds
from eigen.pairs import Cells, Eigenpairs, Size
from eigen.picture import MAX_PATCHES, from_solution, reduced
from eigen.solvers.solve import solve
from eigen.upsample import upsample

TAU = {"tokencut": 0.2, "maskcut": 0.15}


@dataclass(frozen=True, eq=False)
class ImageObject:
    """One object.

    Attributes
    ----------
    mask : ndarray, shape (H, W), bool
        Pixels; masks of one image do not overlap.
    box : tuple of int
        (x, y, width, height) of the mask in pixels, as COCO writes it.
    score : float, 0 to 1
        Root of contrast times spectral gap, see `eigen.objects.confidence`.
    """

    mask: np.ndarray
    box: tuple[int, int, int, int]
    score: float


@dataclass(frozen=True, eq=False)
class Candidate:
    """A mask on the grid, (h, w) bool, and the spectral gap of the cut that it came from."""

    mask: np.ndarray
    gap: float


def objects(
    image: np.ndarray,
    extractor: Extractor | str,
    spec: ObjectSpec | None = None,
    *,
    pairs: Eigenpairs | None = None,
    max_patches: int = MAX_PATCHES,
) -> list[ImageObject]:
    """Objects of one image, the most confident first; an image without any gives an empty list.

    Parameters
    ----------
    image : ndarray, shape (H, W, 3), uint8, RGB
    extractor : Extractor or str
    spec : ObjectSpec, optional
    pairs : Eigenpairs, optional
        Of the image with this extractor on the patch graph, the constant one among them; "frame"
        and "fiedler" use them instead of solving.
    max_patches : int
        As `eigen.eigenvectors`.

    Raises
    ------
    SettingError
        `pairs` on another grid, or fewer than the method needs.
    GraphError
        Fewer nodes than eigenpairs.
    """
    spec = spec or ObjectSpec()
    if isinstance(extractor, str):
        extractor = make_extractor(extractor)
    view = reduced(image, extractor.patch, max_patches)
    grid = extractor.grid(view.shape[:2])
    if confidence.is_flat(view, grid):
        return []
    features = extractor([view])[0]
    cells = cells_of(extractor, image.shape[:2], view.shape[:2])
    return to_pixels(propose(features, grid, spec, pairs), image, features, cells, spec)


def propose(
    features: np.ndarray,
    grid: Size,
    spec: ObjectSpec,
    pairs: Eigenpairs | None = None,
) -> list[Candidate]:
    """Candidates on the grid by the method of `spec`, in its order. Raises as `objects`."""
    return _PROPOSE[spec.method](features, grid, spec, pairs)


def _pairs(features: np.ndarray, grid: Size, count: int, pairs: Eigenpairs | None) -> Eigenpairs:
    if pairs is None:
        stored = len(features) <= STORED_NODES
        W: Affinity = cosine.dense(features) if stored else cosine.CosineAffinity(features)
        return from_solution(solve(W, count, check=False), grid, grid, Cells(1, 1))
    if pairs.grid != grid:
        raise SettingError(
            f"pairs: expected the grid {grid} of this extractor on the patch graph, found "
            f"{pairs.grid}"
        )
    return leading(pairs, count, least=3)


def _by_frame(
    features: np.ndarray, grid: Size, spec: ObjectSpec, pairs: Eigenpairs | None
) -> list[Candidate]:
    pairs = _pairs(features, grid, spec.pairs, pairs)
    distance = distance_to_frame(pairs)
    gap = confidence.spectral_gap(pairs.eigenvalues)
    rest = distance > otsu_threshold(distance)
    candidates: list[Candidate] = []
    while rest.any() and len(candidates) < spec.count:
        component = largest_component(rest)
        if component.sum() < spec.least_area * component.size:
            break
        candidates.append(Candidate(component, gap))
        rest = rest & ~component
    return candidates


def _by_fiedler(
    features: np.ndarray, grid: Size, spec: ObjectSpec, pairs: Eigenpairs | None
) -> list[Candidate]:
    pairs = _pairs(features, grid, 3, pairs)
    gap = confidence.spectral_gap(pairs.eigenvalues)
    return [Candidate(rules.fiedler_sign(pairs.vectors[1]), gap)]


def _by_tokencut(
    features: np.ndarray, grid: Size, spec: ObjectSpec, pairs: Eigenpairs | None
) -> list[Candidate]:
    return [
        Candidate(rules.seed_component(cut.vector), cut.gap)
        for cut in rounds(_thresholded(features, spec), grid, 1)
    ]


def _by_maskcut(
    features: np.ndarray, grid: Size, spec: ObjectSpec, pairs: Eigenpairs | None
) -> list[Candidate]:
    least = max(1, int(spec.least_area * grid[0] * grid[1]))
    cuts = rounds(_thresholded(features, spec), grid, spec.count, least_nodes=least)
    return [Candidate(cut.mask, cut.gap) for cut in cuts]


def _by_lost(
    features: np.ndarray, grid: Size, spec: ObjectSpec, pairs: Eigenpairs | None
) -> list[Candidate]:
    # No spectrum is involved: the contrast alone is the confidence.
    return [Candidate(rules.seed_expansion(features, grid), 1.0)]


def _thresholded(features: np.ndarray, spec: ObjectSpec) -> TriangleAffinity:
    tau = TAU[spec.method] if spec.threshold is None else spec.threshold
    return thresholded(features, tau)


_PROPOSE: dict[str, Callable[..., list[Candidate]]] = {
    "frame": _by_frame,
    "fiedler": _by_fiedler,
    "tokencut": _by_tokencut,
    "lost": _by_lost,
    "maskcut": _by_maskcut,
}


def to_pixels(
    candidates: list[Candidate],
    image: np.ndarray,
    features: np.ndarray,
    cells: Cells,
    spec: ObjectSpec,
) -> list[ImageObject]:
    """Candidates on the grid of the features, as scored objects of the image, best first."""
    scored = [(candidate.mask, _score(candidate, features)) for candidate in candidates]
    scored = [(mask, score) for mask, score in scored if score >= spec.least_score and score > 0]
    if not scored:
        return []
    scored.sort(key=lambda pair: -pair[1])
    grids = np.stack([mask for mask, _ in scored])
    if spec.refine:
        planes = refine(grids, image, features, cells=cells)
    else:
        planes = upsample(grids.astype(np.float32), image.shape[:2], cells=cells)
    taken = np.zeros(image.shape[:2], bool)
    objects = []
    for plane, (_, score) in zip(planes, scored, strict=True):
        mask = largest_component((plane > 0.5) & ~taken)
        if mask.sum() >= max(1, spec.least_area * mask.size):
            taken |= mask
            objects.append(ImageObject(mask, box(mask), score))
    return objects


def _score(candidate: Candidate, features: np.ndarray) -> float:
    return float(np.sqrt(candidate.gap * confidence.contrast(features, candidate.mask)))


def box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(x, y, width, height) of the pixels of a mask, which has at least one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1
