"""Counts of a fault run: one row per promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

COUNTS = ("tried", "lost", "faked", "leftovers", "hangs", "obscure")
SHOWN = 3


@dataclass
class Row:
    """What happened to one promise.

    Attributes
    ----------
    promise : str
    tried : int
        Cases.
    lost : int
        Results that are missing afterwards, or differ from an undisturbed run.
    faked : int
        Other data or settings than were written, without an error.
    leftovers : int
        Cases after which a file remained that no undisturbed run leaves.
    hangs : int
        Cases that were still running at their time limit.
    obscure : int
        Errors that do not name the file in one line, and crashes.
    examples : list of str
        The first violations, in words.
    """

    promise: str
    tried: int = 0
    lost: int = 0
    faked: int = 0
    leftovers: int = 0
    hangs: int = 0
    obscure: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def violations(self) -> int:
        """Cases that break the promise."""
        return self.lost + self.faked + self.leftovers + self.hangs + self.obscure

    def note(self, count: str, example: str) -> None:
        """Enter a violation under the name of its count."""
        setattr(self, count, getattr(self, count) + 1)
        if len(self.examples) < SHOWN:
            self.examples.append(f"{count}: {example}")


def formatted(rows: Sequence[Row]) -> str:
    """The rows as a text table, with a sum, and the first violations below it."""
    total = Row("all", *(sum(getattr(row, name) for row in rows) for name in COUNTS))
    width = max(len(row.promise) for row in (*rows, total))
    lines = [f"{'promise':<{width}} " + " ".join(f"{name:>9}" for name in COUNTS)]
    for row in (*rows, total):
        cells = " ".join(f"{getattr(row, name):>9,}" for name in COUNTS)
        lines.append(f"{row.promise:<{width}} {cells}")
    lines += [f"  {row.promise}: {example}" for row in rows for example in row.examples]
    return "\n".join(lines)
