"""Resized position embeddings against the sampling rule written out, and against timm's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.layers import resample_abs_pos_embed

from eigen.extractors.positions import resized


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def cubic_rows(stored: int, wanted: int, offset: float) -> np.ndarray:
    """(wanted, stored): Keys' cubic, a = -0.75, read at (i + 0.5) s / (h + offset) - 0.5."""
    a, rows = -0.75, np.zeros((wanted, stored))
    for i in range(wanted):
        at = (i + 0.5) * stored / (wanted + offset) - 0.5
        for tap in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
            t = abs(at - tap)
            near, far = (a + 2) * t**3 - (a + 3) * t**2 + 1, a * (t**3 - 5 * t**2 + 8 * t - 4)
            rows[i, min(max(tap, 0), stored - 1)] += near if t <= 1 else far
    return rows


@pytest.mark.parametrize("grid", [(15, 22), (3, 2), (37, 30), (14, 9)])
@pytest.mark.parametrize("stored", [14, 37])
def test_with_an_offset_a_cell_is_read_where_the_published_factor_puts_it(grid, stored: int):
    embedding = torch.randn(1, 1 + stored**2, 5)
    ours = resized(embedding, grid, stored=(stored, stored), prefix=1, offset=0.1)
    rows, columns = (cubic_rows(stored, side, 0.1) for side in grid)
    patches = embedding[0, 1:].reshape(stored, stored, 5).double().numpy()
    expected = np.einsum("ia,jb,abd->ijd", rows, columns, patches).reshape(-1, 5)
    # The coordinate is a float32 near 37; sampling by h / s instead is off by 1e-1.
    np.testing.assert_allclose(ours[0, 1:], expected, atol=1e-4)
    torch.testing.assert_close(ours[:, :1], embedding[:, :1], rtol=0, atol=0)


@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_without_an_offset_it_is_timms_rule(prefix: int):
    embedding = torch.randn(1, prefix + 49, 6)
    ours = resized(embedding, (5, 11), stored=(7, 7), prefix=prefix, offset=0)
    theirs = resample_abs_pos_embed(embedding, [5, 11], [7, 7], num_prefix_tokens=prefix)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("offset", [0, 0.1])
def test_the_training_grid_is_left_unchanged(offset: float):
    embedding = torch.randn(1, 1 + 14 * 14, 3)
    assert resized(embedding, (14, 14), stored=(14, 14), prefix=1, offset=offset) is embedding
