"""Pixel graph of a 400 x 600 image: image to K eigenvectors, against pymatting and scikit-learn.

    python -m benchmarks.pixel_graph            (the packages of the extra `bench` are needed)

Both sides start from the image and end with K eigenvectors of the normalised Laplacian of a graph
of its 240,000 pixels. Ours: `lowlevel8` features, `eigen.graphs.pixels`, `eigen.solvers.solve` with
its certificate. The baseline: the nearest-neighbour graph of KNN matting in colour and position (20
neighbours with positions weighted 2.0 and 10 with 0.1, pymatting's k-d tree) and scikit-learn's
`spectral_embedding(eigen_solver="amg")`. The graphs differ, so each solver is also timed on the
other's graph. Residuals are |L_sym u - lambda u| in float64; the baseline's after a Rayleigh-Ritz
step in its favour.
"""

from __future__ import annotations

import multiprocessing
import warnings
from pathlib import Path

import click
import numpy as np
from PIL import Image
from scipy import sparse

import eigen
from benchmarks import _harness
from eigen.extractors.contract import cells_of
from eigen.graphs import build as graphs
from eigen.picture import from_graph
from eigen.solvers import solve
from eigen.solvers.problem import NormalizedProblem
from eigen.solvers.spec import SolveSpec
from pipeline.commands import help_text

TOLERANCE = 1e-4
SPEC = eigen.GraphSpec(kind="pixel")


def photo(height: int, width: int) -> np.ndarray:
    """scikit-image's `coffee` (400 x 600), resized."""
    from skimage import data

    return np.asarray(Image.fromarray(data.coffee()).resize((width, height)))


def our_graph(image: np.ndarray) -> graphs.Graph:
    """Features and pixel graph."""
    extractor = eigen.extractor("lowlevel8")
    features, grid = extractor([image])[0], extractor.grid(image.shape[:2])
    return graphs.build(SPEC, features, grid, image, cells_of(extractor, image.shape[:2]))


def ours(image: np.ndarray, k: int) -> eigen.Eigenpairs:
    """Image to certified eigenpairs."""
    return from_graph(our_graph(image), image.shape[:2], SolveSpec(k=k, tolerance=TOLERANCE))


def baseline_graph(image: np.ndarray) -> sparse.csr_matrix:
    """Nearest-neighbour relations in colour and position, counted both ways."""
    from pymatting.util.kdtree import knn

    height, width = image.shape[:2]
    n = height * width
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    rows, columns = [], []
    for k, weight in ((20, 2.0), (10, 0.1)):
        points = np.dstack([image / 255, weight * x, weight * y]).reshape(n, 5).astype(np.float32)
        _, found = knn(points, points, k=k)
        rows.append(np.repeat(np.arange(n), k))
        columns.append(found.ravel())
    row, column = np.concatenate(rows), np.concatenate(columns)
    ends = np.concatenate([row, column]), np.concatenate([column, row])
    return sparse.csr_matrix((np.ones(len(ends[0])), ends), shape=(n, n))


def baseline_solve(W: sparse.csr_matrix, k: int) -> np.ndarray:
    """scikit-learn's k vectors, (n, k), the constant one included."""
    from sklearn.manifold import spectral_embedding

    with warnings.catch_warnings():
        # SciPy's LOBPCG warns here that it has not converged, as the residual column shows.
        warnings.simplefilter("ignore", UserWarning)
        return spectral_embedding(
            W, n_components=k, eigen_solver="amg", random_state=0, drop_first=False
        )


def baseline_residual(W: sparse.csr_matrix, embedding: np.ndarray) -> float:
    """Largest residual of the vectors after a Rayleigh-Ritz step."""
    problem = NormalizedProblem(sparse.csr_array(W))
    u = np.linalg.qr(embedding * problem.sqrt_degree[:, None])[0]
    values, rotation = np.linalg.eigh(u.T @ (u - problem.similarity(u)))
    return float(problem.residual(values, u @ rotation).max())


def comparison(image: np.ndarray, k: int, turns: int) -> list[dict]:
    """End to end, then each solver on each graph."""

    def whole_baseline() -> tuple[sparse.csr_matrix, np.ndarray]:
        W = baseline_graph(image)
        return W, baseline_solve(W, k)

    whole = _harness.paired(whole_baseline, lambda: ours(image, k), turns=turns)
    rows = [
        {
            "work": "photo to eigenvectors",
            **whole.times(),
            "baseline_residual": baseline_residual(*whole.baseline),
            "our_residual": float(whole.ours.residual.max()),
        }
    ]
    theirs, graph = whole.baseline[0], our_graph(image)
    for name, W, grid in (
        ("solver alone, kNN graph", sparse.csr_array(theirs.astype(np.float32)), None),
        ("solver alone, our graph", graph.W, graph.grid),
    ):
        matrix = sparse.csr_matrix(W.astype(np.float64))
        pair = _harness.paired(
            lambda matrix=matrix: baseline_solve(matrix, k),
            lambda W=W, grid=grid: solve.solve(
                W, SolveSpec(k=k, solver="lobpcg", tolerance=TOLERANCE), grid=grid
            ),
            turns=turns,
            warm=False,
        )
        rows.append(
            {
                "work": name,
                **pair.times(),
                "baseline_residual": baseline_residual(matrix, pair.baseline),
                "our_residual": float(pair.ours.residual.max()),
            }
        )
    return rows


def scaling(k: int, turns: int) -> tuple[list[dict], float]:
    """Time of ours against the number of pixels, and the fitted exponent."""
    rows = []
    for height in (100, 140, 200, 283, 400, 577):
        image = photo(height, height * 3 // 2)
        seconds, pairs = _harness.timed(lambda image=image: ours(image, k), turns=turns)
        rows.append(
            {"pixels": image.size // 3, "seconds": seconds, "residual": pairs.residual.max()}
        )
    pixels, seconds = (np.log([row[key] for row in rows]) for key in ("pixels", "seconds"))
    return rows, float(np.polyfit(pixels, seconds, 1)[0])


def _peak_mib(size: tuple[int, int], k: int) -> float:
    ours(photo(*size), k)
    return _harness.peak_memory_mib()


@click.command(help=help_text(__doc__))
@click.option("--k", default=6, show_default=True)
@click.option("--turns", default=3, show_default=True, help="Paired runs; medians are reported.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/benchmarks"))
def main(k: int, turns: int, out: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as fresh:
        peak = fresh.apply(_peak_mib, ((400, 600), k))
    rows = comparison(photo(400, 600), k, turns)
    _harness.report("pixel_graph", rows, out, our_peak_mib=peak, turns=turns, k=k)
    click.echo(f"peak memory of ours, whole process: {peak:.0f} MiB")
    rows, exponent = scaling(k, turns)
    _harness.report("pixel_graph_scaling", rows, out, exponent=exponent, turns=turns, k=k)
    click.echo(f"seconds grow as pixels to the power {exponent:.2f}")


if __name__ == "__main__":
    main()
