"""Select the leading eigenpairs, and check that the constant one is among them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from data.errors import SettingError
from eigen.pairs import Eigenpairs

# Relative variation below which a vector is constant: it is exact only to the solver's tolerance.
CONSTANT = 1e-2


def has_constant(pairs: Eigenpairs) -> bool:
    """Whether the constant vector is the first."""
    # Not by its eigenvalue: a graph of several components has more than one that is 0.
    first = pairs.vectors[0]
    return bool(np.ptp(first) <= CONSTANT * np.abs(first).max())


def leading(pairs: Eigenpairs, count: int, least: int | None = None) -> Eigenpairs:
    """The first `count` pairs, or all if there are fewer, but at least `least` (default: count).

    Raises
    ------
    SettingError
        Fewer than `least` pairs, or the constant one is not among them.
    """
    least = count if least is None else least
    if pairs.k < least:
        raise SettingError(
            f"eigenpairs: expected {least} or more, found {pairs.k}; compute more (k: {least})"
        )
    if not has_constant(pairs):
        raise SettingError(
            "eigenpairs: expected the constant one first, found eigenvalue "
            f"{pairs.eigenvalues[0]:.3g}; compute them with drop_trivial: false"
        )
    return replace(
        pairs,
        eigenvalues=pairs.eigenvalues[:count],
        vectors=pairs.vectors[:count],
        residual=pairs.residual[:count],
    )
