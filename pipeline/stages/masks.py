"""Stage `masks`: eigenvectors of a shard -> `{id}_k{0..K-1}.png`, 0 or 255, at the image's size.

The published test scripts read these. In the DAG a list of written masks represents the shard.
Each mask states its origin (`data.png`): `run`, a digest of the settings that decide it; `vector`,
its index; `image`, the SHA-256 of the image file; `shard`. Masks that this results folder did not
write are overwritten only with `overwrite_masks`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import eigen.masks
from data.errors import RunError
from data.files import atomic_files, atomic_path
from data.pictures import read_image_stamped
from data.png import MaskEncoder
from data.progress import progress
from data.sealed import write_table
from eigen.pairs import Eigenpairs
from eigen.store.shards import Shard
from pipeline.config import IDENTITY, Config
from pipeline.mask_files import (
    COLUMNS,
    LAST_RUN,
    mask_names,
    own_runs,
    refuse_others,
    remember_run,
    remove,
)
from pipeline.opened import check_unchanged
from pipeline.workers import run_ordered

log = logging.getLogger(__name__)


def run_digest(shard: Shard, config: Config) -> str:
    """Digest of the settings and weights that decide the masks of a shard."""
    about = shard.attributes()  # the hash of the weights counts, not their path
    keys = [key for key in IDENTITY["fused"] if key != "weights"]
    settings = {key: about["config"].get(key) for key in keys}
    identity = [settings, str(about["extractor"]), str(about["weights_sha256"])]
    text = json.dumps([*identity, config.masks.method, config.masks.upsampling], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Item:
    """An image of the shard: its eigenpairs, its file, and the SHA-256 recorded for the file."""

    id: str
    pairs: Eigenpairs
    path: str
    sha256: str


@dataclass(frozen=True)
class WriteMasks:
    """Masks of one image to PNG files."""

    folder: Path
    method: str
    upsampling: str
    about: Mapping[str, str]

    def __call__(self, item: Item) -> tuple[str, str]:
        cut = eigen.masks.each_mask(
            item.pairs,
            method=self.method,
            upsampling=self.upsampling,
            image=self._image(item) if self.upsampling == "guided" else None,
        )
        encode, names = MaskEncoder(), mask_names(item.id, item.pairs.k)
        with atomic_files(self.folder, item.id) as write:
            for vector, (name, mask) in enumerate(zip(names, cut, strict=True)):
                about = {**self.about, "vector": vector, "image": item.sha256}
                write(name, encode(mask, about))
        return item.id, item.sha256

    def _image(self, item: Item) -> Any:
        image, stamp = read_image_stamped(item.path)
        check_unchanged(item.path, stamp.sha256, item.sha256)
        return image


def run(
    shard: Path,
    paths: Mapping[str, str],
    number: int,
    folder: Path,
    output: Path,
    config: Config,
    *,
    workers: int = 1,
) -> None:
    """Write the masks of a shard to `folder` and the list of their images to `output`.

    `paths` has the file of each image of the shard, by id.
    Masks of images of the shard that are now in quarantine are removed: an older run wrote them.

    Raises
    ------
    RunError
        The folder holds masks of these images that this results folder did not write, and
        `overwrite_masks` is false; or the shard holds images that are not in `paths`, or not k
        eigenpairs of each.
    ShardError
        The shard is damaged, or an image changed since it was written.
    """
    source = Shard(shard)
    ids = source.ids()
    if unknown := sorted(set(ids) - set(paths)):
        raise RunError(
            f"{shard}: expected the images listed for shard {number}, found {unknown[0]} too; run "
            "the same command again to replace it"
        )
    if ids and (pairs := source.table()["eigenvalues"].shape[1]) != config.solve.k:
        raise RunError(
            f"{shard}: expected k = {config.solve.k} eigenpairs of each image, found {pairs}; give "
            "the k that computed them, or compute them again"
        )
    digest = run_digest(source, config)
    own = own_runs(output.parent) | {digest}
    if not config.overwrite_masks:
        refuse_others(folder, ids, config.solve.k, own)
    remember_run(output.parent, digest)
    remove(folder, paths.keys() - set(ids), config.solve.k, own)
    about = {"run": digest, "shard": shard.name}
    task = WriteMasks(folder, config.masks.method, config.masks.upsampling, about)
    written = run_ordered(task, _items(source, ids, paths), workers=workers)
    done = list(progress(written, len(ids), f"masks shard {number}"))
    if done:
        with atomic_path(folder / LAST_RUN) as temporary:
            temporary.write_text(digest)
    os.sync()  # once, before the list states that thousands of small files exist
    write_table(output, COLUMNS, ((id, sha256, digest) for id, sha256 in done))
    log.info("masks shard %d: %d x %d -> %s", number, len(done), config.solve.k, folder)


def _items(source: Shard, ids: Iterable[str], paths: Mapping[str, str]) -> Iterator[Item]:
    hashes = source.table().get("sha256", ())
    for index, (id, sha256) in enumerate(zip(ids, hashes, strict=True)):
        yield Item(id, source.pairs(index), paths[id], str(sha256))
