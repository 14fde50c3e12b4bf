"""Stage `verify`: recompute residuals from the images, for a random sample of some shards."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import DatasetError, ShardError
from data.pictures import read_image_stamped
from data.trees.folder import FolderTree
from eigen.graphs.build import Graph
from eigen.picture import graph_of
from eigen.store import shards
from eigen.store.verify import Verdict, verify
from pipeline import chain, manifest
from pipeline.config import IDENTITY, Config, resolve


@dataclass(frozen=True)
class Checked:
    """Verdict on one image, or why there is none."""

    id: str
    verdict: Verdict | None
    passed: bool
    note: str


def run(
    folder: Path, images: Sequence[Path], *, sample: int, seed: int, weights: str | None
) -> Iterator[Checked]:
    """Verify `sample` images of the shards in `folder`, drawn by `seed`.

    Parameters
    ----------
    images : sequence of Path
        Folders of the images, subfolders included. Images not found there are read from the paths
        in the run's manifest, next to `folder`.
    weights : str or None
        File of the extractor's weights, if it is not at the path that the shards name.

    Raises
    ------
    ShardError
        A shard is damaged or does not match its SHA-256 in the manifest, an image is not found, or
        the weights are not those of the shards.
    """
    paths = _paths(folder, images)
    with shards.open(folder, verify=True) as stored:
        drawn = sorted(random.Random(seed).sample(sorted(stored), min(sample, len(stored))))
        for id in drawn:
            if id not in paths:
                shown = ", ".join(map(str, images)) or f"{folder.parent / 'manifest.csv'}"
                raise ShardError(f"image {id}: not found in {shown}; name its folder with --images")
            yield _check(stored, id, paths[id], weights)


def _check(folder: shards.ShardFolder, id: str, path: Path, weights: str | None) -> Checked:
    shard, row = folder.place(id)
    image, stamp = read_image_stamped(path)
    expected = str(shard.table()["sha256"][row])
    if expected and stamp.sha256 != expected:
        note = f"{path} is not the file whose eigenpairs were computed (SHA-256 differs)"
        return Checked(id, None, False, note)
    config = _config_of(shard.attributes(), weights)
    graph = _graph(shard, image, config)
    pairs = folder[id]
    if pairs.grid != graph.grid:
        note = f"expected the image's grid {graph.grid}, found {pairs.grid}: another image"
        return Checked(id, None, False, note)
    verdict = verify(pairs, graph)
    return Checked(id, verdict, verdict.holds(config.solve.tolerance), "")


def _graph(shard: shards.Shard, image: np.ndarray, config: Config) -> Graph:
    extractor = chain.extractor_for(config)
    expected = shard.attributes()["weights_sha256"]
    if (extractor.weights_sha256 or "") != expected:
        raise ShardError(
            f"{shard.path}: expected weights of SHA-256 {expected}, found "
            f"{extractor.weights_sha256}; name the right file with --weights"
        )
    return graph_of(image, extractor, config.graph, config.max_patches)


def _config_of(about: Mapping[str, Any], weights: str | None) -> Config:
    # Shards of version 1 also store settings of the machine and the folders of the run.
    settings = {key: value for key, value in about["config"].items() if key in IDENTITY["fused"]}
    if weights is not None:
        settings["weights"] = weights
    return resolve(settings)


def _paths(folder: Path, images: Sequence[Path]) -> dict[str, Path]:
    """Image id -> file, the first of several."""
    listed = folder.parent / "manifest.csv"
    paths = {}
    if listed.exists():
        paths = {entry.id: Path(entry.path) for entry in manifest.read(listed) if entry.path}
    for root in reversed(images):
        try:
            paths |= {photo.id: photo.path for photo in FolderTree(root).photos()}
        except DatasetError:
            continue  # a folder without images; ids not found are reported
    return paths
