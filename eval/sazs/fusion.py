"""Combine a network's prediction and an image's eigenvectors into one mask, without a label.

A method is a small object with its parameters: called with the margin of the class ((H, W) float32
log-odds, above 0 where the network sees it) and the photo's `EigenMaps`, it returns a (H, W) bool
mask. `GRIDS` lists the parameters worth trying; which to take is decided on seen classes
(`tune`), never on the classes that are scored. "auto" leaves the choice of the method to them too.

- `Agreement`: take the eigen segment that agrees best with the network's mask, if it agrees enough.
- `Voting`: pixels vote within segments of the eigen-embedding.
- `Projection`: the class probability is smoothed in the span of the eigenvectors and their
  products, those of small eigenvalue damped least.
- `Diffusion`: the class probability is smoothed on the graph of pixels, whose edges know the
  colours of the image and its eigenvectors; see `eval.refine`.

`Voting`, `Projection` and `Diffusion` cut what they made by one of the rules of `eval.sazs.cuts`.

Eigenvectors that are all constant say nothing, and no method then changes the network's mask.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar

import cv2
import numpy as np

from data.errors import SettingError
from eigen.store.maps import EigenMaps
from eval.refine import diffused, graph_of
from eval.sazs.cuts import cut, probability
from eval.sazs.metrics import Tally, count

_FLOOR = 1e-3  # added to the diagonal of a projection: products may depend on each other
_MULTIPLIED = 6  # eigenvectors whose products count; of more there would be too many


class Method(ABC):
    """A way to fuse, in two steps, so that `tune` repeats only what a parameter changes."""

    evidence_of: ClassVar[tuple[str, ...]]
    """The parameters that `evidence` depends on."""

    def __call__(self, margin: np.ndarray, maps: EigenMaps) -> np.ndarray:
        return self.decide(margin, self.evidence(margin, maps))

    def masks(self, margins: np.ndarray, maps: EigenMaps) -> np.ndarray:
        """The masks of several classes of one image, (N, H, W) bool."""
        return np.stack([self(margin, maps) for margin in margins])

    @abstractmethod
    def evidence(self, margin: np.ndarray, maps: EigenMaps) -> Any:
        """What the eigenvectors say."""

    @abstractmethod
    def decide(self, margin: np.ndarray, evidence: Any) -> np.ndarray:
        """The mask, (H, W) bool."""


@dataclass(frozen=True)
class Agreement(Method):
    """Replace the network's mask by the segment with the highest IoU with it.

    Candidates are the eigen masks, their complements, and the 4-connected pieces of both that cover
    at least `piece` of the image. At an IoU of `accept` or less the network's mask stays.
    """

    accept: float = 0.6
    piece: float = 0.005

    evidence_of = ("piece",)

    def evidence(self, margin: np.ndarray, maps: EigenMaps) -> tuple[float, np.ndarray]:
        """The best candidate's IoU with the network's mask, and the candidate."""
        mask = margin > 0
        best: tuple[float, np.ndarray] = (0.0, mask)
        for side in (side for eigen_mask in maps.masks for side in (eigen_mask, ~eigen_mask)):
            n, labels, statistics, _ = cv2.connectedComponentsWithStats(
                side.astype(np.uint8), connectivity=4
            )
            area = statistics[:, cv2.CC_STAT_AREA]
            inter = np.bincount(labels[mask], minlength=n)
            iou = inter / np.maximum(area + np.count_nonzero(mask) - inter, 1)
            iou[0] = _iou(side, mask)  # label 0 is the other side; its place serves the whole side
            iou[1:][area[1:] < self.piece * side.size] = 0
            winner = int(iou.argmax())
            if iou[winner] > best[0]:
                best = (float(iou[winner]), side if winner == 0 else labels == winner)
        return best

    def decide(self, margin: np.ndarray, evidence: tuple[float, np.ndarray]) -> np.ndarray:
        iou, candidate = evidence
        return candidate if iou > self.accept else margin > 0


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.count_nonzero(a & b)) / max(int(np.count_nonzero(a | b)), 1)


@dataclass(frozen=True)
class Voting(Method):
    """Mix each pixel's probability with the mean over its segment of the eigen-embedding.

    segments : how many, by k-means on the planes. weight : share of the segment's mean.
    cut : see `eval.sazs.cuts`
    """

    segments: int = 16
    weight: float = 0.5
    cut: str = "half"

    evidence_of = ("segments",)

    def evidence(self, margin: np.ndarray, maps: EigenMaps) -> np.ndarray:
        """Mean probability of each pixel's segment."""
        own = probability(margin)
        if not _varying(maps.planes).any():
            return own
        labels = embed_segments(maps.planes, self.segments)
        sums = np.bincount(labels.ravel(), own.ravel())
        return (sums / np.maximum(np.bincount(labels.ravel()), 1))[labels]

    def decide(self, margin: np.ndarray, evidence: np.ndarray) -> np.ndarray:
        return mixed(margin, evidence, weight=self.weight, rule=self.cut)


