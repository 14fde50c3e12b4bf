"""Cutting a smoothed map: which pixels, and how many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data.errors import SettingError
from eval.sazs.cuts import CUTS, cut, probability
from eval.sazs.fusion import Diffusion, Projection, Voting
from tests.eval.sazs.test_fusion import scene  # noqa: F401

H, W = 12, 16
MAPS = hnp.arrays(np.float32, (H, W), elements=st.floats(-8, 8, width=32))


def expected_area(margin: np.ndarray, smooth: np.ndarray, rule: str) -> int:
    own, half = np.count_nonzero(margin > 0), np.count_nonzero(smooth > 0.5)
    areas = {"half": half, "area": own, "pieces": own, "mean": round((own + half) / 2)}
    return areas.get(rule, round(float(probability(margin).sum(dtype=np.float64))))


@settings(max_examples=60)
@given(margin=MAPS, smooth=MAPS, rule=st.sampled_from(sorted(CUTS)))
def test_each_cut_takes_the_pixels_it_says(margin, smooth, rule):
    smooth = probability(smooth)
    mask, area = cut(margin, smooth, rule), expected_area(margin, smooth, rule)
    if 0 < area < margin.size and np.ptp(smooth) > 0:
        assert np.count_nonzero(mask) == area
        if rule != "pieces":
            assert smooth[mask].min() >= smooth[~mask].max()


def test_pieces_keep_their_areas_where_one_is_surer():
    margin = np.full((H, W), -1.0, np.float32)
    margin[2:6, 1:5], margin[2:6, 10:14] = 3.0, 0.2
    smooth = np.roll(probability(margin), 1, axis=0)
    together, apart = cut(margin, smooth, "area"), cut(margin, smooth, "pieces")
    assert np.array_equal(apart, np.roll(margin > 0, 1, axis=0))
    assert np.array_equal(together, apart)
    fainter = smooth.copy()
    fainter[:, :6] += 0.5  # all of the left above the right object
    assert np.count_nonzero(cut(margin, fainter, "area")[:, 8:]) == 0
    assert np.count_nonzero(cut(margin, fainter, "pieces")[:, 8:]) == 16


@pytest.mark.parametrize("value", [-3.0, 3.0])
@pytest.mark.parametrize("rule", ["area", "pieces"])
def test_nothing_and_everything_stay(value, rule):
    margin = np.full((H, W), value, np.float32)
    smooth = np.random.default_rng(0).random((H, W)).astype(np.float32)
    assert np.array_equal(cut(margin, smooth, rule), margin > 0)


@pytest.mark.parametrize("rule", [Voting(cut="third"), Projection(cut=""), Diffusion(cut="Area")])
def test_an_unknown_cut_is_refused(scene, rule):  # noqa: F811
    _, margin, maps = scene
    with pytest.raises(SettingError, match="cut: expected one of half, area, pieces"):
        rule(margin, maps)
