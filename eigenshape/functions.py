"""Public functions that do not need a trained segmenter."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

import eigen.picture
from data.arguments import check_type, described, pair, whole
from data.errors import GraphError, SettingError
from data.files import expanded
from data.images import as_image
from data.settings import nearest
from eigen.extractors import Extractor
from eigen.extractors import extractor as make_extractor
from eigen.graphs import build as graphs
from eigen.graphs.affinity import Affinity, AffinityOperator
from eigen.pairs import Cells, Eigenpairs
from eigen.picture import MAX_PATCHES, from_graph
from eigen.solvers.spec import SolveSpec

if TYPE_CHECKING:
    from data.images import ImageLike

_SOLVE = SolveSpec()


def extractor(name: str, *, weights: str | Path | None = None, **options: Any) -> Extractor:
    """Build an extractor by name, or return the one already built in this process.

    Parameters
    ----------
    name : str
        Such as "dino_vits16" or "lowlevel" (which needs no weights); docs/extractors.md lists them.
    weights : path or "random:SEED", optional
        Weight file; by default the published weights of that name. A file that changed on disk is
        read again.
    **options
        `facet`, `block`, `device`, `autocast`: see `eigen.extractors.extractor`.

    Raises
    ------
    SettingError
        The name or an option is unknown.
    WeightsError
        The weights are missing, unreadable or of another network.
    """
    known = inspect.signature(make_extractor).parameters.keys()
    if unknown := sorted(options.keys() - known):
        raise SettingError(f"{unknown[0]}: no such option; {nearest(unknown[0], known)}")
    check_type("extractor", name, str, 'a name such as "dino_vits16"')
    path = expanded(weights) if weights is not None else None
    stamp = None
    if path is not None and path.is_file():
        stamp = (path.stat().st_size, path.stat().st_mtime_ns)
    hashable = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
    return _cached(name, None if weights is None else str(weights), stamp, **hashable)


@functools.lru_cache(maxsize=4)
def _cached(name: str, weights: str | None, stamp: object, **options: Any) -> Extractor:
    return make_extractor(name, weights=weights, **options)


def eigenvectors(
    image: ImageLike,
    extractor: Extractor | str,
    k: int = _SOLVE.k,
    *,
    graph: graphs.GraphSpec | None = None,
    solver: str = _SOLVE.solver,
    tolerance: float = _SOLVE.tolerance,
    drop_trivial: bool = _SOLVE.drop_trivial,
    seed: int = _SOLVE.seed,
    max_patches: int = MAX_PATCHES,
) -> Eigenpairs:
    """Compute the K smallest eigenpairs of (D - W) v = lambda D v for the graph of one image.

    Parameters
    ----------
    image : path, PIL image, or ndarray of shape (H, W), (H, W, 3) or (H, W, 4), uint8
    extractor : Extractor or str
        An extractor, or the name of one, which is built once per process.
    k : int
        Number of eigenpairs, including the constant one unless `drop_trivial`.
    graph : GraphSpec, optional
        Graph to build; by default the dense patch graph, W = max(X X^T, 0) for unit feature rows X.
    solver : str
        "auto", or the name of the only solver to try; see `SolveSpec`.
    tolerance : float
        Largest accepted residual.
    drop_trivial : bool
        Leave out the constant eigenvector and return the next k.
    seed : int
        Seed of all random numbers.
    max_patches : int
        Largest number of patches; larger images are reduced first.

    Returns
    -------
    Eigenpairs
        Eigenvalues (K,) float64 in [0, 2], vectors (K, h, w) float32, residuals (K,).

    Raises
    ------
    SettingError, ImageError, WeightsError
        `image` is not an image or cannot be read, or the extractor cannot be built.
    GraphError
        The features do not form a valid graph, or it has fewer than `k` nodes.
    eigen.solvers.solution.ConvergenceError
        No solver reached the tolerance.

    References
    ----------
    Melas-Kyriazi et al., "Deep Spectral Methods", CVPR 2022, section 3.
    """
    _check_graph(graph)
    return eigen.picture.eigenvectors(
        as_image(image),
        the_extractor(extractor),
        k,
        graph=graph,
        solver=solver,
        tolerance=tolerance,
        drop_trivial=drop_trivial,
        seed=seed,
        max_patches=whole("max_patches", max_patches),
    )


def _check_graph(graph: Any) -> None:
    if graph is not None:
        check_type("graph", graph, graphs.GraphSpec, 'a GraphSpec, such as GraphSpec(kind="pixel")')


_named = extractor  # several functions have an argument of that name


def the_extractor(extractor: Extractor | str) -> Extractor:
    """The extractor itself, or the one of that name.

    Raises
    ------
    SettingError
        Neither of the two, or a name that does not exist.
    """
    if isinstance(extractor, str):
        return _named(extractor)
    if not (callable(extractor) and hasattr(extractor, "patch") and hasattr(extractor, "grid")):
        raise SettingError(
            'extractor: expected a name such as "dino_vits16", or what `es.extractor` returns, '
            f"found {described(extractor)}"
        )
    return extractor


def eigenvectors_of(
    source: np.ndarray | sp.sparray | sp.spmatrix | AffinityOperator,
    grid: tuple[int, int],
    k: int = _SOLVE.k,
    *,
    kind: str = "auto",
    image: ImageLike | None = None,
    size: tuple[int, int] | None = None,
    cells: Cells | None = None,
    graph: graphs.GraphSpec | None = None,
    solver: str = _SOLVE.solver,
    tolerance: float = _SOLVE.tolerance,
    drop_trivial: bool = _SOLVE.drop_trivial,
    seed: int = _SOLVE.seed,
) -> Eigenpairs:
    """Compute eigenpairs from your own features or affinity.

    Parameters
    ----------
    source : ndarray, sparse array or operator
        Features, one row per node in row-major order: (h*w, d) or (h, w, d); rows are normalised to
        unit length. Or an affinity (h*w, h*w): symmetric, non-negative, without a zero row, as an
        ndarray, a sparse array, or an object with `shape`, `dtype` and `matmat`.
    grid : (h, w)
        Nodes per column and per row.
    kind : {"auto", "features", "affinity"}
        "auto" treats a symmetric (h*w, h*w) array as an affinity, and refuses another one.
    image : as in `eigenvectors`, optional
        Required if `graph` uses colours or pixels.
    size : (H, W), optional
        Size of the image in pixels; by default that of `image`, otherwise `grid`.
    cells : Cells, optional
        Positions of the nodes in the image, such as `eigen.pairs.Cells.of_patches(16)`; by default
        the grid covers `size` exactly.
    graph : GraphSpec, optional
        Graph to build from features; not allowed with an affinity.
    k, solver, tolerance, drop_trivial, seed
        As in `eigenvectors`.

    Raises
    ------
    GraphError
        The source does not fit the grid or is not a valid graph; the message names the node.
    SettingError
        `kind` is unknown, or `graph` contradicts the source or needs an image.
    """
    grid, size = pair("grid", grid), None if size is None else pair("size", size)
    _check_graph(graph)
    if cells is not None:
        check_type("cells", cells, Cells, "Cells, such as eigen.pairs.Cells.of_patches(16)")
    if kind not in ("auto", "features", "affinity"):
        raise SettingError(f"kind: expected auto, features or affinity, found {kind!r}")
    nodes = grid[0] * grid[1]
    pixels = None if image is None else as_image(image)
    size = size or (grid if pixels is None else (pixels.shape[0], pixels.shape[1]))
    cells = cells or Cells.over(size, grid)
    if kind == "affinity" or (kind == "auto" and _is_affinity(source, nodes)):
        if graph is not None:
            raise SettingError("graph: expected none with an affinity; give features, or no graph")
        built = graphs.Graph(_affinity(source, nodes), grid, cells)
    else:
        built = _graph_of_features(source, grid, graph or graphs.GraphSpec(), pixels, cells)
    spec = SolveSpec(k=k, solver=solver, tolerance=tolerance, drop_trivial=drop_trivial, seed=seed)
    return from_graph(built, size, spec)


def _is_affinity(source: Any, nodes: int) -> bool:
    if not isinstance(source, np.ndarray):
        return sp.issparse(source) or isinstance(source, AffinityOperator)
    if source.shape != (nodes, nodes) or source.dtype.kind not in "fiub":
        return False
    if not np.allclose(source, source.T, rtol=1e-4, atol=1e-6, equal_nan=True):
        raise SettingError(
            f"kind: a matrix of {nodes} x {nodes} that is not symmetric may be features or a wrong "
            'affinity; give kind="features" or kind="affinity"'
        )
    return True


def _affinity(source: Any, nodes: int) -> Affinity:
    shape = getattr(source, "shape", None)
    if shape != (nodes, nodes):
        raise GraphError(f"affinity: expected shape {(nodes, nodes)} for the grid, found {shape}")
    if not sp.issparse(source) and not isinstance(source, np.ndarray | AffinityOperator):
        raise GraphError(
            "affinity: expected an ndarray, a sparse array, or an object with shape, dtype and "
            f"matmat, found {type(source).__qualname__}"
        )
    dtype = np.float64 if source.dtype == np.float64 else np.float32
    if sp.issparse(source):
        return sp.csr_array(source).astype(dtype)
    return np.ascontiguousarray(source, dtype) if isinstance(source, np.ndarray) else source


def _graph_of_features(
    source: Any,
    grid: tuple[int, int],
    spec: graphs.GraphSpec,
    image: np.ndarray | None,
    cells: Cells,
) -> graphs.Graph:
    features = np.asarray(source)
    if features.dtype.kind not in "fiu":
        raise GraphError(f"features: expected an array of numbers, found dtype {features.dtype}")
    if features.ndim == 3 and features.shape[:2] == tuple(grid):
        features = features.reshape(-1, features.shape[2])
    if features.ndim != 2 or len(features) != grid[0] * grid[1]:
        raise GraphError(
            f"features: expected shape ({grid[0] * grid[1]}, d) or ({grid[0]}, {grid[1]}, d) for a "
            f"grid of {grid[0]} x {grid[1]} nodes, found {features.shape}"
        )
    if image is None and (spec.kind == "pixel" or spec.colour != "none"):
        raise SettingError(
            "image: expected the image of the features, which this kind of graph needs"
        )
    length = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(length[:, 0]) | (length[:, 0] == 0))
    if bad.size:
        raise GraphError(
            f"features: expected finite, non-zero rows; found {bad.size} others, first row "
            f"{bad[0]} (node {bad[0] // grid[1]}, {bad[0] % grid[1]})"
        )
    unit = (features / length).astype(np.float32)
    if image is None:  # unused by this graph, which is of patches without colours
        image = np.zeros((*grid, 3), np.uint8)
    return graphs.build(spec, unit, grid, image, cells)
