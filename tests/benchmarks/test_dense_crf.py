"""The lattice filter against sums over all pairs, and what the CRF makes of a noisy mask."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.dense_crf import DenseCRF, GaussianFilter, kernels


@pytest.mark.parametrize("d", [1, 2, 5])
def test_filtering_is_the_sum_over_all_pairs(d):
    points = 1.5 * np.random.default_rng(d).standard_normal((1200, d))
    squared = ((points[:, None] - points[None]) ** 2).sum(-1)
    kernel = np.exp(-squared / 2)
    root = 1 / np.sqrt(kernel.sum(1))
    values = np.sin(points[:, :2]).astype(np.float32)
    expected = root[:, None] * (kernel @ (root[:, None] * values))
    found = GaussianFilter(points)(values)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.98
    assert found.std() == pytest.approx(expected.std(), rel=0.05)


def test_a_noisy_mask_follows_the_colours():
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :56]
    truth = (rows - 20) ** 2 + (columns - 28) ** 2 < 144
    image = np.where(truth[..., None], (200, 120, 60), (40, 90, 60)).astype(np.uint8)
    margin = (np.where(truth, 1.0, -1.0) + 1.5 * rng.standard_normal(truth.shape))[None]
    rule = DenseCRF()
    found = rule(margin, kernels(image, rule.place, rule.colour, rule.near))[0] > 0.5
    assert np.mean((margin[0] > 0) != truth) > 0.2
    assert np.mean(found != truth) < 0.01
