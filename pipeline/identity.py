"""What decides the result of each job: its request, from the configuration and the images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data.datasets import DATASETS
from data.files import sha256
from eval.sazs.words import PACKAGED
from pipeline.config import STAGE_KEYS, Config
from pipeline.manifest import Entry
from pipeline.requests import Photo, Request

_NO_IDENTITY = ("datasets_root", "results_root", "folder", "overwrite_masks")
"""Keys that say where files are: moving them changes no result."""


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


def stage_request(stage: str, config: Config) -> Request:
    """A stage whose result follows from files that its rule names, and from settings."""
    keys = [key for key in STAGE_KEYS[stage] if key not in _NO_IDENTITY]
    settings = config.flat(*keys) if keys else {}  # without names `flat` gives all
    if stage == "words":
        settings["network"] = sha256(PACKAGED)
    for key in ("weights", "namer_weights"):
        if key in settings:
            settings[key] = _state(settings[key])
    return Request(stage, settings)


def _state(weights: str | None) -> Any:
    """A weight file by its size and time: the same wherever it lies, another once replaced."""
    if weights is None or not Path(weights).expanduser().is_file():
        return weights
    photo = Photo.of("", str(Path(weights).expanduser()))
    return [photo.size, photo.mtime_ns]
