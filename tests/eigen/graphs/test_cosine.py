"""max(X X^T, 0) in its three representations, against the formula."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import GraphError
from eigen.graphs import cosine


def unit(x):
    x = np.asarray(x, np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def features(n, d=5, seed=0):
    return unit(np.random.default_rng(seed).standard_normal((n, d)))


def formula(x):
    wide = x.astype(np.float64)
    return np.maximum(wide @ wide.T, 0)


@pytest.mark.parametrize("n", [1, 63, 64, 65, 200])
def test_dense(n):
    W = cosine.dense(features(n)).toarray()
    assert W.dtype == np.float32
    assert np.array_equal(W, W.T)
    np.testing.assert_allclose(W, formula(features(n)), atol=1e-6)
    np.testing.assert_allclose(np.diag(W), 1, atol=1e-6)


@pytest.mark.parametrize("side", [1024, 50, 47, 1])
def test_operator_multiplies_like_the_stored_matrix(monkeypatch, side):
    monkeypatch.setattr(cosine, "SIDE", side)
    x = features(150)
    vectors = np.random.default_rng(1).standard_normal((150, 3))
    np.testing.assert_allclose(
        cosine.CosineAffinity(x).matmat(vectors), formula(x) @ vectors, atol=1e-4
    )
    narrow = cosine.CosineAffinity(x).matmat(vectors.astype(np.float32))
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, formula(x) @ vectors, atol=1e-4)


def test_tiles_are_added_in_float64(monkeypatch):
    """A million float32 terms added one after another would be off by a hundred times as much."""
    monkeypatch.setattr(cosine, "SIDE", 8)
    x = features(2000)
    found = cosine.CosineAffinity(x).matmat(np.ones((2000, 1), np.float32))[:, 0]
    np.testing.assert_allclose(found, formula(x).sum(axis=1), rtol=2e-7)


def test_more_nodes_than_the_blas_can_store_are_refused():
    with pytest.raises(GraphError, match=r"at most 24000 nodes for a stored matrix.*use Cosine"):
        cosine.dense(np.ones((24_001, 1), np.float32))


@settings(max_examples=60)
@given(
    n=st.integers(1, 400),
    k=st.integers(2, 30),
    distinct=st.integers(1, 500),
    seed=st.integers(0, 99),
)
def test_nearest_keeps_the_largest_of_each_row_ties_by_index(n, k, distinct, seed):
    # Rows drawn from few directions of few coordinates: many similarities are exactly equal.
    rng = np.random.default_rng(seed)
    x = unit(rng.integers(-1, 2, (distinct, 3)) * 2 + [[1, 0, 0]])[rng.integers(0, distinct, n)]
    similarity = x @ x.T
    expected = np.zeros((n, n), np.float32)
    for i, row in enumerate(similarity):
        chosen = np.argsort(-row, kind="stable")[:k]
        expected[i, chosen] = np.maximum(row[chosen], 0)
    expected = np.maximum(expected, expected.T)
    W = cosine.nearest(x, k)
    np.testing.assert_array_equal(W.toarray(), expected)
    assert (W.data > 0).all()
    assert W.has_sorted_indices
    assert (W.sum(axis=1) > 0).all()


def test_nearest_over_several_blocks(monkeypatch):
    whole = cosine.nearest(features(500), 7).toarray()
    monkeypatch.setattr(cosine, "BLOCK_ENTRIES", 500 * 64)
    np.testing.assert_array_equal(cosine.nearest(features(500), 7).toarray() > 0, whole > 0)


@pytest.mark.parametrize(
    "make", [cosine.dense, lambda x: cosine.nearest(x, 3), cosine.CosineAffinity]
)
@pytest.mark.parametrize(
    ("node", "value", "found"), [(4, np.nan, "nan"), (2, 0.0, "found 0;"), (7, 3.0, "found 3")]
)
def test_rows_that_are_not_unit_are_named(make, node, value, found):
    x = features(10)
    x[node] *= value
    with pytest.raises(GraphError, match=f"features of node {node}: .*{found}"):
        make(x)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (5,), (2, 2, 2)])
def test_shapes(shape):
    with pytest.raises(GraphError, match="expected"):
        cosine.dense(np.ones(shape, np.float32))


def test_one_neighbour_is_refused():
    with pytest.raises(GraphError, match="expected 2 or more"):
        cosine.nearest(features(5), 1)
