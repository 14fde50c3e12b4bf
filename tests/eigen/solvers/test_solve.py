"""The guarantees of `solve` with any solver: correct pairs, true residuals, or an error."""

import importlib
import pickle

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import GraphError
from eigen.graphs import cosine
from eigen.graphs.affinity import weighted_sum, with_self_loops
from eigen.solvers import gallery, krylov, solve
from eigen.solvers import lanczos as lanczos_module
from eigen.solvers.problem import NormalizedProblem
from eigen.solvers.spec import SolveSpec

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


def random_features(n, d=6, seed=0):
    x = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def subspace_angle(W, one, other):
    """Largest principal angle, in radians, of two D-orthonormal bases."""
    scale = np.sqrt(np.asarray(W.sum(axis=1)).ravel())[:, None]
    return float(np.max(scipy.linalg.subspace_angles(scale * one, scale * other)))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", GRAPHS)
def test_closed_form_spectra(name, solver):
    graph = GRAPHS[name]
    solution = solve.solve(graph.W, SolveSpec(k=6, solver=solver, tolerance=1e-11))
    np.testing.assert_allclose(solution.eigenvalues, graph.eigenvalues[:6], atol=1e-10)
    zeros = min(6, np.count_nonzero(np.abs(graph.eigenvalues) < 1e-12))
    assert np.count_nonzero(np.abs(solution.eigenvalues) < 1e-10) == zeros


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", GRAPHS)
def test_pairs_solve_the_problem_as_posed(name, solver):
    W = GRAPHS[name].W
    solution = solve.solve(W, SolveSpec(k=6, solver=solver, tolerance=1e-11))
    d, v = W.sum(axis=1)[:, None], solution.vectors
    np.testing.assert_allclose(v.T @ (d * v), np.eye(6), atol=1e-10)
    left = d * v - W @ v - solution.eigenvalues * d * v
    residual = np.linalg.norm(left / np.sqrt(d), axis=0)
    np.testing.assert_allclose(solution.residual, residual, atol=1e-13)
    assert solution.solver == solver


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", GRAPHS)
def test_first_vector_is_constant_even_where_zero_repeats(name, solver):
    first = solve.solve(GRAPHS[name].W, SolveSpec(k=5, solver=solver, tolerance=1e-11)).vectors[
        :, 0
    ]
    np.testing.assert_allclose(first, first[0], rtol=1e-12)
    assert first[0] < 0


@pytest.mark.parametrize(
    ("name", "k"), [("cycle", 7), ("square grid", 6), ("cliques", 7), ("components", 7)]
)
def test_repeated_eigenvalues_have_one_basis_whoever_solves(name, k):
    """Where no cluster is cut off at K, the solvers agree on vectors, not just on a subspace."""
    graph = GRAPHS[name]
    assert graph.eigenvalues[k] - graph.eigenvalues[k - 1] > 1e-3
    one, other = (
        solve.solve(graph.W, SolveSpec(k=k, solver=s, tolerance=1e-11)).vectors for s in SOLVERS
    )
    # Symmetric graphs have vectors with half their entries positive: their sign hangs on rounding.
    sign = np.sign(np.sum(one * other, axis=0))
    np.testing.assert_allclose(one, sign * other, atol=1e-8)


def test_more_copies_than_the_block_are_found():
    graph = gallery.components(*[gallery.grid(12, 17)] * 5)
    problem = NormalizedProblem(graph.W)
    first = krylov.random_block(problem.n, 2, 0, None)
    one_block = krylov.block_lanczos(problem, 8, 1e-8, 0, first, 2, 20)[0]
    assert np.count_nonzero(one_block > 1 - 1e-9) == 3  # the locked one and a block
    solution = solve.solve(graph.W, SolveSpec(k=8, solver="lanczos", tolerance=1e-11))
    np.testing.assert_allclose(solution.eigenvalues, graph.eigenvalues[:8], atol=1e-10)


