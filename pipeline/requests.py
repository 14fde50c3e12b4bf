"""Requests: what a job has to make, as a file that is an input of its rule.

A request holds the settings that bear on a job and the images it is about (id, path, size, time of
modification). Its digest is entered in the record of what the job makes, with those of the files
that it read and made. While planning, each request is compared with that record: where they agree
the request is dated before the result and the inputs no later than it, otherwise the request is
dated after the result, so that Snakemake's comparison of file times remakes exactly what differs:
in a fresh clone, after results were moved or copied, for one shard requested by name, without
`.snakemake/`.
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
    """What a job has to make.

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
        self._write(path, {})

    def write_as_due(self, path: Path, after: int) -> None:
        """Write and date the request so that what was made up to the time `after` (ns) is due.

        The time is in the file too: Snakemake makes nothing again for a newer file of the checksum
        that it had for the last run in the same checkout.
        """
        with contextlib.suppress(OSError, RunError):
            if read_json(path, RunError).get("due", 0) > after and _time(path) > after:
                return
        moment = max(time.time_ns(), after + _MARGIN_NS)
        self._write(path, {"due": moment})
        _date(path, moment)

    def _write(self, path: Path, more: dict[str, int]) -> None:
        photos = [astuple(photo) for photo in self.photos]
        content = {"stage": self.stage, "settings": dict(self.settings), "photos": photos}
        # There are thousands, which are not flushed; a damaged one is written again.
        write_json(path, content | more, durable=False)


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
    content.pop("due", None)
    try:
        photos = tuple(Photo(*photo) for photo in content.pop("photos"))
        return Request(**content, photos=photos)
    except (KeyError, TypeError) as error:
        raise RunError(
            f"{path}: not a request of this version ({error}); delete it and give the same command "
            "again"
        ) from error


def answer(
    path: str | Path, request: Request, *, inputs: str | None, results: str | None, **about: Any
) -> None:
    """Note in a record that a job answered `request`, where its result cannot say so.

    Parameters
    ----------
    inputs, results : str or None
        Digests of the files that the job read, as they were before, and made
        (`pipeline.contents`).
    """
    write_json(path, {"request": request.digest, "inputs": inputs, "results": results, **about})


def answered(path: str | Path, *, inputs: str | None, results: str | None) -> str | None:
    """Digest of the request that a job answered; None where that is unknown.

    Unknown too, if it was answered from other inputs, or by other results than the present ones.
    """
    try:
        content = read_json(path, RunError)
        about_these = (content["inputs"], content["results"]) == (inputs, results)
        return str(content["request"]) if about_these and None not in (inputs, results) else None
    except (OSError, RunError, KeyError):
        return None


def place(
    path: Path,
    request: Request,
    *,
    made: str | None,
    results: Iterable[Path],
    inputs: Iterable[Path] = (),
    benchmarks: Iterable[Path] = (),
) -> None:
    """Write a request if it changed, and date it by whether `results` answer it.

    Parameters
    ----------
    made : str or None
        Digest of the request that the existing results were made for; None if it is unknown.
    results : iterable of Path
        Files that the job makes.
    inputs : iterable of Path
        Files that the job reads. Where these are the ones that the results were made from, a copy
        that dated them later than the results makes nothing due.
    benchmarks : iterable of Path
        Files in which Snakemake notes time and memory; it compares their dates too.
    """
    request.write(path)
    results = list(results)
    if not results or not all(result.exists() for result in results):
        return  # a missing result is made in any case
    results += [file for file in benchmarks if file.exists()]
    if made == request.digest:
        newest = max((_time(file) for file in inputs if file.exists()), default=0)
        for result in results:
            if _time(result) < newest:
                _date(result, newest)
    times = [_time(result) for result in results]
    if made == request.digest and _time(path) >= min(times):
        _date(path, min(times) - _MARGIN_NS)
    elif made != request.digest:
        request.write_as_due(path, max(times))


def _time(path: Path) -> int:
    return path.stat().st_mtime_ns


def _date(path: Path, moment: int) -> None:
    os.utime(path, ns=(moment, moment))
