"""What `solve` promises, whichever solver answers: right pairs, true residuals, or an error."""

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from eigen import gallery, solve
from eigen.affinity import AffinityError
from eigen.laplacian import NormalizedProblem
from eigen.solvers import lanczos as lanczos_module

SOLVERS = ("dense", "lanczos")

GRAPHS = {
    "path": gallery.path(60),
    "cycle": gallery.cycle(64),
    "grid": gallery.grid(9, 14),
    "square grid": gallery.grid(10, 10),
    "star": gallery.star(50),
    "complete": gallery.complete(40),
    "cliques": gallery.cliques(7, 9),
    "components": gallery.components(gallery.path(20), gallery.grid(5, 6), gallery.star(14)),
    "barbell": gallery.barbell(25),
}


def angle(one, other, degree):
    """Largest principal angle, in radians, of two D-orthonormal bases."""
    scale = np.sqrt(degree)[:, None]
    return float(np.max(scipy.linalg.subspace_angles(scale * one, scale * other)))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", GRAPHS)
def test_closed_form_spectra(name, solver):
    graph = GRAPHS[name]
    solution = solve.solve(graph.W, 6, solver=solver, tol=1e-11)
    np.testing.assert_allclose(solution.eigenvalues, graph.eigenvalues[:6], atol=1e-10)
    zeros = min(6, np.count_nonzero(np.abs(graph.eigenvalues) < 1e-12))
    assert np.count_nonzero(np.abs(solution.eigenvalues) < 1e-10) == zeros


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", GRAPHS)
def test_pairs_solve_the_problem_as_posed(name, solver):
    W = GRAPHS[name].W
    solution = solve.solve(W, 6, solver=solver, tol=1e-11)
    d = W.sum(axis=1)
    v = solution.vectors
    np.testing.assert_allclose(v.T @ (d[:, None] * v), np.eye(6), atol=1e-10)
    left = d[:, None] * v - W @ v
    residual = np.linalg.norm(
        (left - solution.eigenvalues * d[:, None] * v) / np.sqrt(d)[:, None], axis=0
    )
    np.testing.assert_allclose(solution.residual, residual, atol=1e-13)
    assert solution.solver == solver


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", GRAPHS)
def test_first_vector_is_constant_even_where_zero_repeats(name, solver):
    first = solve.solve(GRAPHS[name].W, 5, solver=solver, tol=1e-11).vectors[:, 0]
    np.testing.assert_allclose(first, first[0], rtol=1e-12)
    assert first[0] < 0