@settings(max_examples=40)
@given(
    n=st.integers(12, 90),
    density=st.floats(0.1, 1),
    seed=st.integers(0, 1000),
    narrow=st.booleans(),
)
def test_solvers_agree_within_davis_kahan(n, density, seed, narrow):
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.uniform(0, 1, (n, n)) * (rng.uniform(0, 1, (n, n)) < density))
    W = (upper + upper.T).astype(np.float32 if narrow else np.float64)
    W[range(n), range(n)] += 0.1
    k = 4
    tolerance = 1e-5 if narrow else 1e-10
    spectrum = scipy.linalg.eigvalsh(NormalizedProblem(W).dense_laplacian())
    solutions = [solve.solve(W, SolveSpec(k=k, solver=s, tolerance=tolerance)) for s in SOLVERS]
    for solution in solutions:
        # Each true eigenvalue lies within the residual of a computed one (Bauer-Fike).
        np.testing.assert_allclose(solution.eigenvalues, spectrum[:k], atol=2 * tolerance)
    gap = spectrum[k] - spectrum[k - 1]
    if gap > 10 * tolerance:  # otherwise K cuts a cluster, and the subspace is not determined
        rounding = 1e-6 if narrow else 1e-13  # of the vectors as stored
        bound = (2 * sum(np.linalg.norm(s.residual) for s in solutions) + rounding) / gap
        assert subspace_angle(W, *(s.vectors for s in solutions)) <= bound


def test_equal_eigenvalues_that_lapack_gives_up_on():
    """Several nodes alone with their loop: LAPACK's syevr ends in an internal error."""
    rng = np.random.default_rng(0)
    upper = np.triu(rng.uniform(0, 1, (14, 14)) * (rng.uniform(0, 1, (14, 14)) < 0.125))
    W = upper + upper.T + 0.1 * np.eye(14)
    solution = solve.solve(W, SolveSpec(k=4, solver="dense", tolerance=1e-10))
    expected = np.linalg.eigvalsh(NormalizedProblem(W).dense_laplacian())[:4]
    np.testing.assert_allclose(solution.eigenvalues, expected, atol=1e-10)


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), solver=st.sampled_from(SOLVERS), factor=st.floats(0.01, 100))
def test_permutation_and_scale_of_the_affinity(seed, solver, factor):
    W = cosine.dense(random_features(40, seed=seed)).toarray().astype(np.float64)
    order = np.random.default_rng(seed).permutation(40)
    plain = solve.solve(W, SolveSpec(k=4, solver=solver, tolerance=1e-9))
    moved = solve.solve(W[order][:, order] * factor, SolveSpec(k=4, solver=solver, tolerance=1e-9))
    np.testing.assert_allclose(moved.eigenvalues, plain.eigenvalues, atol=1e-8)
    assert subspace_angle(W, plain.vectors[order], moved.vectors * np.sqrt(factor)) < 1e-4


@pytest.mark.parametrize("solver", SOLVERS)
def test_rotating_features_and_flipping_the_image(solver):
    h, w, d = 9, 11, 6
    features = random_features(h * w, d)
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((d, d)))[0].astype(np.float32)
    flipped = features.reshape(h, w, d)[:, ::-1].reshape(-1, d)
    plain, turned, mirrored = (
        solve.solve(
            cosine.dense(np.ascontiguousarray(x)), SolveSpec(k=4, solver=solver, tolerance=1e-6)
        )
        for x in (features, features @ rotation, flipped)
    )
    np.testing.assert_allclose(turned.eigenvalues, plain.eigenvalues, atol=1e-5)
    np.testing.assert_allclose(turned.vectors, plain.vectors, atol=1e-4)
    back = mirrored.vectors.reshape(h, w, 4)[:, ::-1].reshape(-1, 4)
    np.testing.assert_allclose(back, plain.vectors, atol=1e-4)


@pytest.mark.parametrize("solver", SOLVERS)
def test_same_bytes_twice_whatever_numpy_drew_before(solver):
    W = cosine.dense(random_features(300))
    np.random.seed(1)  # noqa: NPY002  the global state must not matter, nor be touched
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    one = solve.solve(W, SolveSpec(k=5, solver=solver))
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    other = solve.solve(W, SolveSpec(k=5, solver=solver))
    assert one.vectors.tobytes() == other.vectors.tobytes()
    assert one.eigenvalues.tobytes() == other.eigenvalues.tobytes()


