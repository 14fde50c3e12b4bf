"""Stage `photos`: write the data sets that need no download."""

from __future__ import annotations

import logging
from pathlib import Path

from data.datasets import DATASETS
from data.errors import DatasetError
from data.files import atomic_path
from pipeline.config import Config

log = logging.getLogger(__name__)


def run(dataset: str, folder: Path, done: Path, config: Config) -> None:
    """Write the images of a generated data set to `folder`, then the empty file `done`."""
    generator = DATASETS[dataset].generator
    if generator is None:
        raise DatasetError(f"{dataset}: no generated data set; download its images")
    generator.write(folder, config.world_photos, config.solve.seed)
    with atomic_path(done):
        log.info("%s: images -> %s", dataset, folder)
