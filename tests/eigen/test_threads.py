"""During a solve NumPy's BLAS has one thread; afterwards as many as before."""

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from eigen.graphs import build as graphs
from eigen.graphs import cosine
from eigen.solvers import solve
from eigen.solvers.spec import SolveSpec
from eigen.threads import blas_threads, one_pool


def numpy_threads():
    """Threads of NumPy's own OpenBLAS."""
    pools = [pool for pool in threadpool_info() if "numpy.libs" in pool["filepath"]]
    if not pools:
        pytest.skip("NumPy and SciPy share one BLAS here, which is left alone")
    return pools[0]["num_threads"]


@pytest.fixture(autouse=True)
def two_threads():
    with threadpool_limits(2):
        yield


def test_one_pool_is_left_and_both_are_given_back():
    assert numpy_threads() == 2
    with pytest.raises(ZeroDivisionError), one_pool(), one_pool():
        assert (numpy_threads(), blas_threads()) == (1, 2)
        raise ZeroDivisionError
    assert (numpy_threads(), blas_threads()) == (2, 2)


@pytest.mark.parametrize("step", ["build", "solve"])
def test_graphs_are_built_and_solved_in_one_pool(step, monkeypatch):
    features = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    seen = []

    def watched(original):
        def run(*arguments, **options):
            seen.append(numpy_threads())
            return original(*arguments, **options)

        return run

    W = cosine.dense(features)
    if step == "build":
        monkeypatch.setattr(cosine, "dense", watched(cosine.dense))
        graphs.build(graphs.GraphSpec(), features, (15, 20), np.zeros((30, 40, 3), np.uint8))
    else:
        monkeypatch.setattr(W, "matmat", watched(W.matmat))
        solve.solve(W, SolveSpec(k=4, solver="lanczos"))
    assert set(seen) == {1}
