"""The record of a job: the outcome and time of each image, and the software.

A JSON file next to the job's result. The eigenvectors of an image are the same bytes in every run;
their time, and the path and date of its file, are not: so these are here and not in the shard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data.errors import EigenshapeError, RunError
from data.sealed import read_json, write_json
from eigen.store.sealed import seal_of
from pipeline.outcome import Outcome


@dataclass
class Record:
    """Outcome of a stage over a shard.

    Attributes
    ----------
    stage : str
    seconds : dict of str to float
        Time each finished image took in its worker.
    quarantine : dict of str to dict
        `stage` and `reason` for each image that was quarantined, here or by a stage before.
    images : dict of str to dict
        For each image of the shard `path`, and `size` (bytes) and `mtime_ns` as they were before
        the job read the file, null where it did not exist; `sha256` of the bytes that were read,
        null where there is no result.
    provenance : dict
        See `pipeline.provenance.collect`.
    request : str
        Digest of the request that was fulfilled, see `pipeline.requests`.
    result : str
        Seal of the file that this record describes.
    """

    stage: str
    seconds: dict[str, float] = field(default_factory=dict)
    quarantine: dict[str, dict[str, str]] = field(default_factory=dict)
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    request: str = ""
    result: str = ""

    def add(self, outcome: Outcome[Any]) -> None:
        """Add the outcome of one image."""
        if outcome.value is None:
            self.quarantine[outcome.id] = {"stage": self.stage, "reason": outcome.reason}
        else:
            self.seconds[outcome.id] = round(outcome.seconds, 4)
            self.images[outcome.id]["sha256"] = outcome.value.sha256

    def take_over(self, earlier: Sequence[Record]) -> None:
        """Add the outcomes of the earlier stages of this shard, in their order."""
        images: dict[str, dict[str, Any]] = {}
        for record in earlier:
            for id, image in record.images.items():
                images.setdefault(id, image)
            for id, seconds in record.seconds.items():
                if id in self.seconds:
                    self.seconds[id] = round(self.seconds[id] + seconds, 4)
            self.quarantine |= record.quarantine
        self.images = images | {id: image for id, image in self.images.items() if id not in images}

    def write(self, path: str | Path, *, result: Path, request: str = "") -> None:
        """Write the record of `result`, which answers a request, with its digest."""
        self.request, self.result = request, seal_of(result)
        write_json(path, asdict(self))


def shard_answered(path: str | Path, shard: Path) -> str | None:
    """As `answered`, for a shard; None too if its record is about another file."""
    try:
        record = _read(Path(path))
        return record.request if record.result == seal_of(shard) else None
    except (OSError, EigenshapeError):
        return None


def image_state(path: str | Path) -> dict[str, Any]:
    """Entry of `Record.images` for a file, before it is read."""
    try:
        status = Path(path).stat()
    except OSError:  # reported by the job that reads it
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
