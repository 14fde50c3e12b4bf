"""The solvers by name. To add one, write its module and register it here.

A loader imports its module when the solver is first used: only one of them needs pyamg, and only
one torch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Solver = Callable[..., tuple[np.ndarray, np.ndarray]]
"""`solver(problem, k, *, tolerance, seed, start)`, see the package's docstring."""

SOLVERS: dict[str, Callable[[], Solver]] = {}
"""Loader of each solver."""


def register(name: str) -> Callable[[Callable[[], Solver]], Callable[[], Solver]]:
    """Decorate a loader, a function that imports a solver and returns it."""

    def enter(loader: Callable[[], Solver]) -> Callable[[], Solver]:
        SOLVERS[name] = loader
        return loader

    return enter


@register("dense")
def _dense() -> Solver:
    from eigen.solvers.dense import dense

    return dense


@register("lanczos")
def _lanczos() -> Solver:
    from eigen.solvers.lanczos import lanczos

    return lanczos


@register("batched")
def _batched() -> Solver:
    from eigen.solvers.batched import batched

    return batched


@register("shift_invert")
def _shift_invert() -> Solver:
    from eigen.solvers.shift_invert import shift_invert

    return shift_invert


@register("lobpcg")
def _lobpcg() -> Solver:
    from eigen.solvers.lobpcg import lobpcg

    return lobpcg
