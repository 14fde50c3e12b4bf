"""The manifest of a data set: every photo the run is about, which shard it is in, and where it is.

A CSV file with the columns `id`, `path`, `shard` and `problem`. A row with a problem (a listed
photo that is missing, a second file with one stem) is quarantined at once and is in no shard.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.errors import DatasetError
from data.files import atomic_path
from data.trees.tree import Tree


@dataclass(frozen=True)
class Entry:
    """One photo. `shard` is None and `path` may be "" where there is a `problem`."""

    id: str
    path: str
    shard: int | None
    problem: str = ""


def entries(tree: Tree, shard_size: int) -> list[Entry]:
    """Manifest of a tree: its photos in order, `shard_size` to a shard, then its problems."""
    photos = [
        Entry(photo.id, str(photo.path), number // shard_size)
        for number, photo in enumerate(tree.photos())
    ]
    return photos + [Entry(id, "", None, reason) for id, reason in tree.problems()]


def digest(members: Iterable[Entry]) -> str:
    """Changes when the photos or their order do; short, for job parameters."""
    text = "\n".join(f"{entry.id}\t{entry.path}\t{entry.problem}" for entry in members)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write(path: str | Path, members: Sequence[Entry]) -> None:
    """Write a manifest."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "path", "shard", "problem"])
        for entry in members:
            shard = "" if entry.shard is None else entry.shard
            writer.writerow([entry.id, entry.path, shard, entry.problem])


def read(path: str | Path, *, shard: int | None = None) -> list[Entry]:
    """Read a manifest, or the photos of one shard of it.

    Raises
    ------
    DatasetError
        The file is not a manifest.
    """
    with Path(path).open(newline="") as file:
        rows = csv.DictReader(file)
        if rows.fieldnames != ["id", "path", "shard", "problem"]:
            raise DatasetError(
                f"{path}: expected the columns id, path, shard, problem, found {rows.fieldnames}; "
                "delete it and give the same command again"
            )
        members = [
            Entry(
                row["id"], row["path"], int(row["shard"]) if row["shard"] else None, row["problem"]
            )
            for row in rows
        ]
    return members if shard is None else [entry for entry in members if entry.shard == shard]
