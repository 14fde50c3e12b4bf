"""Stage `index`: finalise a data set.

Checks that every image of the manifest is in a shard or in quarantine, then writes `manifest.json`
(which readers open), `quarantine.csv` and `provenance.json`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import RunError
from data.sealed import read_json, read_table, write_json, write_table
from eigen.store import shards
from pipeline import manifest
from pipeline.mask_files import LAST_RUN, remove_gone
from pipeline.records import Record, read_all

log = logging.getLogger(__name__)

_FOLDERS = ("eigenvectors", "features", "laplacian", "records", "requests", "masks", "logs")
QUARANTINE = ("id", "stage", "reason")


@dataclass(frozen=True)
class Quarantined:
    """A row of `quarantine.csv`."""

    id: str
    stage: str
    reason: str


def run(
    manifest_path: Path,
    shard_path: Callable[[int], Path],
    record_path: Callable[[int], Path],
    *,
    quarantine: Path,
    provenance: Path,
    strict: bool = False,
    masks: Path | None = None,
    mask_lists: Path | None = None,
) -> None:
    """Write the index of the shards, which are in one folder.

    Parameters
    ----------
    shard_path, record_path : callable
        From the number of a shard to its file or record.
    masks, mask_lists : Path, optional
        Folders of the masks, from which those of removed images are deleted, and of the lists of
        written masks.

    Raises
    ------
    RunError
        An image is lost or foreign; or, with `strict`, the quarantine is not empty.
    """
    entries = manifest.read(manifest_path)
    numbers = manifest.shards(entries)
    records = read_all(record_path(number) for number in numbers)
    shard_paths = [shard_path(number) for number in numbers]
    rows = quarantined(entries, records)
    done = [id for path in shard_paths for id in shards.Shard(path).ids()]
    check(entries, done, rows)
    if strict and rows:
        shown = "; ".join(f"{row.id}: {row.reason}" for row in rows[:5])
        raise RunError(
            f"strict: expected no quarantined image, found {len(rows)} ({shown}); remove them, "
            "or set strict=false"
        )
    write_quarantine(quarantine, rows)
    _write_provenance(provenance, records)
    _remove_others(shard_path(0).parent.parent, set(numbers))
    shards.write_manifest(shard_path(0).parent, shard_paths)
    if masks is not None and mask_lists is not None:
        remove_gone(masks, mask_lists, set(done))
        for other in mask_lists.glob("*_k*"):  # of another K; those in a data set's tree are kept
            if other != masks:
                remove_gone(other, mask_lists, ())
                with contextlib.suppress(OSError):
                    (other / LAST_RUN).unlink(missing_ok=True)
                    other.rmdir()
    log.info(
        "%d images in, %d done, %d quarantined (%s)", len(entries), len(done), len(rows), quarantine
    )


_OF_A_SHARD = re.compile(r"(?:\w+-)?(\d{5})\.(?:h5|json|csv|log|jsonl)")


def _remove_others(results: Path, numbers: Collection[int]) -> None:
    """Remove files of shards that no longer exist, from runs with another number of shards."""
    for path in results.glob("*/*"):
        match = _OF_A_SHARD.fullmatch(path.name)
        if match and path.parent.name in _FOLDERS and int(match[1]) not in numbers:
            log.info("removing %s: this shard no longer exists", path)
            path.unlink(missing_ok=True)


def quarantined(entries: Sequence[manifest.Entry], records: Sequence[Record]) -> list[Quarantined]:
    """All quarantined images, in the order of the stages, with the paths that they have now."""
    listed = [Quarantined(e.id, "manifest", e.problem) for e in entries if e.problem]
    paths = {entry.id: entry.path for entry in entries}
    for record in records:
        for id, where in record.quarantine.items():
            then = record.images.get(id, {}).get("path", "")
            reason = where["reason"].replace(then, paths[id]) if then and id in paths else None
            listed.append(Quarantined(id, where["stage"], reason or where["reason"]))
    return listed


def check(
    entries: Sequence[manifest.Entry], done: Sequence[str], rows: Sequence[Quarantined]
) -> None:
    """Raise `RunError` unless each image of the manifest came out exactly once."""
    came_in = sorted(entry.id for entry in entries)
    came_out = sorted([*done, *(row.id for row in rows)])
    if came_in != came_out:
        lost = sorted(set(came_in) - set(came_out))
        strange = sorted(set(came_out) - set(came_in))
        raise RunError(
            f"{len(came_in)} images went in and {len(came_out)} came out: {len(lost)} are lost "
            f"({', '.join(lost[:3]) or 'none'}), {len(strange)} are not in this manifest "
            f"({', '.join(strange[:3]) or 'none'}); run the same command again, and report a "
            "defect if it fails again"
        )


def write_quarantine(path: Path, rows: Sequence[Quarantined]) -> None:
    """`quarantine.csv`: id, stage, reason."""
    write_table(path, QUARANTINE, ((row.id, row.stage, row.reason) for row in rows))


def read_quarantine(path: Path) -> list[Quarantined]:
    """Read `quarantine.csv`; raises `RunError` if it is damaged."""
    return [Quarantined(**row) for row in read_table(path, QUARANTINE, RunError)]


def _write_provenance(path: Path, records: Sequence[Record]) -> None:
    """Write the provenance of the shards; more than one entry where it differs between them."""
    distinct = {json.dumps(record.provenance, sort_keys=True): record for record in records}
    write_json(path, {"shards": [record.provenance for record in distinct.values()]})


def read_provenance(path: Path) -> list[dict[str, Any]]:
    """Read `provenance.json`, one entry per distinct provenance.

    Raises
    ------
    RunError
        The file is damaged.
    """
    again = "delete it and run the stage `index` again"
    return read_json(path, RunError, remedy=again)["shards"]
