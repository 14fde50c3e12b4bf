"""Patch graphs on the CPU: ours against the published code, and against ncut-pytorch.

`python -m benchmarks.patch_graph` prints tables and writes JSON and a plot to --out.

The published code (Melas-Kyriazi et al., CVPR 2022; written from its description): similarities
clipped at 0, divided by their maximum, colour affinity added, degrees on a dense diagonal, and
SciPy's shift-invert `eigsh(D - W, M=D, sigma=0)`, all in float32. ncut-pytorch gets the same
affinity through its `affinity_fn`; above 8,192 nodes it uses its Nystrom approximation.

Our tolerance in each row is a power of ten at which our residual is not above the baseline's: speed
is compared at no less than equal accuracy.

Residuals are |L_sym u - lambda u| for unit u, measured alike for all: after Rayleigh-Ritz in
float64 on the span of the vectors. Angles are the largest principal angle to a certified solution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import scipy.linalg
import scipy.sparse as sp
import scipy.sparse.linalg
from skimage import data

from benchmarks._harness import Paired, paired, peak_memory_mib, report, timed
from eigen.extractors import extractor
from eigen.graphs import build as graphs
from eigen.graphs import cosine
from eigen.solvers import nystrom, one_pass
from eigen.solvers.problem import NormalizedProblem
from eigen.solvers.solution import Solution, certify
from eigen.solvers.solve import solve
from eigen.solvers.spec import SolveSpec
from eigen.threads import one_pool
from pipeline.commands import help_text

K = 5
LAMBDA = 10.0
STRIP = 120
# Vectors and nodes of the sample behind a reference that takes one pass.
REFERENCE_COLUMNS, REFERENCE_SAMPLE = 64, 1 << 14
Row = dict[str, Any]


def photo(grid: tuple[int, int], patch: int) -> np.ndarray:
    """scikit-image's astronaut, resized so that it has `grid` patches."""
    size = grid[1] * patch, grid[0] * patch
    return cv2.resize(data.astronaut(), size, interpolation=cv2.INTER_AREA)


def features_of(name: str, grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, d) of the image by the extractor `name`, and the image.

    Computed in strips of patch rows: the image of a million patches has 64 megapixels.
    """
    weights = None if name.startswith("lowlevel") else "random:0"
    made = extractor(name, weights=weights, device="cpu")
    image = photo(grid, made.patch)
    strips = range(0, len(image), STRIP * made.patch)
    features = [made([image[top : top + STRIP * made.patch]])[0] for top in strips]
    return np.concatenate(features), image


def published(features: np.ndarray, image: np.ndarray | None, grid: tuple[int, int]) -> np.ndarray:
    """Eigenvectors (n, K) as the published pipeline computes them."""
    similarity = features @ features.T
    W = similarity * (similarity > 0)
    W = W / W.max()
    if image is not None:
        W = W + published_colours(image, grid) * np.float32(LAMBDA)
    degree = W.dot(np.ones(len(W), W.dtype))
    degree[degree < 1e-12] = 1
    D = np.array(sp.diags_array(degree).todense())
    return scipy.sparse.linalg.eigsh(D - W, k=K, sigma=0, which="LM", M=D)[1]


def published_colours(image: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Nearest neighbours in colour and position by pymatting's k-d tree, as a dense matrix."""
    from PIL import Image
    from pymatting.util.kdtree import knn

    h, w = grid
    small = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR)) / 255
    y, x = np.meshgrid(np.linspace(0, 1, h), np.linspace(0, 1, w), indexing="ij")
    rows, columns = [], []
    for k, weight in ((20, 2.0), (10, 0.1)):
        points = np.dstack([small, weight * x, weight * y]).reshape(-1, 5).astype(np.float32)
        _, found = knn(points, points, k=k)
        rows.append(np.repeat(np.arange(h * w), k))
        columns.append(found.ravel())
    row, column = np.concatenate(rows), np.concatenate(columns)
    ends = np.concatenate([row, column]), np.concatenate([column, row])
    ones = np.ones(len(ends[0]), np.float32)
    return sp.coo_array((ones, ends), shape=(h * w, h * w)).tocsr().todense()


