"""What files on top of eigenvectors say of their origin, and how a mix of two runs is refused.

Each holds the software, the settings, and digests of what it was made from (`about`). Label maps
are PNG files of one folder; one digest covers them all (`maps_digest`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data.errors import DatasetError, RunError, ShardError
from data.files import sha256
from data.sealed import read_json
from eigen.extractors import Extractor
from eigen.store import shards
from pipeline import provenance
from pipeline.config import READING, Config
from pipeline.identity import stage_request

_BY_DIGEST = ("weights", "namer_weights")
"""Settings that name a file, which is compared by its digest instead."""


def about(stage: str, config: Config, **sources: Any) -> dict[str, Any]:
    """Software, settings and digests of the sources, for JSON."""
    settings = dict(stage_request(stage, config).settings)
    for key in _BY_DIGEST:
        settings.pop(key, None)
    return {"software": provenance.software(), "settings": settings, **sources}


def maps_digest(folder: Path, ids: Iterable[str]) -> str:
    """SHA-256 over the names and the digests of the label maps `{id}.png` of a folder."""
    return files_digest({id: folder / f"{id}.png" for id in ids})


def files_digest(files: Mapping[str, Path]) -> str:
    """SHA-256 over the names and the digests of files."""
    total = hashlib.sha256()
    for name, path in sorted(files.items()):
        total.update(f"{name} {sha256(path)}\n".encode())
    return total.hexdigest()


def remove_others(folder: Path, ids: Iterable[str]) -> None:
    """Remove the label maps of a folder that belong to no image of `ids`."""
    for stale in {path.stem for path in folder.glob("[!.]*.png")} - set(ids):
        (folder / f"{stale}.png").unlink()


def check_extractor(folder: shards.ShardFolder, extractor: Extractor, config: Config) -> None:
    """Raise unless the eigenvectors were computed with this extractor and these settings of it.

    Raises
    ------
    ShardError
        Names the first setting that differs.
    """
    settings = config.flat(*READING)
    for shard in folder.shards:
        stored = shard.attributes()
        made_with = {**stored["config"], "the weights' SHA-256": stored["weights_sha256"] or None}
        asked = {**settings, "the weights' SHA-256": extractor.weights_sha256 or None}
        for key in sorted(made_with.keys() & asked.keys() - set(_BY_DIGEST)):
            if made_with[key] != asked[key]:
                raise ShardError(
                    f"{shard.path}: expected eigenvectors computed with {key} {asked[key]}, found "
                    f"{made_with[key]}; give the settings that computed them"
                )


def index_digest(folder: Path) -> str:
    """SHA-256 of the index of a folder of eigenvectors."""
    return sha256(folder / shards.MANIFEST)


def check_segments(path: Path, expected: str) -> None:
    """Raise unless a label map is the one that the features were computed with.

    Raises
    ------
    DatasetError
    """
    if sha256(path) != expected:
        raise DatasetError(
            f"{path}: not the label map that features.h5 next to it is about; run the stage "
            "`segments` again"
        )


def read_about(path: Path) -> dict[str, Any]:
    """The `info` of a JSON file.

    Raises
    ------
    RunError
        The file is damaged, cannot be read, or has none.
    """
    try:
        info = read_json(path, RunError, remedy="run its stage again").get("info")
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error}); run its stage again") from error
    if not isinstance(info, dict):
        raise RunError(f"{path}: does not say what it was made from; run its stage again")
    return info
