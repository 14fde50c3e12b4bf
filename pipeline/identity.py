"""What decides the result of each job: its request, from the configuration and the images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data.datasets import DATASETS
from pipeline.config import MASKING, STAGE_KEYS, Config
from pipeline.manifest import Entry
from pipeline.requests import Photo, Request


def photos_request(config: Config) -> Request:
    """Images of a generated data set."""
    return Request("photos", config.flat("world_photos", "seed"))


def manifest_request(dataset: str, entries: Iterable[Entry]) -> Request:
    """The list of images: which, where (unless the pipeline decides that), in which shard."""
    decided = DATASETS[dataset].generator is not None
    rows = [[e.id, "" if decided else e.path, e.shard, e.problem] for e in entries]
    return Request("manifest", {"entries": rows})


def photos_of(dataset: str, entries: Iterable[Entry]) -> tuple[Photo, ...]:
    """Images of a shard as they are now.

    Those that the pipeline generates need not exist yet: their rule is an input of the shard's.
    """
    if DATASETS[dataset].generator is None:
        return tuple(Photo.of(entry.id, entry.path) for entry in entries)
    return tuple(Photo(entry.id, "", -1, -1) for entry in entries)


def photos_recorded(dataset: str, images: Mapping[str, Mapping[str, Any]]) -> tuple[Photo, ...]:
    """Images of a shard as they were when the first of its stages began (`records.Record`)."""
    if DATASETS[dataset].generator is not None:
        return tuple(Photo(id, "", -1, -1) for id in images)
    return tuple(
        Photo(id, image["path"], image["size"], image["mtime_ns"])
        if image["size"] is not None
        else Photo(id, image["path"], -1, -1)
        for id, image in images.items()
    )


def shard_request(settings: Mapping[str, Any], photos: tuple[Photo, ...]) -> Request:
    """Eigenpairs of the images of a shard, with the settings of `IDENTITY["fused"]`."""
    return Request("shard", {**settings, "weights": _state(settings["weights"])}, photos)


def masks_request(config: Config) -> Request:
    """Masks of the images of a shard."""
    keys = [key for key in MASKING if key != "datasets_root"]
    return Request("masks", config.flat(*keys))


def index_request(config: Config) -> Request:
    """The index of a data set; what it lists are other inputs of its job."""
    return Request("index", config.flat("strict"))


def report_request(config: Config) -> Request:
    """The report of a data set."""
    roots = ("datasets_root", "results_root")
    return Request("report", config.flat(*(k for k in STAGE_KEYS["report"] if k not in roots)))


def _state(weights: str | None) -> Any:
    """A weight file by its size and time: the same wherever it lies, another once replaced."""
    if weights is None or not Path(weights).expanduser().is_file():
        return weights
    photo = Photo.of("", str(Path(weights).expanduser()))
    return [photo.size, photo.mtime_ns]
