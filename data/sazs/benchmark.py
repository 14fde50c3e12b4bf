"""A few-shot benchmark: its classes, its folds, and the rule that lists pairs.

Class ids count from 0; the value in a label map is the id + 1. In each fold, training sees the
classes of the other three folds.
"""

from __future__ import annotations

from dataclasses import dataclass

from data.errors import DatasetError

FOLDS = 4
ROLES = ("trn", "val")
"""Roles of images: training and test."""


@dataclass(frozen=True)
class Benchmark:
    """Classes, folds and the rule of the lists.

    An image is listed under a class if at least `least` of the pixels
    `mask[start::stride, start::stride]` show the class. Both rules were found by comparison with
    the published lists (docs/data.md).
    """

    name: str
    classes: int
    interleaved: bool
    start: int
    stride: int
    least: int

    def class_ids(self, fold: int, role: str) -> list[int]:
        """Ascending class ids of a fold: held out ("val") or seen in training ("trn").

        Raises
        ------
        DatasetError
            There is no such fold or role.
        """
        if fold not in range(FOLDS):
            raise DatasetError(f"fold: expected 0 to {FOLDS - 1}, found {fold!r}")
        if role not in ROLES:
            raise DatasetError(f"role: expected one of {', '.join(ROLES)}, found {role!r}")
        return [c for c in range(self.classes) if (self.fold_of(c) == fold) == (role == "val")]

    def fold_of(self, class_id: int) -> int:
        """The fold in which a class is held out."""
        return class_id % FOLDS if self.interleaved else class_id // (self.classes // FOLDS)
