"""Learning rates as a pure function of the optimiser step.

A schedule maps a 0-based step to a factor; every parameter group runs at the factor times its own
starting rate, so groups with different rates keep their proportion.
"""

from __future__ import annotations

from collections.abc import Callable

from torch.optim import Optimizer

from data.errors import SettingError

Schedule = Callable[[int], float]


def poly(
    steps: int,
    *,
    power: float = 0.9,
    hold: int = 1,
    warmup: int = 0,
    warmup_factor: float = 1.0,
    floor: float = 0.0,
) -> Schedule:
    """(1 - step / steps) ** power, with a linear warm-up before it.

    Parameters
    ----------
    steps : int
        Length of the training, in optimiser steps.
    hold : int
        Steps during which the rate stands still: the steps of an epoch give the published
        per-epoch rates of SAZS, 1 those of ZegFormer.
    warmup, warmup_factor
        The factor rises linearly from `warmup_factor` to 1 over the first `warmup` steps.
    floor : float
        Smallest factor after the warm-up.

    Raises
    ------
    SettingError
        `steps` or `hold` is below 1, or the warm-up does not end before the training.
    """
    if steps < 1 or hold < 1 or not 0 <= warmup <= steps:
        raise SettingError(
            f"poly: expected steps >= 1, hold >= 1 and 0 <= warmup <= steps; "
            f"found steps {steps}, hold {hold}, warmup {warmup}"
        )

    def factor(step: int) -> float:
        if step < warmup:
            share = step / warmup
            warm = warmup_factor * (1 - share) + share
            return warm * (1 - step / steps) ** power
        held = step - step % hold
        return max((1 - min(held, steps) / steps) ** power, floor)

    return factor


def step_decay(every: int, *, gamma: float = 0.1) -> Schedule:
    """gamma ** (step // every); `every` in optimiser steps.

    Raises
    ------
    SettingError
        `every` is below 1.
    """
    if every < 1:
        raise SettingError(f"step_decay: expected every >= 1, found {every}")
    return lambda step: gamma ** (step // every)


def set_rates(optimizer: Optimizer, factor: float) -> None:
    """Run every group at `factor` times the rate it was given at first."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
        group["lr"] = group["initial_lr"] * factor