def test_drop_trivial_returns_the_pairs_after_the_constant():
    W = GRAPHS["grid"].W
    whole, dropped = solve.solve(W, 6), solve.solve(W, SolveSpec(k=5, drop_trivial=True))
    np.testing.assert_allclose(dropped.eigenvalues, whole.eigenvalues[1:], atol=1e-12)
    assert len(dropped.residual) == dropped.vectors.shape[1] == 5
    assert subspace_angle(W, dropped.vectors, whole.vectors[:, 1:]) < 1e-6


@pytest.fixture
def slow_lanczos(monkeypatch):
    """Lanczos that stops before it converges: one block of products after the first."""
    monkeypatch.setattr(krylov, "BASIS_BLOCKS", 1)
    monkeypatch.setattr(lanczos_module, "lanczos", unconverged_of(lanczos_module.lanczos))


def unconverged_of(lanczos):
    def stopped(problem, k, **options):
        return lanczos(problem, k, **options, max_restarts=0)

    return stopped


def test_what_did_not_converge_is_refused_with_its_residual(slow_lanczos):
    with pytest.raises(solve.ConvergenceError, match=r"lanczos: residual \d") as raised:
        solve.solve(gallery.grid(20, 31).W, SolveSpec(k=5, solver="lanczos", tolerance=1e-8))
    assert list(raised.value.attempts) == ["lanczos"]
    # Workers send their errors home.
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_the_next_solver_takes_over(slow_lanczos):
    W = gallery.grid(20, 31).W.toarray()
    solution = solve.solve(W, SolveSpec(k=5, tolerance=1e-8))
    assert solution.solver == "dense"
    assert solution.residual.max() <= 1e-8


def test_a_solver_that_lies_is_caught(monkeypatch):
    module = importlib.import_module("eigen.solvers.dense")
    honest = module.dense

    def wrong_vectors(problem, k, **options):
        values, u = honest(problem, k + 1, **options)
        return values[:k], np.column_stack([u[:, : k - 1], u[:, k]])

    def broken(problem, k, **options):
        raise np.linalg.LinAlgError("no convergence")

    W = gallery.path(30).W
    true = solve.solve(W, SolveSpec(k=4, solver="dense")).eigenvalues
    monkeypatch.setattr(module, "dense", wrong_vectors)
    # The eigenvalue becomes that of the vector: the pair is true, though not the one claimed.
    assert solve.solve(W, SolveSpec(k=4, solver="dense")).eigenvalues[3] > true[3] + 1e-3
    monkeypatch.setattr(module, "dense", lambda p, k, **o: (honest(p, k, **o)[0], np.eye(p.n, k)))
    with pytest.raises(solve.ConvergenceError, match="dense: residual"):
        solve.solve(W, SolveSpec(k=4, solver="dense"))
    monkeypatch.setattr(module, "dense", broken)
    with pytest.raises(solve.ConvergenceError, match="dense: no convergence"):
        solve.solve(W, SolveSpec(k=4, solver="dense"))


@pytest.mark.parametrize(
    ("rows", "count"),
    [(1, 1), (2, 2), (5, 5), (6, 5), (34, 5)],
    ids=["one node", "two", "K = n", "K + 1", "just under 5 (K + 2)"],
)
def test_few_nodes(rows, count):
    solution = solve.solve(cosine.dense(random_features(rows)), count)
    assert solution.solver == "dense"
    assert solution.vectors.shape == (rows, count)
    assert solution.residual.max() <= 1e-5


@pytest.mark.parametrize("drop", [False, True])
def test_more_pairs_than_nodes(drop):
    with pytest.raises(GraphError, match="of 4 nodes"):
        solve.solve(cosine.dense(random_features(4)), SolveSpec(k=5 - drop, drop_trivial=drop))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    "features",
    [
        np.full((300, 4), 0.5, np.float32),
        np.repeat(random_features(5), 60, axis=0),
        np.repeat(np.eye(3, dtype=np.float32), 100, axis=0),
    ],
    ids=["one colour", "duplicate rows", "three components"],
)
def test_degenerate_images(features, solver):
    solution = solve.solve(cosine.dense(features), SolveSpec(k=5, solver=solver))
    spectrum = scipy.linalg.eigvalsh(NormalizedProblem(cosine.dense(features)).dense_laplacian())
    np.testing.assert_allclose(solution.eigenvalues, spectrum[:5], atol=1e-5)
    assert solution.residual.max() <= 1e-5


