"""Stage `photos`: make the data sets that need no download."""

from __future__ import annotations

import logging
from pathlib import Path

from data.files import atomic_path
from data.synthetic import samples
from pipeline.config import Config

log = logging.getLogger(__name__)


def run(dataset: str, folder: Path, done: Path, config: Config) -> None:
    """Write the photos of "world" or "samples" to `folder`, then the empty file `done`."""
    if dataset == "world":
        from data.synthetic import world

        world.write(folder, photos=config.world_photos, seed=config.seed)
    else:
        samples.write_photos(folder)
    with atomic_path(done):
        log.info("%s: photos -> %s", dataset, folder)


def ids(dataset: str, config: Config) -> list[str]:
    """Ids of the photos that `run` makes, before it has made them."""
    if dataset == "world":
        from data.synthetic import world

        return world.photo_ids(config.world_photos)
    return sorted(Path(name).stem for name in samples.PHOTOS)
