"""Vectors of a sample at all nodes, against LAPACK on the whole graph."""

import numpy as np
import pytest
import scipy.linalg

from data.errors import GraphError
from eigen.graphs import cosine
from eigen.solvers.nystrom import extended
from eigen.solvers.problem import NormalizedProblem
from tests.eigen.solvers.clustered import clustered


@pytest.mark.parametrize(("sample", "degrees"), [(900, 0.2), (100, 6)])
def test_they_are_near_the_leading_ones(sample, degrees):
    W = cosine.CosineAffinity(clustered(900))
    problem = NormalizedProblem(W)
    exact = np.linalg.eigh(problem.dense_laplacian())[1][:, :4]
    v, _ = extended(W, 4, sample)
    u = np.linalg.qr(v * problem.sqrt_degree[:, None])[0]
    assert np.degrees(scipy.linalg.subspace_angles(u, exact).max()) < degrees


def test_the_first_is_constant_and_degrees_are_estimated():
    W = cosine.CosineAffinity(clustered(1200))
    vectors, degree = extended(W, 4, 400)
    assert np.array_equal(vectors[:, 0], np.ones(1200))
    np.testing.assert_allclose(degree, NormalizedProblem(W).degree, rtol=0.2)


def test_a_node_unlike_the_whole_sample_gets_nothing():
    x = np.eye(3, dtype=np.float32)[[0] * 50 + [1] * 50 + [2]]
    W = cosine.CosineAffinity(x)
    seed = next(s for s in range(99) if extended(W, 2, 20, s)[1][-1] == 0)
    assert np.array_equal(extended(W, 2, 20, seed)[0][-1], [1, 0])


def test_more_vectors_than_the_sample_has_nodes_are_refused():
    with pytest.raises(GraphError, match="21 eigenpairs of a sample of 20 nodes"):
        extended(cosine.CosineAffinity(clustered(100)), 21, 20)