def peer(features: np.ndarray, W: np.ndarray | None = None) -> np.ndarray:
    """Eigenvectors (n, K) by ncut-pytorch on max(X X^T, 0), or on `W`."""
    import torch
    from ncut_pytorch import ncut_fn

    def affinity(x: torch.Tensor, y: torch.Tensor | None = None, sigma: float = 1.0):
        if W is not None:
            return torch.from_numpy(W)
        return (x @ (x if y is None else y).T).clamp_(min=0)

    return ncut_fn(torch.from_numpy(features), n_eig=K, affinity_fn=affinity, sigma=1.0)[0].numpy()


def ours(
    spec: graphs.GraphSpec,
    features: np.ndarray,
    image: np.ndarray,
    grid: tuple[int, int],
    tolerance: float = 1e-5,
) -> Solution:
    """Graph and certified solution, as `eigen.eigenvectors` computes them."""
    graph = graphs.build(spec, features, grid, image)
    return solve(graph.W, SolveSpec(k=K, tolerance=tolerance), grid=grid, check=False)


def quality(
    problem: NormalizedProblem, u: np.ndarray, reference: np.ndarray
) -> tuple[float, float]:
    """Largest residual of the span of u, and its angle to `reference` in degrees."""
    return _residuals(problem, {"": u})[""], angle(u, reference)


def angle(u: np.ndarray, reference: np.ndarray) -> float:
    """Largest principal angle of two spans, degrees."""
    # SciPy treats columns much shorter than others as rounding, and leaves them out.
    spans = (np.linalg.qr(each.astype(np.float64))[0] for each in (u, reference))
    return float(np.degrees(scipy.linalg.subspace_angles(*spans).max()))


def compared(
    row: Row, pair: Paired, problem: NormalizedProblem, reference: Solution, *, v_is_u: bool = False
) -> Row:
    """The row with times, residuals and angles of both sides.

    v_is_u : the baseline returns vectors of L_sym, not of the generalised problem.
    """
    root = problem.sqrt_degree[:, None]
    exact = reference.vectors * root
    baseline_u = pair.baseline if v_is_u else pair.baseline * root
    baseline_residual, baseline_angle = quality(problem, baseline_u, exact)
    our_angle = quality(problem, pair.ours.vectors * root, exact)[1]
    return {
        **row,
        **pair.times(),
        "baseline_residual": baseline_residual,
        "our_residual": float(pair.ours.residual.max()),
        "baseline_angle_deg": baseline_angle,
        "our_angle_deg": our_angle,
        "reach": row.get("reach"),
    }


def against_published(
    name: str,
    source: str,
    grid: tuple[int, int],
    reach: float,
    turns: int,
    *,
    colour: bool = False,
    tolerance: float = 1e-5,
    repeats: int = 1,
) -> Row:
    """One row of the table: graph and eigenvectors from features."""
    features, image = features_of(source, grid)
    spec = graphs.GraphSpec(colour="knn", colour_weight=LAMBDA) if colour else graphs.GraphSpec()
    pair = paired(
        lambda: published(features, image if colour else None, grid),
        lambda: ours(spec, features, image, grid, tolerance),
        turns=turns,
        repeats=repeats,
    )
    reference = ours(spec, features, image, grid, tolerance=1e-6)
    problem = NormalizedProblem(graphs.build(spec, features, grid, image).W, check=False)
    row = {"work": name, "tolerance": tolerance, "features": source, "n": len(features)}
    row["d"] = features.shape[1]
    return compared({**row, "baseline": "published", "reach": reach}, pair, problem, reference)