def mixed(margin: np.ndarray, evidence: np.ndarray, *, weight: float, rule: str) -> np.ndarray:
    """The mask (H, W) bool of the probability mixed with its smoothed version, thresholded."""
    return cut(margin, (1 - weight) * probability(margin) + weight * evidence, rule)


def embed_segments(planes: np.ndarray, segments: int) -> np.ndarray:
    """Segment number of every pixel, (H, W), by k-means on its K values.

    The centres come from at most 64 x 64 sampled pixels and a fixed start.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    _, H, W = planes.shape
    points = _standardised(planes).T
    if not points.shape[1]:
        return np.zeros((H, W), int)
    rows, columns = (np.linspace(0, n - 1, min(n, 64)).round().astype(int) for n in (H, W))
    # Values that differ by rounding only are one value: k-means needs distinct points.
    sampled = points[(rows[:, None] * W + columns).ravel()].round(6)
    segments = min(segments, len(np.unique(sampled, axis=0)))
    with threadpool_limits(1):
        centres = KMeans(segments, n_init=1, random_state=0).fit(sampled).cluster_centers_
    # |x - c|^2 up to |x|^2, which is the same for every centre.
    return ((centres**2).sum(1) - 2 * points @ centres.T).argmin(1).reshape(H, W)


def _standardised(planes: np.ndarray) -> np.ndarray:
    """Planes as rows of mean 0 and deviation 1, the constant ones left out: (k, H*W) float64."""
    rows = planes.reshape(len(planes), int(np.prod(planes.shape[1:]))).astype(np.float64)
    rows -= rows.mean(1, keepdims=True)
    return (rows / _deviations(planes)[:, None])[_varying(planes)]


def _deviations(planes: np.ndarray) -> np.ndarray:
    return np.maximum(planes.std((1, 2), dtype=np.float64), 1e-12)


def _varying(planes: np.ndarray) -> np.ndarray:
    """Which planes are more than constant: (K,) bool."""
    deviations = _deviations(planes)
    return deviations > 1e-4 * max(np.abs(planes).max(initial=0.0), 1e-8)


@dataclass(frozen=True)
class Projection(Method):
    """Mix each pixel's probability with its smooth part in the span of the eigenvectors.

    The smooth part minimises the squared difference to the probability plus `ridge` times the
    eigenvalue-weighted size of the coefficients, as in Laplacian regularisation; eigenvectors of
    small eigenvalue follow the probability most closely. With `degree` 2 the products of two of the
    first vectors belong to the basis: they tell parts from each other that no single vector cuts
    out, as a product of eigenfunctions does [2]. A product counts with the sum of its eigenvalues.

    [1] Belkin, Niyogi, Sindhwani, "Manifold Regularization", JMLR 7, 2006, section 4.
    [2] Nogneng et al., "Improved Functional Mappings via Product Preservation", 2018.
    """

    weight: float = 0.5
    ridge: float = 0.1
    degree: int = 2
    cut: str = "half"

    evidence_of = ("ridge", "degree")

    def evidence(self, margin: np.ndarray, maps: EigenMaps) -> np.ndarray:
        """The smooth part of the probability."""
        return self.smooth(probability(margin)[None], maps)[0]

    def smooth(self, values: np.ndarray, maps: EigenMaps) -> np.ndarray:
        """The smooth part of each of (C, H, W) maps."""
        basis, eigenvalues = _standardised(maps.planes), maps.eigenvalues[_varying(maps.planes)]
        if not len(basis):
            return values
        if self.degree == 2:
            basis, eigenvalues = _with_products(basis, eigenvalues)
        pixels = basis.shape[1]
        gram = basis @ basis.T / pixels + np.diag(self.ridge * eigenvalues + _FLOOR)
        rows = values.reshape(len(values), pixels)
        means = rows.mean(1, keepdims=True)
        coefficients = np.linalg.solve(gram, basis @ (rows - means).T / pixels)
        return (means + coefficients.T @ basis).reshape(values.shape)

    def decide(self, margin: np.ndarray, evidence: np.ndarray) -> np.ndarray:
        return mixed(margin, evidence, weight=self.weight, rule=self.cut)


def _with_products(basis: np.ndarray, eigenvalues: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (k, N), and after them the standardised products of two of the first `_MULTIPLIED`."""
    i, j = np.triu_indices(min(len(basis), _MULTIPLIED))
    products = (basis[i] * basis[j])[:, None]
    added = eigenvalues[i] + eigenvalues[j]
    return (
        np.concatenate([basis, _standardised(products)]),
        np.concatenate([eigenvalues, added[_varying(products)]]),
    )


