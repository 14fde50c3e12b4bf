"""Stage `verify`: recompute residuals from the photos, for a random sample of some shards."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.errors import ShardError
from data.pictures import SUFFIXES, read_image
from eigen.extractors.contract import cells_of
from eigen.graphs.build import build
from eigen.picture import reduced
from eigen.store import shards
from eigen.store.verify import Verdict, verify
from pipeline import chain
from pipeline.config import Config, resolve


@dataclass(frozen=True)
class Checked:
    """Verdict on one photo, or why there is none."""

    id: str
    verdict: Verdict | None
    passed: bool
    note: str


def run(
    folder: Path, images: Sequence[Path], *, sample: int, seed: int, weights: str | None
) -> Iterator[Checked]:
    """Verify `sample` photos of the shards in `folder`, drawn by `seed`.

    Parameters
    ----------
    images : sequence of Path
        Folders in which the photos lie, as {id}.jpg or with another ending.
    weights : str or None
        File of the extractor's weights, where it is not at the path that the shards name.

    Raises
    ------
    ShardError
        A shard is damaged, or is not what its SHA-256 in the manifest says.
    ShardError
        A photo is not in `images`, or the weights are not those that made the shards.
    """
    with shards.open(folder, verify=True) as found:
        places = {id: shard for shard in found.shards for id in shard.ids()}
        drawn = sorted(random.Random(seed).sample(sorted(places), min(sample, len(places))))
        for id in drawn:
            about = places[id].attributes()
            config = _config_of(about, weights)
            image = read_image(_find(id, images))
            extractor = chain.extractor_for(config)
            if (extractor.weights_sha256 or "") != about["weights_sha256"]:
                raise ShardError(
                    f"{places[id].path}: made with weights of SHA-256 {about['weights_sha256']}, "
                    f"these have {extractor.weights_sha256}; give the right file by --weights"
                )
            seen = reduced(image, extractor.patch, config.max_patches)
            spec = chain.graph_spec(config)
            grid = extractor.grid(seen.shape[:2])
            cells = cells_of(extractor, image.shape[:2], seen.shape[:2])
            graph = build(spec, extractor([seen])[0], grid, image, cells)
            try:
                verdict = verify(found[id], graph)
            except ValueError as error:
                yield Checked(id, None, False, str(error))
                continue
            yield Checked(id, verdict, verdict.holds(config.tolerance), "")


def _config_of(about: dict, weights: str | None) -> Config:
    settings = dict(about["config"])
    if weights is not None:
        settings["weights"] = weights
    return resolve(settings)


def _find(id: str, folders: Iterable[Path]) -> Path:
    for folder in folders:
        for suffix in SUFFIXES:
            for ending in (suffix, suffix.upper()):
                if (path := folder / f"{id}{ending}").exists():
                    return path
    shown = ", ".join(map(str, folders))
    raise ShardError(f"photo {id} is not in {shown}; name its folder by --images")