def against_peer(source: str, grid: tuple[int, int], turns: int, *, given: bool) -> Row:
    """The same affinity, built by both or given to both; ncut-pytorch is exact at this size."""
    features, image = features_of(source, grid)
    spec = graphs.GraphSpec()
    stored = cosine.dense(features)
    whole = stored.toarray() if given else None

    def solved() -> Solution:
        if given:
            return solve(stored, SolveSpec(k=K, tolerance=1e-3), grid=grid, check=False)
        return ours(spec, features, image, grid, 1e-3)

    pair = paired(lambda: peer(features, whole), solved, turns=turns)
    reference = ours(spec, features, image, grid, tolerance=1e-6)
    problem = NormalizedProblem(stored, check=False)
    row = {
        "work": "peer, affinity given" if given else "peer",
        "tolerance": 1e-3,
        "features": source,
    }
    row |= {"n": len(features), "d": features.shape[1], "baseline": "ncut_fn", "reach": 4.0}
    return compared(row, pair, problem, reference, v_is_u=True)


def arpack(problem: NormalizedProblem, tolerance: float) -> Solution:
    """SciPy's ARPACK on the operator that our solvers multiply, certified as ours are.

    Products are in float32, and the start vector is fixed, so that equal input gives equal bytes.
    """
    n = problem.n
    operator = scipy.sparse.linalg.LinearOperator(
        (n, n), matvec=lambda x: problem.similarity(x.reshape(n, 1))[:, 0], dtype=np.float32
    )
    start = np.random.default_rng([0, n]).standard_normal(n).astype(np.float32)
    with one_pool():
        theta, u = scipy.sparse.linalg.eigsh(operator, K, which="LA", tol=tolerance, v0=start)
        return certify(problem, "arpack", 1 - theta[::-1], u[:, ::-1], seed=0)


def against_arpack(
    source: str, grid: tuple[int, int], spec: graphs.GraphSpec, turns: int, *, repeats: int = 1
) -> Row:
    """ARPACK and ours on one stored graph: the solver alone, with the certificate of each.

    ARPACK runs at the loosest tolerance at which its residual is not above ours.
    """
    features, image = features_of(source, grid)
    W = graphs.build(spec, features, grid, image).W
    problem = NormalizedProblem(W, check=False)
    solution = solve(problem, K)
    tolerance = _equal_tolerance(problem, float(solution.residual.max()))
    pair = paired(
        lambda: arpack(problem, tolerance), lambda: solve(problem, K), turns=turns, repeats=repeats
    )
    pair = replace(pair, baseline=pair.baseline.vectors)
    reference = solve(problem, SolveSpec(k=K, tolerance=1e-6))
    row = {"work": "solver alone", "tolerance": 1e-5, "features": source, "n": len(features)}
    row |= {"d": features.shape[1], "baseline": f"ARPACK, tol {tolerance:.0e}"}
    return compared(row, pair, problem, reference)


def _equal_tolerance(problem: NormalizedProblem, residual: float) -> float:
    """The loosest of ARPACK's tolerances (three per decade) that leaves at most this residual."""
    for tolerance in np.logspace(-1, -6, 16):
        if arpack(problem, tolerance).residual.max() <= residual:
            return float(tolerance)
    raise click.ClickException(f"ARPACK in float32 does not reach a residual of {residual:.1e}")


def never_stored(features: np.ndarray, device: str) -> cosine.CosineAffinity:
    """The operator whose products run in NumPy, or in torch on another device than the CPU."""
    if device == "cpu":
        return cosine.CosineAffinity(features)
    from eigen.graphs.cosine_torch import DeviceCosineAffinity

    return DeviceCosineAffinity(features, device)


def sampled(W: cosine.CosineAffinity, nodes: int) -> np.ndarray:
    """Vectors u (n, K) from the columns of W at a sample, without a pass over all pairs."""
    v, degree = nystrom.extended(W, K, nodes)
    return v * np.sqrt(degree)[:, None]


