"""Stage `masks`: eigenvectors of a shard -> `{id}_k{0..K-1}.png`, 0 or 255, at the photo's size.

The published test scripts read these. A list of what was written stands for the shard in the DAG.
"""

from __future__ import annotations

import csv
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import eigen.masks
from data.files import atomic_path
from data.pictures import read_image, write_mask
from eigen.store.shards import Shard
from pipeline import manifest
from pipeline.config import Config
from pipeline.progress import progress
from pipeline.workers import run_ordered

log = logging.getLogger(__name__)


def mask_paths(folder: Path, id: str, k: int) -> list[Path]:
    """Names of a photo's masks, as published."""
    return [folder / f"{id}_k{number}.png" for number in range(k)]


@dataclass(frozen=True)
class WriteMasks:
    """Masks of one photo of a shard, `(row, id, path of the photo)`, to PNG files."""

    shard: Path
    folder: Path
    method: str
    upsampling: str

    def __call__(self, photo: tuple[int, str, str]) -> str:
        index, id, path = photo
        pairs = Shard(self.shard).pairs(index)
        cut = eigen.masks.masks(
            pairs,
            method=self.method,
            upsampling=self.upsampling,
            image=read_image(path) if self.upsampling == "guided" else None,
        )
        for target, mask in zip(mask_paths(self.folder, id, pairs.k), cut, strict=True):
            write_mask(target, mask, durable=False)
        return id


def run(
    shard: Path,
    manifest_path: Path,
    number: int,
    folder: Path,
    output: Path,
    config: Config,
    *,
    workers: int = 1,
) -> None:
    """Write the masks of a shard to `folder` and the list of their photos to `output`.

    Masks of photos of the shard that are now in quarantine are removed: they are from an older run.
    """
    source = Shard(shard)
    paths = {entry.id: entry.path for entry in manifest.read(manifest_path, shard=number)}
    ids = source.ids()
    for id in paths.keys() - set(ids):
        for stale in mask_paths(folder, id, config.solve.k):
            stale.unlink(missing_ok=True)
    task = WriteMasks(shard, folder, config.masks.method, config.masks.upsampling)
    photos = [(index, id, paths[id]) for index, id in enumerate(ids)]
    written = run_ordered(task, photos, workers=workers)
    done = list(progress(written, len(photos), f"masks shard {number}"))
    os.sync()  # once, before the list says that thousands of small files are there
    with atomic_path(output) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([["id"], *([id] for id in done)])
    log.info("masks shard %d: %d x %d -> %s", number, len(done), config.solve.k, folder)
