"""Requests: what a job is asked to make, as a file that is an input of its rule.

A request holds the settings that bear on a job and the images it is about (id, path, size, time of
modification). Its digest is entered in the record of what the job makes. While planning, each
request is compared with that digest: where they agree the request is dated before the result,
otherwise after it, so that Snakemake's comparison of file times remakes exactly what differs: in a
fresh clone, after results were moved, for one shard requested by name, without `.snakemake/`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from data.errors import RunError
from data.sealed import read_json, write_json

_MARGIN_NS = 1_000_000_000


@dataclass(frozen=True)
class Photo:
    """One image of a request: where it is, and what shows that it has changed."""

    id: str
    path: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, id: str, path: str) -> Photo:
        """The image as it is now; size -1 where it cannot be examined (its job reports why)."""
        try:
            status = Path(path).stat()
        except OSError:
            return cls(id, path, -1, -1)
        return cls(id, path, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Request:
    """What a job is asked to make.

    Attributes
    ----------
    stage : str
    settings : mapping
        The settings that bear on the result, as JSON values.
    photos : sequence of Photo
    """

    stage: str
    settings: Mapping[str, Any]
    photos: Sequence[Photo] = ()

    @property
    def digest(self) -> str:
        """SHA-256 over everything but the paths: moving a data set changes no result."""
        photos = [[photo.id, photo.size, photo.mtime_ns] for photo in self.photos]
        identity = json.dumps([self.stage, dict(self.settings), photos], sort_keys=True)
        return hashlib.sha256(identity.encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write the request, unless the file holds it already."""
        with contextlib.suppress(OSError, RunError):
            if read(path) == self:
                return
        photos = [astuple(photo) for photo in self.photos]
        content = {"stage": self.stage, "settings": dict(self.settings), "photos": photos}
        write_json(path, content, durable=False)  # thousands; a damaged one is written again


def read(path: str | Path) -> Request:
    """Read a request.

    Raises
    ------
    RunError
        The file is damaged, or of another version.
    OSError
        The file cannot be read.
    """
    content = read_json(path, RunError)
    try:
        photos = tuple(Photo(*photo) for photo in content.pop("photos"))
        return Request(**content, photos=photos)
    except (KeyError, TypeError) as error:
        raise RunError(
            f"{path}: not a request of this version ({error}); delete it and give the same command "
            "again"
        ) from error


def answer(path: str | Path, request: Request, **about: Any) -> None:
    """Note in a record that a job answered `request`, where its result cannot say so."""
    write_json(path, {"request": request.digest, **about})


def answered(path: str | Path) -> str | None:
    """Digest of the request that a job answered; None where that is unknown."""
    try:
        return str(read_json(path, RunError)["request"])
    except (OSError, RunError, KeyError):
        return None


def place(path: Path, request: Request, *, made: str | None, results: Iterable[Path]) -> None:
    """Write a request if it changed, and date it by whether `results` answer it.

    Parameters
    ----------
    made : str or None
        Digest of the request that the existing results were made for; None if it is unknown.
    results : iterable of Path
        Files that the job makes.
    """
    request.write(path)
    results = list(results)
    times = [result.stat().st_mtime_ns for result in results if result.exists()]
    if not times or len(times) < len(results):
        return  # a missing result is made whatever the dates say
    requested = path.stat().st_mtime_ns
    if made == request.digest and requested >= min(times):
        _date(path, min(times) - _MARGIN_NS)
    elif made != request.digest and requested <= max(times):
        _date(path, max(time.time_ns(), max(times) + _MARGIN_NS))


def _date(path: Path, moment: int) -> None:
    os.utime(path, ns=(moment, moment))
