"""Stage `manifest`: list the images of a data set and assign them to shards."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
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
        The setting that names the data set's root is missing, or the results would lie among its
        images and be taken for some.
    """
    record = DATASETS[dataset]
    if record.root_setting is None:
        return record.open(layout.tree(dataset), photos=config.photos)
    root = getattr(config, record.root_setting)
    if root is None:
        raise SettingError(
            f"{record.root_setting}: expected a folder for the data set {dataset}, found none; set "
            f"--config {record.root_setting}=PATH for Snakemake, --{record.root_setting} PATH for "
            "a command"
        )
    results = Path(config.results_root).resolve()
    if dataset == "folder" and results.is_relative_to(Path(root).resolve()):
        raise SettingError(
            f"results_root: expected a folder outside {root}, where masks would be taken for "
            f"images, found {config.results_root}; set another results_root"
        )
    return record.open(root, photos=config.photos)


def entries_of_shard(
    dataset: str, config: Config, layout: Layout, shard: int
) -> list[manifest.Entry]:
    """The images of a shard: those of its request, or of the manifest where no run was planned.

    Raises
    ------
    DatasetError
        Neither exists, or the data set has no such shard.
    """
    members = _entries_of_shard(dataset, config, layout, shard)
    if not members:
        raise DatasetError(
            f"{layout.manifest(dataset)}: lists no image of shard {shard}; the first shard is 0"
        )
    return members


def _entries_of_shard(
    dataset: str, config: Config, layout: Layout, shard: int
) -> list[manifest.Entry]:
    request = Path(layout.request(dataset, "shard", shard))
    if not request.exists():
        listed = Path(layout.manifest(dataset))
        if not listed.exists():
            raise DatasetError(
                f"{listed}: no such file; list the images first: python -m pipeline manifest "
                f"--dataset {dataset}"
            )
        return manifest.read(listed, shard=shard)
    images = requests.read(request).photos
    if DATASETS[dataset].generator is None:
        return [manifest.Entry(image.id, image.path, shard) for image in images]
    tree = tree_for(dataset, config, layout)
    paths = {image.id: str(image.path) for image in tree.photos()}
    return [manifest.Entry(image.id, paths.get(image.id, ""), shard) for image in images]


def entries(dataset: str, config: Config, layout: Layout) -> list[manifest.Entry]:
    """The images of a data set as they are now, each with its shard.

    For a generated one, those requested: the folder may also hold files of a larger one.
    """
    members = manifest.entries(tree_for(dataset, config, layout), config.shard_size)
    generator = DATASETS[dataset].generator
    if generator is None:
        return members
    made = set(generator.ids(config.world_photos))
    of_it = [entry for entry in members if entry.id in made]
    return [replace(entry, shard=n // config.shard_size) for n, entry in enumerate(of_it)]


def run(dataset: str, members: Sequence[manifest.Entry], layout: Layout, output: Path) -> None:
    """Write the manifest of `dataset` to `output`."""
    manifest.write(output, members)
    _forget_requests(dataset, layout, members)
    assigned = [entry.shard for entry in members if entry.shard is not None]
    log.info(
        "%s: %d images in %d shards, %d with a problem -> %s",
        dataset,
        len(assigned),
        len(set(assigned)),
        len(members) - len(assigned),
        output,
    )


def _forget_requests(dataset: str, layout: Layout, members: Sequence[manifest.Entry]) -> None:
    """Remove requests for shards that an earlier plan filled with other images."""
    ids_of: dict[Path, list[str]] = {}
    for entry in members:
        if entry.shard is not None:
            path = Path(layout.request(dataset, "shard", entry.shard))
            ids_of.setdefault(path, []).append(entry.id)
    for path in Path(layout.request(dataset, "shard", 0)).parent.glob("shard-*.json"):
        try:
            ids = [image.id for image in requests.read(path).photos]
        except RunError:
            ids = []
        if ids != ids_of.get(path):
            path.unlink(missing_ok=True)
