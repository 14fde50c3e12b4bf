"""A batch gives the result of each image alone, and a bad image does not stop the others."""

import numpy as np
import pytest
import scipy.linalg
import torch

from data.errors import GraphError
from eigen.graphs import cosine
from eigen.solvers import batch, batched, solve
from eigen.solvers.batch import solve_batch
from eigen.solvers.spec import SolveSpec


def picture(n, seed=0, d=16):
    """Features of smooth regions: a few directions, blended along the nodes, and noise."""
    rng = np.random.default_rng([seed, n])
    centres = rng.standard_normal((5, d))
    blend = rng.dirichlet(np.full(5, 0.3), n // 20 + 2).repeat(20, axis=0)[:n]
    x = blend @ centres + 0.3 * rng.standard_normal((n, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def alone(features, k=5, **settings):
    return solve.solve(cosine.dense(features), SolveSpec(k=k, solver="dense", **settings))


@pytest.fixture(scope="module")
def pictures():
    return [picture(n, seed) for seed, n in enumerate((300, 417, 300, 520))]


@pytest.mark.parametrize("drop_trivial", [False, True])
def test_each_result_solves_its_graph(pictures, drop_trivial):
    found = solve_batch(pictures, SolveSpec(k=5, drop_trivial=drop_trivial))
    for features, solution in zip(pictures, found, strict=True):
        exact = alone(features, drop_trivial=drop_trivial)
        assert solution.solver == "batched"
        assert solution.vectors.dtype == np.float32
        np.testing.assert_allclose(solution.eigenvalues, exact.eigenvalues, atol=1e-6)
        scale = np.sqrt(cosine.dense(features).matmat(np.ones((len(features), 1))))
        angles = scipy.linalg.subspace_angles(scale * solution.vectors, scale * exact.vectors)
        assert angles.max() < 1e-3


def test_residuals_are_those_of_the_vectors_returned(pictures):
    for features, solution in zip(pictures, solve_batch(pictures, SolveSpec(k=5)), strict=True):
        problem = solve.NormalizedProblem(cosine.dense(features))
        unit = solution.vectors * problem.sqrt_degree[:, None]
        again = problem.residual(solution.eigenvalues, unit)
        np.testing.assert_allclose(solution.residual, again, atol=3e-7)
        assert solution.residual.max() <= 1e-5


def test_bytes_do_not_depend_on_the_batch(pictures):
    together = solve_batch(pictures, SolveSpec(k=5))
    shuffled = solve_batch(pictures[::-1], SolveSpec(k=5))[::-1]
    for features, one, other in zip(pictures, together, shuffled, strict=True):
        (single,) = solve_batch([features], SolveSpec(k=5))
        for solution in (other, single):
            assert solution.vectors.tobytes() == one.vectors.tobytes()
            assert solution.eigenvalues.tobytes() == one.eigenvalues.tobytes()
            assert solution.residual.tobytes() == one.residual.tobytes()


def test_padding_changes_rounding_only(pictures, monkeypatch):
    """One stack of mixed sizes, as on a GPU."""
    single = solve_batch(pictures, SolveSpec(k=5))
    monkeypatch.setattr(batch, "_stacks", lambda sizes, device: [list(sizes)])
    stacked = solve_batch(pictures, SolveSpec(k=5))
    for one, other in zip(single, stacked, strict=True):
        assert other.solver == "batched"
        np.testing.assert_allclose(other.eigenvalues, one.eigenvalues, atol=1e-8)
        np.testing.assert_allclose(other.vectors, one.vectors, atol=1e-5)


def test_stacks_on_a_gpu_fill_its_memory_with_similar_sizes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (12 * 10**8, 2 * 10**9))
    sizes = dict(enumerate([500, 4000, 510, 4100, 490]))
    stacks = batch._stacks(sizes, torch.device("cuda"))
    assert sorted(i for stack in stacks for i in stack) == list(sizes)
    assert stacks == [[3, 1], [2, 0, 4]]


def test_bad_images_return_their_error(pictures):
    broken = pictures[0].copy()
    broken[7] = np.nan
    zero = pictures[0].copy()
    zero[9] = 0
    found = solve_batch([broken, pictures[1], zero, picture(3), pictures[3]], SolveSpec(k=5))
    assert isinstance(found[0], GraphError)
    assert "node 7" in str(found[0])
    assert isinstance(found[2], GraphError)
    assert "node 9" in str(found[2])
    assert isinstance(found[3], GraphError)
    assert [s.solver for s in (found[1], found[4])] == ["batched", "batched"]


@pytest.mark.parametrize(
    ("features", "solver"),
    [
        (np.full((300, 4), 0.5, np.float32), "lanczos"),
        (np.repeat(np.eye(6, dtype=np.float32), 60, axis=0), "lanczos"),
        (picture(40), "dense"),
    ],
    ids=["one colour", "more components than the block", "few nodes"],
)
def test_images_for_another_solver_reach_it(features, solver):
    (solution,) = solve_batch([features], SolveSpec(k=7))
    assert solution.solver == solver
    np.testing.assert_allclose(solution.eigenvalues, alone(features, 7).eigenvalues, atol=1e-6)


def test_a_stack_that_does_not_converge_is_solved_alone(pictures, monkeypatch):
    monkeypatch.setattr(batched, "LOOKS", (9,))
    (solution,) = solve_batch(pictures[:1], SolveSpec(k=2, tolerance=1e-6))
    assert solution.solver == "lanczos"
    assert solution.residual.max() <= 1e-6


def test_a_wrong_krylov_space_is_caught_by_the_residual(pictures, monkeypatch):
    def off(*arguments):
        return [(values, u[::-1].copy()) for values, u in krylov(*arguments)]

    krylov = batch.krylov
    monkeypatch.setattr(batch, "krylov", off)
    (solution,) = solve_batch(pictures[:1], SolveSpec(k=5))
    assert solution.solver == "lanczos"


def test_by_name_on_one_graph(pictures):
    solution = solve.solve(cosine.dense(pictures[1]), SolveSpec(k=5, solver="batched"))
    assert solution.solver == "batched"
    np.testing.assert_allclose(solution.eigenvalues, alone(pictures[1]).eigenvalues, atol=1e-6)
    with pytest.raises(solve.ConvergenceError, match="batched: no convergence"):
        solve.solve(
            cosine.dense(np.full((300, 4), 0.5, np.float32)), SolveSpec(k=5, solver="batched")
        )


def test_the_precision_of_products_is_put_back(pictures):
    torch.set_float32_matmul_precision("high")
    try:
        solve_batch(pictures[:1], SolveSpec(k=5))
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.gpu
def test_gpu_agrees_with_the_cpu(pictures):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    on_cpu, on_gpu = (solve_batch(pictures, SolveSpec(k=5), device=d) for d in ("cpu", "cuda"))
    for one, other in zip(on_cpu, on_gpu, strict=True):
        assert other.solver == "batched"
        assert other.residual.max() <= 1e-5
        np.testing.assert_allclose(other.eigenvalues, one.eigenvalues, atol=1e-6)