def large(
    grid: tuple[int, int], *, reference: str, device: str, has_peers: bool = True
) -> Iterator[Row]:
    """ncut-pytorch's Nystrom, ours from samples, and the reference solution."""
    features, _ = features_of("lowlevel8", grid)
    W = never_stored(features, device)
    found: dict[str, tuple[float, np.ndarray]] = {}
    if has_peers:
        found["ncut_fn"] = timed(lambda: peer(features))
    for count in (256, 1024):
        found[f"sample of {count}"] = timed(lambda m=count: sampled(W, m))
    if reference == "certified":
        looking, looked = timed(lambda: one_pass.one_pass(W, K))
        problem = NormalizedProblem(W)
        solving, solution = timed(lambda: solve(problem, K))
        root = problem.sqrt_degree[:, None]
        found["one pass"] = looking, looked.vectors * root
        residuals = _residuals(problem, {way: u for way, (_, u) in found.items()})
        residuals[reference] = float(solution.residual.max())
        found[reference] = solving, solution.vectors * root
    else:
        residuals = _add_reference_of_one_pass(W, found)
    for way, (seconds, u) in found.items():
        yield {
            "n": len(features),
            "way": way,
            "seconds": seconds,
            "angle_deg": angle(u, found[reference][1]),
            "residual": residuals[way],
            "reference": reference,
            "peak_mib": peak_memory_mib(),
        }


def _add_reference_of_one_pass(
    W: cosine.CosineAffinity, found: dict[str, tuple[float, np.ndarray]]
) -> dict[str, float]:
    """Add the pairs of one pass over W to `found`; residuals of all ways, from that same pass.

    Their degrees are not known before it: u becomes v = D^-1/2 u by those of the sample.
    """

    def looked() -> tuple[list[np.ndarray], list[np.ndarray]]:
        guess, degree = nystrom.extended(W, REFERENCE_COLUMNS, REFERENCE_SAMPLE)
        vectors = [u / np.sqrt(degree)[:, None] for _, u in found.values()]
        together = np.hstack([guess, *vectors]).astype(np.float32)
        image = W.matmat(together)
        ends = np.cumsum([guess.shape[1], *(v.shape[1] for v in vectors)])[:-1]
        return np.split(together, ends, axis=1), np.split(image, ends, axis=1)

    seconds, (guesses, images) = timed(looked)
    degree = images[0][:, 0].astype(np.float64)
    pairs = [one_pass.ritz(*each, degree, K) for each in zip(guesses, images, strict=True)]
    found["one pass"] = seconds, pairs[0].vectors * np.sqrt(degree)[:, None]
    residuals = [float(pair.residual.max()) for pair in pairs]
    return dict(zip(found, [*residuals[1:], residuals[0]], strict=True))


def _residuals(problem: NormalizedProblem, vectors: dict[str, np.ndarray]) -> dict[str, float]:
    """Largest residual after Rayleigh-Ritz of each, from one product for all."""
    bases = {way: np.linalg.qr(u.astype(np.float64))[0] for way, u in vectors.items()}
    images = np.split(problem.similarity(np.hstack([*bases.values()])), len(bases), axis=1)
    residuals = {}
    for (way, u), image in zip(bases.items(), images, strict=True):
        values, y = np.linalg.eigh(u.T @ image)
        residuals[way] = float(np.linalg.norm(image @ y - u @ y * values, axis=0).max())
    return residuals


def scaling(turns: int) -> Iterator[Row]:
    """Time against the number of patches; the published way up to 4,200."""
    for grid in ((20, 25), (28, 36), (40, 50), (56, 75), (75, 94), (90, 111)):
        features, image = features_of("lowlevel8", grid)
        row: Row = {"n": len(features)}
        seconds, solution = timed(
            lambda f=features, i=image, g=grid: ours(graphs.GraphSpec(), f, i, g), turns=turns
        )
        row |= {"ours_s": seconds, "our_residual": float(solution.residual.max())}
        if len(features) <= 4200:
            row["published_s"] = timed(lambda f=features, g=grid: published(f, None, g))[0]
        yield row


def exponent(rows: list[Row], column: str) -> float:
    """Slope of log time over log n, by least squares."""
    points = [(row["n"], row[column]) for row in rows if column in row]
    return float(np.polyfit(*np.log(np.array(points).T), 1)[0])


