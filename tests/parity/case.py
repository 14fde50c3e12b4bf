"""One comparison: how far our value is from the published one, and how far it may be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


class Absent(KeyError):
    """A golden file lacks an array that a comparison needs."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Case:
    """A named comparison. `error` and `tolerance` share a unit, named in the family's docstring.

    absent: the folder does not hold what the name says, so nothing was compared.
    """

    name: str
    error: float
    tolerance: float
    absent: bool = False

    @classmethod
    def missing(cls, name: str) -> Case:
        """The record of something that the folder does not hold."""
        return cls(name, math.nan, math.nan, absent=True)

    @property
    def passed(self) -> bool:
        return bool(self.error <= self.tolerance)  # NaN compares false, so it fails


class Entries(dict[str, Any]):
    """The arrays or JSON entries of a golden file; a missing one raises `Absent` with its name."""

    def __init__(self, name: str, entries: dict[str, Any]) -> None:
        super().__init__(entries)
        self.name = name

    def __missing__(self, key: str) -> Any:
        raise Absent(f"{self.name} {key}")


def available(cases: Iterator[Case]) -> Iterator[Case]:
    """The cases up to an array that the file lacks, then a case that names the array."""
    try:
        yield from cases
    except Absent as absent:
        yield Case.missing(str(absent))


def largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest absolute difference; infinite if shapes differ, NaN if only one side is NaN."""
    if np.shape(ours) != np.shape(theirs):
        return float("inf")
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    both_nan = np.isnan(ours) & np.isnan(theirs)
    return float(np.max(np.where(both_nan, 0.0, np.abs(ours - theirs)), initial=0.0))