@dataclass(frozen=True)
class Diffusion(Method):
    """Mix each pixel's probability with what diffusion on the pixel graph makes of it.

    mu : weight of the probability against smoothness. weight : share of the diffused map.
    cut : see `eval.sazs.cuts`
    """

    mu: float = 0.1
    weight: float = 1.0
    cut: str = "area"

    evidence_of = ("mu",)

    def evidence(self, margin: np.ndarray, maps: EigenMaps) -> np.ndarray:
        """The diffused probability."""
        return self._diffused(margin[None], maps)[0]

    def masks(self, margins: np.ndarray, maps: EigenMaps) -> np.ndarray:
        """As `Method.masks`; the graph is built once."""
        found = self._diffused(margins, maps)
        return np.stack([self.decide(m, e) for m, e in zip(margins, found, strict=True)])

    def _diffused(self, margins: np.ndarray, maps: EigenMaps) -> np.ndarray:
        planes = maps.planes[_varying(maps.planes)] if len(maps.planes) else maps.planes
        if not len(planes) and maps.image is None:
            return probability(margins)
        graph = graph_of(maps.image, planes, (margins.shape[1], margins.shape[2]))
        return diffused(probability(margins), graph, mu=self.mu)

    def decide(self, margin: np.ndarray, evidence: np.ndarray) -> np.ndarray:
        return mixed(margin, evidence, weight=self.weight, rule=self.cut)


METHODS: dict[str, Method] = {
    "agreement": Agreement(),
    "voting": Voting(),
    "projection": Projection(),
    "diffusion": Diffusion(),
}

AUTO = "auto"
"""The method that is best on seen classes; untuned, the first of `CANDIDATES`."""

CANDIDATES = ("diffusion", "projection")

GRIDS: dict[str, dict[str, tuple]] = {
    "agreement": {"accept": (0.4, 0.5, 0.6, 0.7, 0.8)},
    "voting": {
        "segments": (6, 8, 16),
        "weight": (0.3, 0.5, 0.7, 0.9, 1.0),
        "cut": ("half", "area"),
    },
    # Not the degree: its choice took more items than there are to tune on (docs/fusion.md).
    "projection": {
        "weight": (0.3, 0.5, 0.7, 0.9, 1.0),
        "ridge": (0.01, 0.1, 0.5),
        "cut": ("half", "area"),
    },
    "diffusion": {"mu": (0.03, 0.1, 0.3), "cut": ("half", "mean", "area")},
}


def register(name: str, rule: Method, grid: dict[str, tuple]) -> None:
    """Enter a fusion rule, which `method`, `tune` and `--fusion` then know by its name.

    Parameters
    ----------
    rule : Method
        A dataclass whose fields are its parameters.
    grid : dict
        Values that `tune` tries for parameters of the rule.

    Raises
    ------
    SettingError
        The name is taken, or the rule has no parameter that `grid` names.
    """
    if name in METHODS or name == AUTO:
        raise SettingError(f"fusion {name!r}: already registered; choose another name")
    unknown = sorted(grid.keys() - vars(rule).keys())
    if unknown:
        raise SettingError(
            f"fusion {name!r}: expected parameters among {', '.join(vars(rule)) or 'none'}, found"
            f" {', '.join(unknown)}"
        )
    METHODS[name], GRIDS[name] = rule, grid


def method(name: str) -> Method:
    """A method by name, with its default parameters.

    Raises
    ------
    SettingError
        Unknown name; lists the known ones.
    """
    name = CANDIDATES[0] if name == AUTO else name
    if name not in METHODS:
        raise SettingError(f"fusion {name!r}: expected one of {', '.join([AUTO, *METHODS])}")
    return METHODS[name]


def name_of(rule: Method) -> str:
    """The name of a method, independent of its parameters."""
    return next(name for name, known in METHODS.items() if type(known) is type(rule))


def _trials(name: str) -> list[Method]:
    """A method with every combination of its parameters."""
    plain, grid = method(name), GRIDS[name]
    return [
        replace(plain, **dict(zip(grid, values, strict=True)))  # type: ignore[type-var]
        for values in product(*grid.values())
    ]


def tune(
    name: str,
    samples: Iterable[tuple[np.ndarray, EigenMaps, np.ndarray, np.ndarray, int]],
    *,
    classes: int,
) -> tuple[Method, float]:
    """The parameters of a method that give the best mIoU on samples of seen classes.

    Parameters
    ----------
    name : a method, or `AUTO` for the best of `CANDIDATES`
    samples : (margin, maps, truth, void, class id) of photos that show seen classes
    classes : number of class ids

    Returns
    -------
    method, and its mIoU in percent

    Raises
    ------
    SettingError
        Unknown name, or no sample.
    """
    trials = [t for n in (CANDIDATES if name == AUTO else (name,)) for t in _trials(n)]
    tallies = [Tally(classes) for _ in trials]
    for margin, maps, truth, void, class_id in samples:
        evidence: dict[tuple, Any] = {}
        for trial, tally in zip(trials, tallies, strict=True):
            key = (type(trial), *(getattr(trial, name) for name in trial.evidence_of))
            if key not in evidence:
                evidence[key] = trial.evidence(margin, maps)
            tally.add(class_id, count(trial.decide(margin, evidence[key]), truth, void))
    seen = np.flatnonzero(tallies[0].images)
    if not len(seen):
        raise SettingError("no samples of seen classes to tune on; keep some images for validation")
    scores = [tally.miou(seen) for tally in tallies]
    best = int(np.argmax(scores))
    return trials[best], scores[best]
