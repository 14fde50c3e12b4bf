"""Signs and bases depend on the eigenspaces alone, not on the solver."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eigen.solvers.canonical import canonical_basis, canonical_vectors, fix_signs


@pytest.mark.parametrize(
    ("vector", "expected"),
    [
        ([1, 1, 1], [-1, -1, -1]),
        ([3, -1, -1], [3, -1, -1]),
        ([-3, 1, 1], [3, -1, -1]),
        ([2, 1, -1, -1], [-2, -1, 1, 1]),  # a tie: the largest entry becomes negative
        ([1, 1, -1, -2], [1, 1, -1, -2]),
        ([1, -1], [-1, 1]),  # of equal magnitudes the first decides
        ([-1, 1], [-1, 1]),
        ([0, 0, 1], [0, 0, 1]),  # one of three is not more than half
        ([0, 1], [0, -1]),  # one of two is exactly half
    ],
)
def test_sign_rule(vector, expected):
    found = fix_signs(np.array(vector, float)[:, None])[:, 0]
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=50)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.floats(-1, 1, width=32),
    ),
    st.data(),
)
def test_sign_of_the_input_does_not_matter(vectors, data):
    # Zeros are neither sign, so with them exactly half may be positive one way round only.
    vectors = np.where(vectors == 0, np.float32(0.5), vectors)
    signs = np.array(
        data.draw(
            st.lists(st.sampled_from([-1, 1]), min_size=vectors.shape[1], max_size=vectors.shape[1])
        )
    )
    np.testing.assert_array_equal(fix_signs(vectors * signs), fix_signs(vectors))
    assert (2 * (fix_signs(vectors) > 0).sum(axis=0) <= len(vectors)).all()


def orthonormal(n, k, seed):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((n, k)))[0]


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), sizes=st.lists(st.integers(1, 4), min_size=2, max_size=4))
def test_basis_depends_on_the_subspaces_alone(seed, sizes):
    n, k = 40, sum(sizes)
    u = orthonormal(n, k, seed)
    null_vector = u[:, : sizes[0]] @ orthonormal(sizes[0], 1, seed + 1)[:, 0]
    values = np.repeat(np.arange(len(sizes), dtype=float), sizes)
    turned = u.copy()
    bounds = np.cumsum([0, *sizes])
    for start, stop in itertools.pairwise(bounds):
        turned[:, start:stop] = u[:, start:stop] @ orthonormal(stop - start, stop - start, seed + 2)
    one, other = (canonical_basis(values, x, null_vector, seed=0, gap=1e-9) for x in (u, turned))
    single = np.repeat(np.array(sizes) == 1, sizes)
    np.testing.assert_allclose(one[:, ~single], other[:, ~single], atol=1e-8)
    np.testing.assert_allclose(np.abs(one), np.abs(other), atol=1e-8)
    np.testing.assert_allclose(one.T @ one, np.eye(k), atol=1e-10)
    np.testing.assert_allclose(one @ one.T, u @ u.T, atol=1e-10)
    np.testing.assert_allclose(one[:, 0], null_vector, atol=1e-12)


def test_vectors_of_distinct_values_are_left_alone():
    u = orthonormal(20, 3, 0)
    found = canonical_basis(np.array([0.0, 0.1, 0.2]), u, u[:, 0], seed=0, gap=1e-6)
    np.testing.assert_allclose(found, u, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vectors_are_d_orthonormal_and_of_the_requested_dtype(dtype):
    degree = np.random.default_rng(0).uniform(1, 9, 30)
    root = np.sqrt(degree)
    u = np.linalg.qr(np.column_stack([root, np.random.default_rng(1).standard_normal((30, 2))]))[0]
    v = canonical_vectors(np.array([0.0, 0.5, 0.6]), u, root, seed=0, dtype=dtype)
    assert v.dtype == dtype
    np.testing.assert_allclose(v.T @ (degree[:, None] * v), np.eye(3), atol=1e-5)
    assert np.ptp(v[:, 0]) < 1e-7
