import numpy as np
import pytest
from scipy import sparse

from eigen.solvers import gallery, solve
from eigen.solvers import shift_invert as module
from eigen.solvers.problem import NormalizedProblem
from eigen.solvers.shift_invert import fill_estimate, shift_invert
from eigen.solvers.spec import SolveSpec


@pytest.mark.parametrize(
    "known",
    [
        gallery.path(300),
        gallery.cycle(301),
        gallery.grid(23, 31),
        gallery.components(gallery.grid(9, 12), gallery.path(50), gallery.cycle(40)),
    ],
    ids=["path", "cycle", "grid", "three components"],
)
def test_closed_forms(known):
    problem = NormalizedProblem(known.W)
    values, u = shift_invert(problem, 6, tolerance=1e-8, seed=0)
    np.testing.assert_allclose(values, known.eigenvalues[:6], atol=1e-10)
    assert problem.residual(values, u).max() <= 1e-8
    np.testing.assert_allclose(u.T @ u, np.eye(6), atol=1e-10)


@pytest.mark.parametrize("size", [(40, 60), (120, 130)])
def test_fill_estimate_bounds_the_factor_of_a_grid_closely(size):
    from scipy.sparse.linalg import splu

    laplacian = NormalizedProblem(gallery.grid(*size).W).laplacian()
    shifted = (laplacian + 1e-5 * sparse.eye_array(laplacian.shape[0])).tocsc()
    factor = splu(shifted, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    assert factor.L.nnz <= fill_estimate(laplacian) <= 6 * factor.L.nnz


def test_long_edges_are_refused(monkeypatch):
    rng = np.random.default_rng(0)
    row, column = np.repeat(np.arange(2000), 8), rng.integers(0, 2000, 16000)
    W = sparse.csr_array((np.ones(16000), (row, column)), shape=(2000, 2000))
    W = (W + W.T).tocsr()
    monkeypatch.setattr(module, "MAX_FILL", 400_000)
    assert fill_estimate(NormalizedProblem(gallery.grid(40, 50).W).laplacian()) < 400_000
    with pytest.raises(np.linalg.LinAlgError, match="lobpcg or lanczos"):
        shift_invert(NormalizedProblem(W), 4, tolerance=1e-5, seed=0)
    with pytest.raises(solve.ConvergenceError, match="shift_invert"):
        solve.solve(W, SolveSpec(k=4, solver="shift_invert"))


def test_without_convergence_nothing_is_returned(monkeypatch):
    real = module.eigsh

    def one_iteration(*args, **options):
        return real(*args, **options, maxiter=1, ncv=8)

    monkeypatch.setattr(module, "eigsh", one_iteration)
    with pytest.raises(np.linalg.LinAlgError, match="No convergence"):
        shift_invert(NormalizedProblem(gallery.grid(40, 50).W), 6, tolerance=1e-12, seed=0)


def test_same_bytes_and_untouched_global_generator():
    problem = NormalizedProblem(gallery.grid(20, 30).W)
    answers = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        answers.append(shift_invert(problem, 4, tolerance=1e-6, seed=0)[1].tobytes())
        np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert answers[0] == answers[1]


def test_refuses_a_dense_graph():
    with pytest.raises(np.linalg.LinAlgError, match="sparse"):
        shift_invert(NormalizedProblem(np.ones((90, 90))), 3, tolerance=1e-5, seed=0)
