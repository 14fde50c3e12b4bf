"""The record of a job: what it did with each image, how long that took, and with what software.

A JSON file next to the job's result. The eigenvectors of an image are the same bytes in every run;
how long they took, and where and when its file was written, is not: so that is here and not in the
shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data.errors import RunError
from data.sealed import read_json, write_json
from pipeline.outcome import Outcome


@dataclass
class Record:
    """Outcome of a stage over a shard.

    Attributes
    ----------
    stage : str
    seconds : dict of str to float
        Time each finished image took in its worker.
    quarantine : dict of str to str
        Reason for each image that was quarantined here.
    images : dict of str to dict
        For each image of the shard `path`, and as it was before the job read it `size` (bytes) and
        `mtime_ns`, both null where there was no such file; `sha256` of the bytes from which the
        result was made, null where there is no result.
    provenance : dict
        See `pipeline.provenance.collect`.
    """

    stage: str
    seconds: dict[str, float] = field(default_factory=dict)
    quarantine: dict[str, str] = field(default_factory=dict)
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def add(self, outcome: Outcome[Any]) -> None:
        """Enter one image."""
        if outcome.value is None:
            self.quarantine[outcome.id] = outcome.reason
        else:
            self.seconds[outcome.id] = round(outcome.seconds, 4)
            self.images[outcome.id]["sha256"] = outcome.value.sha256

    def write(self, path: str | Path) -> None:
        """Write the record with its digest."""
        write_json(path, asdict(self))


def image_state(path: str | Path) -> dict[str, Any]:
    """Entry of `Record.images` for a file, before it is read."""
    try:
        status = Path(path).stat()
    except OSError:  # the job that reads it will say why
        return {"path": str(path), "size": None, "mtime_ns": None, "sha256": None}
    return {
        "path": str(path),
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "sha256": None,
    }


def read_all(paths: Iterable[str | Path]) -> list[Record]:
    """Read records, in the order of the paths.

    Raises
    ------
    RunError
        A record is damaged, or was written by another version.
    """
    return [_read(Path(path)) for path in paths]


def _read(path: Path) -> Record:
    content = read_json(path, RunError)
    try:
        return Record(**content)
    except TypeError as error:
        raise RunError(
            f"{path}: not a record of this version ({error}); delete it and give the same command "
            "again"
        ) from error
