import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from eigen.solvers import gallery, solve
from eigen.solvers.lobpcg import lobpcg
from eigen.solvers.multigrid import Multigrid
from eigen.solvers.problem import NormalizedProblem
from eigen.solvers.shift_invert import shift_invert
from eigen.solvers.spec import SolveSpec


def weighted_grid(height, width, seed=0, *, links=0):
    """Affinity of a grid with weights over four decades, and `links` long edges."""
    rng = np.random.default_rng(seed)
    n = height * width
    index = np.arange(n).reshape(height, width)
    i = np.concatenate([index[:, :-1].ravel(), index[:-1].ravel(), rng.integers(0, n, links)])
    j = np.concatenate([index[:, 1:].ravel(), index[1:].ravel(), rng.integers(0, n, links)])
    weights = 10.0 ** rng.uniform(-4, 0, len(i))
    W = sparse.csr_array((weights, (i, j)), shape=(n, n))
    return (W + W.T).tocsr()


def angle(problem, u, reference):
    """Largest angle between two subspaces, in radians."""
    return scipy.linalg.subspace_angles(u, reference).max()


@pytest.mark.parametrize("with_grid", [True, False])
def test_grid_spectrum_in_closed_form(with_grid):
    known = gallery.grid(37, 61)
    problem = NormalizedProblem(known.W, grid=(37, 61) if with_grid else None)
    values, u = lobpcg(problem, 6, tolerance=1e-8, seed=0)
    np.testing.assert_allclose(values, known.eigenvalues[:6], atol=1e-12)
    assert problem.residual(values, u).max() <= 1e-8
    np.testing.assert_allclose(u.T @ u, np.eye(6), atol=1e-12)


@pytest.mark.parametrize("links", [0, 300])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-8])
def test_weights_over_four_decades(links, tolerance):
    W = weighted_grid(30, 36, links=links)
    problem = NormalizedProblem(W, grid=(30, 36))
    values, u = lobpcg(problem, 5, tolerance=tolerance, seed=0)
    exact, vectors = scipy.linalg.eigh(problem.dense_laplacian())
    residual = problem.residual(values, u)
    assert residual.max() <= tolerance
    np.testing.assert_allclose(values, exact[:5], atol=tolerance)
    gap = exact[5] - exact[4]
    assert angle(problem, u, vectors[:, :5]) <= 2 * np.linalg.norm(residual) / gap


@settings(max_examples=25)
@given(
    height=st.integers(1, 12),
    width=st.integers(41, 46),
    seed=st.integers(0, 10**6),
    links=st.integers(0, 20),
)
def test_sparse_solvers_agree_with_the_dense_one(height, width, seed, links):
    """Davis and Kahan: vectors differ by no more than their residuals over the gap behind them."""
    k = 4
    problem = NormalizedProblem(
        weighted_grid(height, width, seed, links=links), grid=(height, width)
    )
    exact, vectors = scipy.linalg.eigh(problem.dense_laplacian())
    gap = exact[k] - exact[k - 1]
    for solver in (lobpcg, shift_invert):
        values, u = solver(problem, k, tolerance=1e-7, seed=0)
        residual = problem.residual(values, u)
        assert residual.max() <= 1e-7
        np.testing.assert_allclose(values, exact[:k], atol=1e-7)
        bound = 2 * (np.linalg.norm(residual) + 1e-14) / max(gap, 1e-14)
        assert np.sin(angle(problem, u, vectors[:, :k])) <= bound


def test_first_vector_is_the_null_vector_exactly():
    problem = NormalizedProblem(weighted_grid(30, 40), grid=(30, 40))
    values, u = lobpcg(problem, 3, tolerance=1e-5, seed=0)
    assert values[0] == 0
    np.testing.assert_array_equal(u[:, 0], problem.null_vector)


def test_components_are_all_found():
    known = gallery.components(*[gallery.grid(20, 21)] * 3)
    problem = NormalizedProblem(known.W)
    values, _ = lobpcg(problem, 5, tolerance=1e-8, seed=0)
    np.testing.assert_allclose(values, known.eigenvalues[:5], atol=1e-10)
    assert values[2] <= 1e-10 < values[3]


def test_graph_without_a_grid():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 16))
    features = centres[rng.integers(0, 6, 900)] + 0.8 * rng.normal(size=(900, 16))
    similarity = features @ features.T
    nearest = np.argsort(-similarity, axis=1)[:, :12]
    row, column = np.repeat(np.arange(900), 12), nearest.ravel()
    W = sparse.csr_array((np.ones(len(row)), (row, column)), shape=(900, 900))
    problem = NormalizedProblem((W + W.T).tocsr())
    values, _ = lobpcg(problem, 6, tolerance=1e-7, seed=0)
    exact = scipy.linalg.eigvalsh(problem.dense_laplacian(), subset_by_index=(0, 5))
    np.testing.assert_allclose(values, exact, atol=1e-10)


