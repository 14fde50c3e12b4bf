"""Learning rates: the published formulas, and that groups keep their proportion."""

from __future__ import annotations

import pytest
import torch

from data.errors import SettingError
from train.schedule import poly, set_rates, step_decay


def test_poly_holds_still_within_an_epoch():
    factor = poly(20 * 7, hold=7)
    assert [factor(s) for s in range(7)] == [1.0] * 7
    assert factor(7 * 13 + 3) == pytest.approx((1 - 13 / 20) ** 0.9)


def test_poly_per_step_with_warmup_and_floor():
    factor = poly(1000, warmup=10, warmup_factor=0.1, floor=0.05)
    assert factor(0) == pytest.approx(0.1)
    assert factor(5) == pytest.approx((0.1 * 0.5 + 0.5) * (1 - 5 / 1000) ** 0.9)
    assert factor(500) == pytest.approx(0.5**0.9)
    assert factor(999) == 0.05


def test_step_decay():
    factor = step_decay(200)
    assert (factor(0), factor(199)) == (1.0, 1.0)
    assert factor(400) == pytest.approx(0.01)


def test_groups_keep_their_proportion():
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD(
        [{"params": weights[:1], "lr": 1.0}, {"params": weights[1:]}], lr=0.1
    )
    for factor in (0.5, 0.25):
        set_rates(optimizer, factor)
        assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([factor, 0.1 * factor])


@pytest.mark.parametrize(
    "make",
    [lambda: poly(0), lambda: poly(5, hold=0), lambda: poly(5, warmup=6), lambda: step_decay(0)],
)
def test_impossible_schedules_are_refused(make):
    with pytest.raises(SettingError, match="expected"):
        make()
