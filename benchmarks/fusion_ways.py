"""The ways of fusing that `benchmarks.refinement` compares: what smooths, how much, and the cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import scipy.sparse as sp

import eigen
from benchmarks.dense_crf import DenseCRF, Kernels, kernels
from eigen.extractors import Extractor
from eigen.graphs import pixels
from eigen.graphs.build import Graph
from eigen.graphs.pixels import PixelSpec
from eigen.picture import Features, features_of, from_graph
from eigen.solvers.spec import SolveSpec
from eigen.store.maps import EigenMaps
from eigen.upsample import guided_filter, upsample_pairs
from eval.refine import STEP, diffused, graph_of
from eval.sazs.cuts import probability
from eval.sazs.fusion import Projection

K = 5  # eigenvectors without the constant one
MOST = 50  # of the pixel graph


@dataclass(eq=False)
class Scene:
    """An image and what the ways need of it, computed once each."""

    image: np.ndarray
    extractors: dict[str, Extractor]
    most: int = MOST
    _cache: dict = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    def copy(self) -> Scene:
        """With what has been computed so far, and separate from now on."""
        return Scene(self.image, self.extractors, self.most, dict(self._cache))

    def _once(self, key: tuple, compute: Callable):
        if key not in self._cache:
            self._cache[key] = compute()
        return self._cache[key]

    def features(self, name: str) -> Features:
        return self._once(
            ("features", name), lambda: features_of(self.image, self.extractors[name])
        )

    def maps(self, name: str) -> EigenMaps:
        """The eigenvectors of the patch graph, as SAZS gets them."""

        def compute() -> EigenMaps:
            features = self.features(name)
            graph = eigen.graphs.build.build(
                eigen.GraphSpec(), features.rows, features.grid, self.image, features.cells
            )
            return EigenMaps.of_pairs(from_graph(graph, self.size, K + 1), self.size)

        return self._once(("maps", name), compute)

    def pixel_graph(self, name: str) -> tuple[sp.csr_array, tuple[int, int]]:
        """The pixel graph of the features themselves."""
        f = self.features(name)
        spec = PixelSpec(step=STEP)
        return self._once(
            ("pixels", name), lambda: pixels.build(spec, f.rows, f.grid, self.image, f.cells)
        )

    def pixel_maps(self, name: str) -> EigenMaps:
        """Its eigenvectors."""

        def compute() -> EigenMaps:
            W, grid = self.pixel_graph(name)
            graph = Graph(W, grid, eigen.pairs.Cells.over(self.size, grid))
            pairs = from_graph(graph, self.size, SolveSpec(k=self.most + 1, tolerance=1e-3))
            planes = upsample_pairs(pairs)
            return EigenMaps(planes > 0, planes, pairs.eigenvalues)

        return self._once(("pixel maps", name), compute)

    def shape_graph(self, name: str | None) -> tuple[sp.csr_array, tuple[int, int]]:
        """The pixel graph of colours, and of an extractor's eigenvectors."""
        planes = None if name is None else self.maps(name).planes
        return self._once(("shape", name), lambda: graph_of(self.image, planes, self.size))

    def kernels(self, rule: DenseCRF) -> Kernels:
        widths = rule.place, rule.colour, rule.near
        return self._once(("crf", *widths), lambda: kernels(self.image, *widths))


Smoother = Callable[[np.ndarray, Scene], np.ndarray]
"""Log-odds (C, H, W) and the scene to smooth probabilities (C, H, W)."""


def patch_projection(margins: np.ndarray, scene: Scene, *, name: str) -> np.ndarray:
    return Projection(ridge=0.1).smooth(probability(margins), scene.maps(name))


def pixel_projection(margins: np.ndarray, scene: Scene, *, name: str, k: int) -> np.ndarray:
    """Least squares on the first k vectors, with the ridge of `Projection`."""
    maps = scene.pixel_maps(name)
    basis = maps.planes[1 : k + 1].reshape(k, -1)
    basis = basis / np.linalg.norm(basis, axis=1, keepdims=True)
    eigenvalues = maps.eigenvalues[1 : k + 1]
    values = probability(margins).reshape(len(margins), -1)
    means = values.mean(1, keepdims=True)
    gram = basis @ basis.T + np.diag(0.1 * eigenvalues + 1e-3).astype(np.float32)
    fit = np.linalg.solve(gram, basis @ (values - means).T).T @ basis
    return (means + fit).reshape(margins.shape)


def shape_diffusion(
    margins: np.ndarray, scene: Scene, *, name: str | None, mu: float
) -> np.ndarray:
    return diffused(probability(margins), scene.shape_graph(name), mu=mu)


def feature_diffusion(margins: np.ndarray, scene: Scene, *, name: str, mu: float) -> np.ndarray:
    return diffused(probability(margins), scene.pixel_graph(name), mu=mu)


def guided(margins: np.ndarray, scene: Scene, *, radius: int) -> np.ndarray:
    return guided_filter(scene.image, probability(margins), radius=radius)


def crf(margins: np.ndarray, scene: Scene, *, rule: DenseCRF) -> np.ndarray:
    return rule(margins, scene.kernels(rule))


@dataclass(frozen=True)
class Way:
    """A smoother, the weights of its map in the mix that are tried, and the cuts."""

    smooth: Smoother
    weights: tuple[float, ...] = (1.0,)
    cuts: tuple[str, ...] = ("half", "area")

    def labels(self, name: str) -> Iterator[tuple[str, float, str]]:
        """(label, weight, cut) of each variant."""
        for weight in self.weights:
            shown = name if self.weights == (1.0,) else f"{name}, weight {weight:g}"
            for rule in self.cuts:
                yield f"{shown} | {rule}", weight, rule


EVERY_CUT = ("half", "area", "pieces", "mass", "mean")
MIXED = (0.6, 1.0)
EXTRACTORS = ("lowlevel8", "efficientnet_lite2")


def ways() -> dict[str, Way]:
    """All ways by name."""
    found: dict[str, Way] = {}
    for name in EXTRACTORS:
        found[f"projection, {K} of {name}"] = Way(partial(patch_projection, name=name), MIXED)
    lite = EXTRACTORS[1]
    for k in (10, 20, MOST):
        found[f"projection, {k} of the pixel graph"] = Way(
            partial(pixel_projection, name=lite, k=k)
        )
    graphs = {"colours": None, **{f"colours and {K} of {name}": name for name in EXTRACTORS}}
    for shown, vectors in graphs.items():
        for mu in (0.03, 0.1, 0.3):
            smooth = partial(shape_diffusion, name=vectors, mu=mu)
            cuts = EVERY_CUT if mu == 0.1 else ("half", "area")
            found[f"diffusion, {shown}, mu {mu:g}"] = Way(smooth, cuts=cuts)
    for mu in (0.03, 0.1, 0.3):
        smooth = partial(feature_diffusion, name=lite, mu=mu)
        found[f"diffusion, colours and features, mu {mu:g}"] = Way(smooth)
    found["guided filter"] = Way(partial(guided, radius=8))
    for weight in (1.0, 4.0):
        rule = DenseCRF(bilateral=weight, spatial=min(weight, 3.0))
        found[f"dense CRF, weight {weight:g}"] = Way(partial(crf, rule=rule))
    return found


def extractors() -> dict[str, Extractor]:
    return {name: eigen.extractor(name) for name in EXTRACTORS}
