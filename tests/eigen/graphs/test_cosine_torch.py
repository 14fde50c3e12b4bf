"""The torch operator gives the products and solutions of the NumPy one."""

import numpy as np
import pytest
import torch

from eigen.graphs import cosine, cosine_torch
from eigen.solvers import solve


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return request.param


@pytest.fixture
def features():
    x = np.random.default_rng(0).standard_normal((700, 4)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products(monkeypatch, features, device, dtype):
    monkeypatch.setattr(cosine_torch, "SIDE", 256)
    vectors = np.random.default_rng(1).standard_normal((700, 3)).astype(dtype)
    product = cosine_torch.DeviceCosineAffinity(features, device).matmat(vectors)
    assert product.dtype == dtype
    expected = cosine.CosineAffinity(features).matmat(vectors.astype(np.float64))
    np.testing.assert_allclose(product, expected, atol=1e-3)


def test_solution_is_that_of_the_stored_graph(features, device):
    found = solve.solve(cosine_torch.DeviceCosineAffinity(features, device), 4)
    stored = solve.solve(cosine.dense(features), 4)
    assert found.residual.max() <= 1e-5
    np.testing.assert_allclose(found.eigenvalues, stored.eigenvalues, atol=1e-6)
