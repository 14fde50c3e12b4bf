"""Stage `manifest`: list the photos of a data set and deal them out to shards."""

from __future__ import annotations

import logging
from pathlib import Path

from data.datasets import DATASETS
from data.errors import SettingError
from data.trees.tree import Tree
from pipeline import manifest
from pipeline.config import Config
from pipeline.layout import Layout

log = logging.getLogger(__name__)


def tree_for(dataset: str, config: Config, layout: Layout) -> Tree:
    """The tree of a data set.

    Raises
    ------
    SettingError
        The setting that names the root of the data set is not given.
    """
    record = DATASETS[dataset]
    if record.root_setting is None:
        return record.open(layout.tree(dataset), photos=config.photos)
    root = getattr(config, record.root_setting)
    if root is None:
        raise SettingError(
            f"{dataset}: no folder is named; give {record.root_setting}=PATH (with Snakemake: "
            f"--config {record.root_setting}=PATH, with a command: --{record.root_setting} PATH)"
        )
    return record.open(root, photos=config.photos)


def run(dataset: str, config: Config, layout: Layout, output: Path) -> None:
    """Write the manifest of `dataset` to `output`."""
    members = manifest.entries(tree_for(dataset, config, layout), config.shard_size)
    manifest.write(output, members)
    placed = [entry.shard for entry in members if entry.shard is not None]
    log.info(
        "%s: %d photos in %d shards, %d with a problem -> %s",
        dataset,
        len(placed),
        len(set(placed)),
        len(members) - len(placed),
        output,
    )
