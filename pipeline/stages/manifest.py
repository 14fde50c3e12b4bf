"""Stage `manifest`: list the photos of a data set and deal them out to shards."""

from __future__ import annotations

import logging
from pathlib import Path

from data.trees.folder import Tree, open_tree
from pipeline import manifest
from pipeline.config import Config
from pipeline.layout import Layout

log = logging.getLogger(__name__)


def tree_for(dataset: str, config: Config, layout: Layout) -> Tree:
    """The tree of a data set.

    Raises
    ------
    ValueError
        `dataset` is "folder" and the configuration names no folder.
    """
    if dataset == "folder":
        if config.folder is None:
            raise ValueError(
                "configuration key 'folder' is null; give a folder of photos: folder=PATH"
            )
        return open_tree("folder", config.folder)
    root = layout.tree(dataset)
    kind = {"world": "pascal", "samples": "folder"}.get(dataset, dataset)
    return open_tree(kind, root, photos=config.photos)


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
