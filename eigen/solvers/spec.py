"""Settings of a solve."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from data.settings import OneOf, Spec
from eigen.solvers.registry import SOLVERS


class SolveSpec(Spec):
    """Which eigenpairs to compute, how and how exactly.

    >>> SolveSpec(k=7, tolerance=1e-7).solver
    'auto'
    """

    k: int = Field(5, ge=1, description="Eigenpairs per image.")
    drop_trivial: bool = Field(
        False, description="Leave out the constant eigenvector and return the next k."
    )
    solver: Annotated[str, OneOf(lambda: ("auto", *SOLVERS))] = Field(
        "auto",
        description="auto chooses by the kind and size of the graph, and tries the next solver"
        " if one misses the tolerance; a named solver is the only one tried"
        " (docs/solvers.md).",
    )
    tolerance: float = Field(
        1e-5,
        gt=0,
        le=0.1,
        description="Largest accepted residual, the 2-norm of L u - lambda u for a unit vector"
        " u. float32 graphs reach about 1e-6, float64 graphs 1e-12.",
    )
    seed: int = Field(0, ge=0, description="Seed of all random numbers.")
