"""Findings of a check: which parts of a data set are present, and how to get the others."""

from __future__ import annotations

import os
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a check: `level` is "ok", "warning" or "missing".

    `what` was expected at `where`; `how` tells how to get it, empty if nothing is to be done.
    """

    level: str
    what: str
    where: Path
    how: str = ""

    def __str__(self) -> str:
        source = f"\n         -> {self.how}" if self.how else ""
        return f"{self.level:<8} {self.what}: {self.where}{source}"


def counted(what: str, folder: Path, suffix: str, published: int, how: str) -> Finding:
    """Compare the number of files in `folder` that end in `suffix` with the published one."""
    if not folder.is_dir():
        return Finding("missing", what, folder, how)
    return compared(what, folder, len(_stems(folder, suffix)), published, how)


def compared(what: str, where: Path, count: int, published: int, how: str = "") -> Finding:
    """Compare a count with the published one: equal, a subset, or more than there should be."""
    if count == published:
        return Finding("ok", f"{what}, {count} as published", where)
    if count == 0:
        return Finding("missing", f"{what}, none of {published}", where, how)
    relation = "a subset" if count < published else "more than there should be"
    return Finding("warning", f"{what}, {count} of {published} published, {relation}", where, how)


def complete(what: str, folder: Path, suffix: str, ids: Set[str]) -> Finding:
    """Whether `folder` has a file for each of the ids."""
    absent = sorted(ids - _stems(folder, suffix))
    if not absent:
        return Finding("ok", f"{what}, all {len(ids)}", folder)
    first = ", ".join(absent[:3])
    return Finding(
        "warning",
        f"{what}, {len(absent)} of {len(ids)} are missing (first: {first})",
        folder,
        f"add {absent[0]}{suffix} and the others, or remove the ids from the lists",
    )


def _stems(folder: Path, suffix: str) -> set[str]:
    with os.scandir(folder) as entries:
        return {entry.name.removesuffix(suffix) for entry in entries if entry.name.endswith(suffix)}
