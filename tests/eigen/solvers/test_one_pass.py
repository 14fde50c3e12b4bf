"""Eigenpairs from one pass over all pairs of nodes: guarantees and accuracy."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import GraphError
from eigen.graphs import cosine
from eigen.solvers.one_pass import one_pass, ritz
from eigen.solvers.problem import NormalizedProblem
from eigen.solvers.solve import solve
from tests.eigen.solvers.clustered import clustered


@pytest.fixture(scope="module")
def operator():
    return cosine.CosineAffinity(clustered(1200))


@pytest.fixture(scope="module")
def exact(operator):
    """Problem and all its eigenvalues and unit vectors, by LAPACK in float64."""
    problem = NormalizedProblem(cosine.dense(operator.features))
    return problem, *np.linalg.eigh(problem.dense_laplacian())


def test_residuals_are_those_of_the_problem_as_posed(operator, exact):
    found = one_pass(operator, 4, columns=12, sample=150)
    recomputed = exact[0].residual(found.eigenvalues, found.vectors * exact[0].sqrt_degree[:, None])
    np.testing.assert_allclose(found.residual, recomputed, atol=2e-6)
    assert 1e-4 < found.residual.max() < 0.05
    assert found.residual[0] < 1e-6, "the constant vector is known"


def test_a_sample_of_a_tenth_comes_within_three_degrees(operator, exact):
    found = one_pass(operator, 4, columns=24, sample=120)
    u = found.vectors * exact[0].sqrt_degree[:, None]
    angle = scipy.linalg.subspace_angles(u, exact[2][:, :4]).max()
    assert np.degrees(angle) < 3
    np.testing.assert_allclose(u.T @ u, np.eye(4), atol=1e-5)


def test_all_nodes_as_the_sample_is_the_solution_itself(operator, exact):
    found = one_pass(operator, 4, columns=12, sample=1200)
    np.testing.assert_allclose(found.eigenvalues, exact[1][:4], atol=1e-5)
    assert found.residual.max() < 1e-3


@settings(max_examples=25)
@given(n=st.integers(40, 300), seed=st.integers(0, 99), share=st.integers(2, 6))
def test_eigenvalues_are_upper_bounds(n, seed, share):
    """Courant and Fischer: Rayleigh-Ritz in any span comes from above."""
    W = cosine.CosineAffinity(clustered(n, seed=seed))
    found = one_pass(W, 3, columns=5, sample=max(6, n // share), seed=seed)
    exact = np.linalg.eigvalsh(NormalizedProblem(W).dense_laplacian())[:3]
    assert np.all(found.eigenvalues >= exact - 1e-5)


def test_one_product_with_w(monkeypatch, operator):
    passes, multiply = [], operator.matmat
    monkeypatch.setattr(operator, "matmat", lambda v: passes.append(v.shape) or multiply(v))
    one_pass(operator, 3, columns=10)
    assert passes == [(1200, 10)]


def test_same_seed_same_bytes(operator):
    first, again = (one_pass(operator, 3, seed=5) for _ in range(2))
    assert first.vectors.tobytes() == again.vectors.tobytes()
    assert one_pass(operator, 3, seed=6).vectors.tobytes() != first.vectors.tobytes()


def test_an_image_of_one_colour_has_only_the_constant_vector():
    W = cosine.CosineAffinity(np.eye(3, dtype=np.float32)[[0] * 200])
    found = one_pass(W, 1, columns=8, sample=50)
    np.testing.assert_allclose(found.vectors, -1 / 200, rtol=1e-5)
    with pytest.raises(GraphError, match="expected at most 1, the dimension of the span, found 2"):
        one_pass(W, 2, columns=8, sample=50)


def test_a_node_unlike_the_whole_sample_is_kept():
    x = np.eye(3, dtype=np.float32)[[0] * 60 + [1] * 60 + [2]]
    found = one_pass(cosine.CosineAffinity(x), 2, columns=4, sample=20)
    assert np.isfinite(found.vectors).all()


def test_products_of_any_span_will_do(operator, exact):
    reference = solve(exact[0], 4)
    image = operator.matmat(reference.vectors)
    found = ritz(reference.vectors, image, exact[0].degree, 4)
    np.testing.assert_allclose(found.eigenvalues, reference.eigenvalues, atol=1e-6)
    assert found.residual.max() < 2e-5


@pytest.mark.parametrize(
    ("k", "columns", "sample"), [(0, 4, 20), (5, 4, 20), (3, 30, 20), (3, 4, 1201)]
)
def test_sizes_that_do_not_fit_are_refused(operator, k, columns, sample):
    with pytest.raises(ValueError, match=r"k <= columns <= sample <= 1200 nodes, found"):
        one_pass(operator, k, columns=columns, sample=sample)
