"""The contract of an affinity: violations are refused by name, and sums and triangles keep it."""

import numpy as np
import pytest
import scipy.sparse as sp

from data.errors import GraphError
from eigen.graphs import affinity, cosine
from eigen.graphs.affinity import TriangleAffinity
from eigen.solvers import gallery
from eigen.solvers.problem import NormalizedProblem


@pytest.fixture
def W():
    return gallery.grid(4, 5).W.toarray()


def broken(W, row, column, value, other=None):
    W = W.copy()
    W[row, column] = value
    W[column, row] = value if other is None else other
    return W


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize(
    ("row", "column", "value", "other", "message"),
    [
        (3, 4, np.nan, None, "node 3 has weights that are not finite"),
        (7, 8, np.inf, None, "node 7 has weights that are not finite"),
        (5, 6, -0.5, None, "node 5 has negative weights"),
        (9, 14, 1.0, 1.01, "node 9 has asymmetric weights"),
    ],
)
def test_a_bad_node_is_named(W, form, row, column, value, other, message):
    with pytest.raises(GraphError, match=message):
        NormalizedProblem(form(broken(W, row, column, value, other)))


def test_rounding_is_not_asymmetry(W):
    narrow = W.astype(np.float32)
    NormalizedProblem(broken(narrow, 3, 4, 1.0, np.nextafter(np.float32(1), np.float32(2))))


@pytest.mark.parametrize("shape", [(3, 4), (0, 0), (5,)])
def test_shapes(shape):
    with pytest.raises(GraphError, match="expected"):
        affinity.check(np.ones(shape), np.ones(shape[0]))


def test_self_loops_are_for_isolated_nodes_only():
    W = sp.csr_array(sp.block_diag([gallery.path(3).W, sp.csr_array((2, 2))]))
    looped = affinity.with_self_loops(W).toarray()
    np.testing.assert_array_equal(looped - W.toarray(), np.diag([0, 0, 0, 1, 1]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 100, 300])
def test_triangle_multiplies_like_the_whole_matrix(n, dtype):
    rng = np.random.default_rng(n)
    upper = np.triu(rng.uniform(0, 1, (n, n)).astype(dtype))
    whole = upper + np.triu(upper, 1).T
    stored = TriangleAffinity(upper)
    np.testing.assert_array_equal(stored.toarray(), whole)
    for vectors in (rng.standard_normal((n, 3)), rng.standard_normal((n, 1)).astype(dtype)):
        product = stored.matmat(vectors)
        assert product.dtype == vectors.dtype
        exact = whole.astype(np.float64) @ vectors
        allowed = 1e-12 if vectors.dtype == np.float64 else 1e-4
        np.testing.assert_allclose(product, exact, atol=allowed)
    exact = whole.sum(axis=1, dtype=np.float64)
    np.testing.assert_allclose(stored.degrees(), exact, rtol=1e-14)


def test_clipping_zeroes_what_is_negative_and_nothing_else():
    rows = affinity.ROWS_AT_ONCE + 3
    upper = np.triu(np.random.default_rng(0).standard_normal((rows, rows)).astype(np.float32))
    stored = TriangleAffinity(upper.copy())
    stored.clip()
    np.testing.assert_array_equal(stored.array, np.maximum(upper, 0))


def forms():
    features = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return {
        "triangle": cosine.dense(features),
        "whole": cosine.dense(features).toarray(),
        "sparse": cosine.nearest(features, 5),
        "operator": cosine.CosineAffinity(features),
    }


@pytest.mark.parametrize("name", forms())
def test_weighted_sum(name):
    W, other = forms()[name], gallery.grid(5, 6).W.astype(np.float32)
    before = NormalizedProblem(W).whole_affinity()
    total = affinity.weighted_sum(W, other, 10.0)
    expected = before + 10 * other.toarray()
    np.testing.assert_allclose(NormalizedProblem(total).whole_affinity(), expected, atol=1e-5)
    vectors = np.random.default_rng(1).standard_normal((30, 2))
    np.testing.assert_allclose(
        total @ vectors if name in ("whole", "sparse") else total.matmat(vectors),
        expected @ vectors,
        atol=1e-4,
    )
    np.testing.assert_allclose(affinity.degrees(total), expected.sum(axis=1), rtol=1e-5)


def test_repeated_entries_are_all_added():
    W = TriangleAffinity(np.zeros((3, 3), np.float32))
    other = sp.csr_array(sp.coo_array(([1.0, 2.0, 3.0], ([0, 1, 2], [1, 0, 2])), shape=(3, 3)))
    twice = sp.coo_array(([1.0, 1.0, 1.0, 1.0], ([0, 0, 1, 1], [1, 1, 0, 0])), shape=(3, 3))
    assert affinity.weighted_sum(W, twice, 1.0).toarray()[0, 1] == 2
    with pytest.raises(GraphError, match="expected equal shapes"):
        affinity.weighted_sum(W, gallery.path(4).W, 1.0)
    with pytest.raises(GraphError, match="weight: expected a finite"):
        affinity.weighted_sum(W, other, -1.0)