def plot(rows: list[Row], path: Path) -> None:
    """Times of `scaling` over n, on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.5), layout="constrained")
    for column, label in (("published_s", "published"), ("ours_s", "ours, certified")):
        points = [(row["n"], row[column]) for row in rows if column in row]
        axes.loglog(
            *zip(*points, strict=True), "o-", label=f"{label}, n^{exponent(rows, column):.2f}"
        )
    axes.set(xlabel="patches", ylabel="seconds, graph included")
    axes.legend()
    figure.savefig(path, dpi=120)


ROWS: dict[str, Callable[[int], Row]] = {
    "dense": lambda turns: against_published("dense", "lowlevel8", (56, 75), 8.0, turns),
    "dense_vit": lambda turns: against_published(
        "dense", "dino_vits8", (56, 75), 8.0, turns, tolerance=1e-6
    ),
    "colour": lambda turns: against_published(
        "colour kNN, lambda 10", "lowlevel8", (56, 75), 6.0, turns, colour=True, tolerance=1e-4
    ),
    "small": lambda turns: against_published(
        "small", "lowlevel8", (28, 36), 5.0, turns, tolerance=1e-6, repeats=10
    ),
    "peer": lambda turns: against_peer("lowlevel8", (56, 75), turns, given=False),
    "arpack": lambda turns: against_arpack("lowlevel8", (56, 75), graphs.GraphSpec(), turns),
    "arpack_vit": lambda turns: against_arpack("dino_vits8", (56, 75), graphs.GraphSpec(), turns),
    "arpack_colour": lambda turns: against_arpack(
        "lowlevel8", (56, 75), graphs.GraphSpec(colour="knn", colour_weight=LAMBDA), turns
    ),
    "arpack_knn": lambda turns: against_arpack(
        "lowlevel8", (56, 75), graphs.GraphSpec(neighbours=20), turns
    ),
    "arpack_small": lambda turns: against_arpack(
        "lowlevel8", (28, 36), graphs.GraphSpec(), turns, repeats=10
    ),
    "peer_solver": lambda turns: against_peer("lowlevel8", (56, 75), turns, given=True),
}
GRIDS = {"65k": (217, 300), "240k": (400, 600), "1m": (870, 1150)}


@click.command(help=help_text(__doc__))
@click.option("--only", multiple=True, type=click.Choice([*ROWS, "scaling", *GRIDS]))
@click.option("--turns", default=5, help="Paired runs of each row.")
@click.option(
    "--reference",
    default="one pass",
    type=click.Choice(["one pass", "certified"]),
    help="What 240k and 1M are measured by: one pass over all pairs (5 minutes, 1.2 hours of two "
    "cores), or as many as bring the residual to 1e-5 (15 minutes, 4 hours).",
)
@click.option("--device", default="cpu", help="Device of the certified products from 65k on.")
@click.option(
    "--peers/--no-peers", default=True, help="Include ncut-pytorch from 65k on, on the CPU."
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/benchmarks"))
def main(
    only: tuple[str, ...], turns: int, reference: str, device: str, peers: bool, out: Path
) -> None:
    chosen = only or (*ROWS, "scaling", "65k")
    rows = [ROWS[name](turns) for name in chosen if name in ROWS]
    if rows:
        report("patch_graph", rows, out)
    if "scaling" in chosen:
        rows = list(scaling(turns))
        exponents = {c: exponent(rows, c) for c in ("ours_s", "published_s")}
        report("patch_graph_scaling", rows, out, exponents=exponents)
        click.echo(f"exponents: {exponents}")
        plot(rows, out / "patch_graph_scaling.png")
    for name in (name for name in GRIDS if name in chosen):
        by = "certified" if name == "65k" else reference
        rows = list(large(GRIDS[name], reference=by, device=device, has_peers=peers))
        report(f"patch_graph_{name}", rows, out)


if __name__ == "__main__":
    main()