def test_one_step_is_not_passed_off_as_a_solution(monkeypatch):
    import eigen.solvers.lobpcg as module

    W = weighted_grid(30, 36)
    one_step = lambda *args, **options: lobpcg(*args, **options, maxiter=1)  # noqa: E731
    monkeypatch.setattr(module, "lobpcg", one_step)
    with pytest.raises(solve.ConvergenceError, match="lobpcg"):
        solve.solve(W, SolveSpec(k=5, solver="lobpcg", tolerance=1e-6), grid=(30, 36))


def test_start_near_the_solution_saves_the_steps():
    problem = NormalizedProblem(weighted_grid(30, 36), grid=(30, 36))
    _, near = lobpcg(problem, 7, tolerance=1e-6, seed=0)
    values, u = lobpcg(problem, 5, tolerance=1e-4, seed=0, start=near, maxiter=1)
    assert problem.residual(values, u).max() <= 1e-4


@pytest.mark.parametrize("with_grid", [True, False])
def test_same_bytes_and_untouched_global_generator(with_grid):
    W = weighted_grid(30, 41, links=40)
    answers = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        problem = NormalizedProblem(W, grid=(30, 41) if with_grid else None)
        answers.append(lobpcg(problem, 4, tolerance=1e-6, seed=0)[1].tobytes())
        np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert answers[0] == answers[1]


def test_refuses_a_dense_graph():
    with pytest.raises(np.linalg.LinAlgError, match="sparse"):
        lobpcg(NormalizedProblem(np.ones((90, 90))), 3, tolerance=1e-5, seed=0)


def test_too_few_nodes_for_a_search_space_are_solved_densely():
    known = gallery.path(12)
    values, _ = lobpcg(NormalizedProblem(known.W), 4, tolerance=1e-5, seed=0)
    np.testing.assert_allclose(values, known.eigenvalues[:4], atol=1e-12)


def test_long_edges_as_heavy_as_the_short_ones():
    rng = np.random.default_rng(0)
    row, column = np.divmod(rng.integers(0, 6400, 20_000), 80)
    ends = row * 80 + column, (79 - row) * 80 + column
    far = sparse.csr_array((np.ones(20_000), ends), shape=(6400, 6400))
    W = (gallery.grid(80, 80).W + far + far.T).tocsr()
    problem = NormalizedProblem(W, grid=(80, 80))
    values, u = lobpcg(problem, 6, tolerance=1e-5, seed=0, maxiter=30)
    assert problem.residual(values, u).max() <= 1e-5


@pytest.mark.parametrize("with_grid", [True, False])
def test_multigrid_is_symmetric_positive_and_contracts(with_grid):
    problem = NormalizedProblem(weighted_grid(60, 71, links=200), grid=(60, 71))
    laplacian = problem.laplacian()
    multigrid = Multigrid(laplacian, problem.null_vector, grid=(60, 71) if with_grid else None)
    x = np.random.default_rng(0).standard_normal((problem.n, 8)).astype(np.float32)
    gram = x.T @ multigrid.precondition(x)
    np.testing.assert_allclose(gram, gram.T, atol=1e-4 * np.abs(gram).max())
    assert scipy.linalg.eigvalsh(gram).min() > 0
    error = x - multigrid.precondition((laplacian @ x).astype(np.float32))
    for _ in range(9):
        error = error - multigrid.precondition((laplacian @ error).astype(np.float32))
    error -= problem.null_vector[:, None] * (problem.null_vector @ error)
    energy = np.einsum("nm,nm->m", error, laplacian @ error)
    assert (energy < 0.05 * np.einsum("nm,nm->m", x, laplacian @ x)).all()


@pytest.mark.parametrize("grid", [(60, 90), (150, 150)])
def test_first_guess_of_the_coarse_levels_is_near(grid):
    known = gallery.grid(*grid)
    problem = NormalizedProblem(known.W, grid=grid)
    guess = Multigrid(problem.laplacian(), problem.null_vector, grid=grid).start(6)
    guess /= np.linalg.norm(guess, axis=0)
    quotient = np.einsum("nk,nk->k", guess, problem.laplacian() @ guess)
    # The last prolongation adds a half; two of them without a step of descent between, 0.9.
    assert (quotient <= 1.6 * known.eigenvalues[:6] + 1e-6).all()
