"""Block Lanczos: restarts, exhausted spaces, precision; test_solve checks the pairs."""

import numpy as np
import pytest

from eigen.graphs import cosine
from eigen.solvers import gallery
from eigen.solvers import krylov as module
from eigen.solvers.krylov import fills_block
from eigen.solvers.lanczos import lanczos
from eigen.solvers.problem import NormalizedProblem


def features(n, d=4, seed=0):
    x = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_restarts_lose_nothing(monkeypatch):
    """With room for a few blocks only, the same pairs come out after several compressions."""
    problem = NormalizedProblem(gallery.grid(15, 22).W)
    monkeypatch.setattr(module, "BASIS_BLOCKS", 7)
    compressed, compress = [], module._Basis.compress

    def counting(basis, theta, y):
        compressed.append(basis.size)
        compress(basis, theta, y)

    monkeypatch.setattr(module._Basis, "compress", counting)
    values, u = lanczos(problem, 5, tolerance=1e-9, seed=0, max_restarts=200)
    assert len(compressed) > 3
    np.testing.assert_allclose(values, gallery.grid(15, 22).eigenvalues[:5], atol=1e-10)
    assert problem.residual(values, u).max() < 1e-8


@pytest.mark.parametrize("k", [1, 3, 9])
@pytest.mark.parametrize("block", [1, 2, 5, 50])
def test_a_basis_that_becomes_the_whole_space_is_exact(k, block):
    graph = gallery.path(10)
    values, u = lanczos(NormalizedProblem(graph.W), k, tolerance=1e-14, seed=0, block=block)
    np.testing.assert_allclose(values, graph.eigenvalues[:k], atol=1e-12)
    np.testing.assert_allclose(u.T @ u, np.eye(k), atol=1e-12)


@pytest.mark.parametrize(
    ("wide", "tolerance", "dtype"),
    [(False, 1e-5, np.float32), (False, 1e-8, np.float64), (True, 1e-5, np.float64)],
)
def test_products_run_in_float32_only_where_that_reaches_the_tolerance(wide, tolerance, dtype):
    W = cosine.nearest(features(500), 9)
    problem = NormalizedProblem(W.astype(np.float64) if wide else W)
    values, u = lanczos(problem, 4, tolerance=tolerance, seed=0)
    assert u.dtype == dtype
    assert problem.residual(values, u).max() <= tolerance
    np.testing.assert_allclose(u.T @ u, np.eye(4), atol=50 * np.finfo(dtype).eps)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_node_or_two(n):
    problem = NormalizedProblem(cosine.dense(np.ones((n, 1), np.float32)))
    values, u = lanczos(problem, n, tolerance=1e-5, seed=0)
    np.testing.assert_allclose(values, [0, 1, 1][:n], atol=1e-6)
    np.testing.assert_allclose(u.T @ u, np.eye(n), atol=1e-6)


def test_another_seed_finds_the_same_pairs():
    problem = NormalizedProblem(cosine.dense(features(400)))
    (one, u), (other, w) = (lanczos(problem, 4, tolerance=1e-6, seed=seed) for seed in (0, 1))
    np.testing.assert_allclose(one, other, atol=1e-6)
    np.testing.assert_allclose(np.abs(np.sum(u * w, axis=0)), 1, atol=1e-6)


def test_a_graph_whose_similarity_has_rank_one():
    """Every product lies in the span of the null vector; the rest needs no division by 0."""
    problem = NormalizedProblem(cosine.dense(np.full((200, 4), 0.5, np.float32)))
    values, u = lanczos(problem, 4, tolerance=1e-5, seed=0)
    np.testing.assert_allclose(values, [0, 1, 1, 1], atol=1e-6)
    assert np.isfinite(u).all()


@pytest.mark.parametrize(
    ("theta", "filled"),
    [
        ([1, 0.9, 0.9, 0.3], True),
        ([1, 0.9, 0.8, 0.8], False),  # more copies would come after the last one wanted
        ([1, 1, 0.9, 0.3], False),  # the locked vector is not of the block
        ([1, 1, 1, 0.3], True),
        ([1, 0.9, 0.9 - 2e-5, 0.3], False),
    ],
)
def test_when_a_cluster_fills_the_block(theta, filled):
    assert fills_block(np.array(theta), 2, 1e-5) is filled


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5])
def test_all_copies_of_a_fourfold_eigenvalue_are_found(tolerance):
    """A torus, of which ARPACK returns two or three copies and then the next eigenvalue."""
    ring = np.exp(3 * np.cos(2 * np.pi / 25 * np.subtract.outer(np.arange(25), np.arange(25))))
    problem = NormalizedProblem(np.kron(ring, ring).astype(np.float32))
    values, u = lanczos(problem, 5, tolerance=tolerance, seed=0)
    expected = np.linalg.eigvalsh(problem.dense_laplacian())[:5]
    assert expected[4] - expected[1] < 1e-6 and expected[1] > 0.1
    np.testing.assert_allclose(values, expected, atol=1e-5)
    assert problem.residual(values, u).max() < tolerance
