"""The manifest of a data set: every image of the run, its shard and its path.

A CSV file with the columns `id`, `path`, `shard` and `problem`, sealed by its last line (see
`data.sealed`). A row with a problem (a listed image that is missing, two files with one stem) is
quarantined at once and belongs to no shard.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.errors import DatasetError
from data.files import is_file_name
from data.sealed import read_table, write_table
from data.trees.tree import Tree

COLUMNS = ("id", "path", "shard", "problem")
LONGEST_ID = 255 - len("_k999.png")
"""Bytes of an id that leave room for the names of its masks in a folder."""


@dataclass(frozen=True)
class Entry:
    """One image. `shard` is None and `path` may be "" where there is a `problem`."""

    id: str
    path: str
    shard: int | None
    problem: str = ""


def entries(tree: Tree, shard_size: int) -> list[Entry]:
    """Manifest of a tree: its images in order, `shard_size` per shard, then its problems."""
    images: list[Entry] = []
    too_long: list[Entry] = []
    for image in tree.photos():
        length = len(os.fsencode(image.id))
        if length > LONGEST_ID:
            reason = f"its id has {length} bytes, names of masks leave room for {LONGEST_ID}"
            too_long.append(Entry(image.id, str(image.path), None, reason))
        else:
            images.append(Entry(image.id, str(image.path), len(images) // shard_size))
    return images + too_long + [Entry(id, "", None, reason) for id, reason in tree.problems()]


def shards(members: Iterable[Entry]) -> list[int]:
    """Numbers of the shards, in order."""
    return sorted({entry.shard for entry in members if entry.shard is not None})


def digest(members: Iterable[Entry]) -> str:
    """Short digest that changes with the images or their order."""
    text = "\n".join(f"{entry.id}\t{entry.path}\t{entry.problem}" for entry in members)
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


def write(path: str | Path, members: Sequence[Entry]) -> None:
    """Write a manifest."""
    rows = ((e.id, e.path, "" if e.shard is None else e.shard, e.problem) for e in members)
    write_table(path, COLUMNS, rows)


class Paths(dict[str, str]):
    """Image id -> file; an image that the manifest does not list is an error, not a `KeyError`."""

    def __missing__(self, id: str) -> str:
        raise DatasetError(
            f"image {id}: has results, but is not in the manifest; run the same command again from "
            "the stage `manifest` on"
        )


def paths(members: Iterable[Entry]) -> Paths:
    """The files of the images of a manifest, by id."""
    return Paths({entry.id: entry.path for entry in members})


def read(path: str | Path, *, shard: int | None = None) -> list[Entry]:
    """Read a manifest, or the images of one shard of it.

    Raises
    ------
    DatasetError
        The file is no manifest, is damaged, or has an id with path parts.
    OSError
        The file cannot be read.
    """
    members = []
    for row in read_table(path, COLUMNS, DatasetError):
        if row["shard"] and not is_file_name(row["id"]):
            raise DatasetError(
                f"{path}: expected ids without path parts, found {row['id']!r}; rename the image"
            )
        try:
            number = int(row["shard"]) if row["shard"] else None
        except ValueError as error:
            raise DatasetError(
                f"{path}: expected a number as the shard of {row['id']}, found "
                f"{row['shard']!r}; list the images again: python -m pipeline manifest"
            ) from error
        if shard is None or number == shard:
            members.append(Entry(row["id"], row["path"], number, row["problem"]))
    return members
