"""Stage `manifest`: list the photos of a data set and deal them out to shards."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from data.datasets import DATASETS
from data.errors import DatasetError, RunError, SettingError
from data.trees.tree import Tree
from pipeline import manifest, requests
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


def entries_of_shard(
    dataset: str, config: Config, layout: Layout, shard: int
) -> list[manifest.Entry]:
    """The images of a shard: those of its request, or of the manifest if nobody planned a run.

    Raises
    ------
    DatasetError
        Neither is there.
    """
    request = Path(layout.request(dataset, "shard", shard))
    if not request.exists():
        listed = Path(layout.manifest(dataset))
        if not listed.exists():
            raise DatasetError(
                f"{listed}: not there; list the images first: python -m pipeline manifest "
                f"--dataset {dataset}"
            )
        return manifest.read(listed, shard=shard)
    photos = requests.read(request).photos
    if DATASETS[dataset].generator is None:
        return [manifest.Entry(photo.id, photo.path, shard) for photo in photos]
    tree = tree_for(dataset, config, layout)
    paths = {photo.id: str(photo.path) for photo in tree.photos()}
    return [manifest.Entry(photo.id, paths.get(photo.id, ""), shard) for photo in photos]


def run(dataset: str, config: Config, layout: Layout, output: Path) -> list[manifest.Entry]:
    """Write the manifest of `dataset` to `output`, and return its entries."""
    members = manifest.entries(tree_for(dataset, config, layout), config.shard_size)
    manifest.write(output, members)
    _forget_requests(dataset, layout, members)
    placed = [entry.shard for entry in members if entry.shard is not None]
    log.info(
        "%s: %d photos in %d shards, %d with a problem -> %s",
        dataset,
        len(placed),
        len(set(placed)),
        len(members) - len(placed),
        output,
    )
    return members


def _forget_requests(dataset: str, layout: Layout, members: Sequence[manifest.Entry]) -> None:
    """Remove requests for shards of other images, as an earlier plan dealt them out."""
    dealt: dict[str, list[str]] = {}
    for entry in members:
        if entry.shard is not None:
            dealt.setdefault(layout.request(dataset, "shard", entry.shard), []).append(entry.id)
    for path in Path(layout.request(dataset, "shard", 0)).parent.glob("shard-*.json"):
        try:
            ids = [photo.id for photo in requests.read(path).photos]
        except RunError:
            ids = []
        if ids != dealt.get(str(path)):
            path.unlink(missing_ok=True)