def test_isolated_nodes_are_refused_unless_given_a_loop():
    W = sp.csr_array(sp.block_diag([gallery.path(20).W, sp.csr_array((1, 1))]))
    with pytest.raises(GraphError, match="node 20 is isolated"):
        solve.solve(W, 3)
    solution = solve.solve(with_self_loops(W), 3)
    np.testing.assert_allclose(solution.eigenvalues[:2], 0, atol=1e-12)
    assert solution.eigenvalues[2] > 1e-3


def test_unknown_solver_is_named():
    with pytest.raises(ValueError, match="found 'magic'"):
        solve.solve(gallery.path(9).W, SolveSpec(k=2, solver="magic"))


def test_chain_follows_the_kind_of_graph():
    def first(W, **options):
        return solve.chain(NormalizedProblem(W, **options), 5)[0]

    assert first(gallery.path(50).W) == "dense"
    assert first(cosine.dense(random_features(400))) == "lanczos"
    assert first(cosine.nearest(random_features(400), 10), grid=(20, 20)) == "lanczos"
    planar = gallery.grid(30, 20).W
    assert first(planar, grid=(30, 20)) == "shift_invert"
    ends = sp.coo_array(([1.0, 1.0], ([0, 599], [599, 0])), shape=planar.shape)
    assert first(planar + ends, grid=(30, 20)) == "lobpcg"
    far = solve.chain(NormalizedProblem(cosine.CosineAffinity(random_features(7000))), 5)
    assert far == ["lanczos"]


def counted_passes(monkeypatch, operator):
    """The widths of the products with `operator` from here on."""
    passes, multiply = [], operator.matmat
    monkeypatch.setattr(
        operator, "matmat", lambda vectors: passes.append(vectors.shape[1]) or multiply(vectors)
    )
    return passes


def test_an_affinity_that_is_never_stored_needs_few_passes(monkeypatch):
    features = random_features(2500, 3)
    operator = cosine.CosineAffinity(features)
    passes = counted_passes(monkeypatch, operator)
    solution = solve.solve(operator, 4)
    stored = solve.solve(cosine.dense(features), 4)
    assert solution.residual.max() <= 1e-5
    np.testing.assert_allclose(solution.eigenvalues, stored.eigenvalues, atol=1e-6)
    assert len(passes) <= 4, "residuals and at most three of the solver"
    assert 1 not in passes, "the degrees come with the first of them"


@pytest.mark.parametrize("colours", [[0] * 1500, [0] * 800 + [1] * 700, [0, 1] * 600 + [2] * 300])
def test_an_image_of_few_colours_that_is_never_stored(colours):
    """A sample has fewer independent vectors than the first block wants."""
    features = np.eye(3, dtype=np.float32)[colours]
    solution = solve.solve(cosine.CosineAffinity(features), 4)
    distinct = len(set(colours))
    expected = [0.0] * distinct + [1.0] * (4 - distinct)
    np.testing.assert_allclose(solution.eigenvalues, expected, atol=1e-6)
    assert solution.residual.max() <= 1e-5


def test_a_sum_with_an_affinity_that_is_never_stored_needs_few_passes(monkeypatch):
    features = random_features(2500, 3)
    operator = cosine.CosineAffinity(features)
    passes = counted_passes(monkeypatch, operator)
    other = cosine.nearest(features, 10)
    solution = solve.solve(weighted_sum(operator, other, 10.0), 4)
    stored = solve.solve(weighted_sum(cosine.dense(features), other, 10.0), 4)
    np.testing.assert_allclose(solution.eigenvalues, stored.eigenvalues, atol=1e-6)
    assert len(passes) <= 10, "two vectors at a time took more than twenty"


def test_a_start_near_the_answer_saves_products():
    W = cosine.nearest(random_features(2000), 12).astype(np.float64)
    problem = NormalizedProblem(W)
    counted, multiply = [], problem.similarity

    def counting(vectors):
        counted.append(vectors.shape[1])
        return multiply(vectors)

    problem.similarity = counting
    _, u = lanczos_module.lanczos(problem, 4, tolerance=1e-6, seed=0, block=4)
    cold = sum(counted)
    counted.clear()
    lanczos_module.lanczos(problem, 4, tolerance=1e-6, seed=0, start=u, block=4)
    assert sum(counted) < cold / 2
