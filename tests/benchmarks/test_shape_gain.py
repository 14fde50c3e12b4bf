"""What a gain depends on is found, and what it does not depend on is not."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.shape_gain import VARIABLES, Points, draw


@pytest.fixture
def points() -> Points:
    rng = np.random.default_rng(0)
    variables = rng.random((120, len(VARIABLES)))
    return Points(10 * variables[:, 1] + rng.normal(0, 1, 120), variables, np.arange(120) // 2)


def test_the_variable_that_explains_has_the_correlation(points):
    found = [points.correlation(variable) for variable in range(len(VARIABLES))]
    assert found[1][0] > 0.9 and found[1][1] > 0.8
    assert all(abs(rho) < 0.3 for i, (rho, _, _) in enumerate(found) if i != 1)


def test_a_variable_with_one_value_explains_nothing(points):
    points.variables[:, 2] = 1
    assert points.correlation(2) == (0, 0, 0)
    ((middle, mean, _),) = points.bins(2)
    assert (middle, mean) == (1, pytest.approx(points.gain.mean()))


def test_the_picture_is_drawn(points, tmp_path):
    draw({"seen": points}, tmp_path / "gain.png")
    assert (tmp_path / "gain.png").stat().st_size > 1000
