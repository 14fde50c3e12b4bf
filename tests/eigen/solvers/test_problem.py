"""Products, dense and sparse forms and residuals of one problem agree with its definition."""

import numpy as np
import pytest
import scipy.sparse as sp

from eigen.graphs import cosine
from eigen.solvers import gallery
from eigen.solvers.problem import NormalizedProblem, orthonormal


def features(n, seed=0):
    x = np.random.default_rng(seed).standard_normal((n, 5)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


AFFINITIES = {
    "triangle": lambda: cosine.dense(features(90)),
    "array": lambda: cosine.dense(features(90)).toarray().astype(np.float64),
    "sparse": lambda: cosine.nearest(features(90), 8),
    "operator": lambda: cosine.CosineAffinity(features(90)),
}


@pytest.fixture(params=AFFINITIES)
def problem(request):
    return NormalizedProblem(AFFINITIES[request.param]())


def definition(problem):
    W = problem.whole_affinity().astype(np.float64)
    d = W.sum(axis=1)
    return np.eye(len(W)) - W / np.sqrt(np.outer(d, d))


def test_every_form_is_the_definition(problem):
    L = definition(problem)
    vectors = np.random.default_rng(1).standard_normal((90, 3))
    np.testing.assert_allclose(problem.dense_laplacian(), L, atol=1e-6)
    np.testing.assert_allclose(problem.similarity(vectors), vectors - L @ vectors, atol=1e-5)
    np.testing.assert_allclose(L @ problem.null_vector, 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(problem.null_vector), 1)
    if problem.is_sparse:
        np.testing.assert_allclose(problem.laplacian().toarray(), L, atol=1e-12)


def test_float32_products_stay_float32(problem):
    vectors = np.random.default_rng(1).standard_normal((90, 2)).astype(problem.W.dtype)
    assert problem.similarity(vectors).dtype == problem.W.dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_pass_gives_a_product_and_the_degrees(monkeypatch, dtype):
    W = cosine.CosineAffinity(features(90))
    passes, multiply = [], W.matmat
    monkeypatch.setattr(W, "matmat", lambda v: passes.append(v.shape[1]) or multiply(v))
    problem = NormalizedProblem(W)
    vectors = np.random.default_rng(1).standard_normal((90, 3)).astype(dtype)
    first, second = problem.product(vectors), problem.product(vectors)
    assert passes == [4, 3]
    assert problem.degree.dtype == np.float64
    whole = NormalizedProblem(cosine.dense(features(90)))
    np.testing.assert_allclose(problem.degree, whole.degree, rtol=2e-7)
    np.testing.assert_allclose(first, whole.W.toarray() @ vectors, atol=1e-4)
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_dependent_vectors_are_left_out_of_a_basis():
    rng = np.random.default_rng(0)
    independent = rng.standard_normal((50, 3)) * [1, 1e-3, 10]
    vectors = np.hstack([independent, independent @ rng.standard_normal((3, 2)), np.zeros((50, 1))])
    matrix = rng.standard_normal((50, 50))
    basis, products = orthonormal(vectors, matrix @ vectors)
    assert basis.shape == (50, 3)
    np.testing.assert_allclose(basis.T @ basis, np.eye(3), atol=1e-10)
    np.testing.assert_allclose(products, matrix @ basis, atol=1e-10)


def test_residual_is_that_of_the_unit_vector(problem):
    u = np.random.default_rng(2).standard_normal((90, 2))
    unit = u / np.linalg.norm(u, axis=0)
    values = np.array([0.3, 0.9])
    expected = np.linalg.norm(definition(problem) @ unit - values * unit, axis=0)
    np.testing.assert_allclose(problem.residual(values, 7 * u), expected, atol=1e-5)


def test_eigenvalues_lie_in_0_to_2(problem):
    values = np.linalg.eigvalsh(problem.dense_laplacian())
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values[-1] <= 2 + 1e-6


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array, sp.coo_array, sp.csr_matrix])
def test_integer_weights_are_computed_with_as_float64(form):
    W = gallery.path(9).W.toarray().astype(int)
    problem = NormalizedProblem(form(W))
    assert problem.W.dtype == np.float64
    np.testing.assert_allclose(
        np.linalg.eigvalsh(problem.dense_laplacian()), gallery.path(9).eigenvalues, atol=1e-12
    )


def test_pixel_graphs_join_neighbours_and_patch_graphs_do_not():
    grid = gallery.grid(9, 10).W
    assert NormalizedProblem(grid, grid=(9, 10)).joins_neighbours
    assert NormalizedProblem(grid).reach == 10
    assert not NormalizedProblem(grid).joins_neighbours
    assert not NormalizedProblem(grid, grid=(10, 9)).joins_neighbours
    cut = grid.tolil()
    cut[44, 45] = cut[45, 44] = 0
    assert not NormalizedProblem(cut, grid=(9, 10)).joins_neighbours
    assert not NormalizedProblem(cosine.nearest(features(90), 8), grid=(9, 10)).joins_neighbours
    for strip in ((1, 90), (90, 1)):
        assert NormalizedProblem(gallery.grid(*strip).W, grid=strip).joins_neighbours
