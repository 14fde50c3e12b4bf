"""Stage `objects`: eigenvectors -> objects.json, COCO's results format, in the order of the run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.coco_results import encode, image_ids, write_images, write_results
from data.files import sha256
from data.progress import progress
from eigen.objects import ImageObject
from eigen.objects import objects as find
from eigen.pairs import Eigenpairs
from pipeline import manifest
from pipeline.chain import extractor_for
from pipeline.config import Config
from pipeline.opened import image_of, opened
from pipeline.origins import about, check_extractor, index_digest
from pipeline.workers import run_ordered

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """Objects of one image, masks as run lengths."""

    size: tuple[int, int]
    objects: list[dict[str, Any]]


@dataclass(frozen=True)
class FindObjects:
    """(id, path) of an image of the folder of shards -> its objects."""

    folder: Path
    config: Config

    def __call__(self, image: tuple[str, str]) -> Found:
        id, path = image
        pixels, _ = image_of(self.folder, id, path)
        extractor = extractor_for(self.config)
        pairs: Eigenpairs | None = opened(self.folder)[id]
        if pairs and pairs.grid != extractor.grid(pixels.shape[:2]):
            pairs = None  # a pixel graph, or a reduced image: the patch graph is solved here
        objects = find(
            pixels,
            extractor,
            self.config.objects,
            pairs=pairs,
            max_patches=self.config.max_patches,
        )
        return Found(pixels.shape[:2], [_entry(one) for one in objects])


def _entry(one: ImageObject) -> dict[str, Any]:
    # Six digits: more than anyone reads, fewer than rounding on another machine would change.
    return {
        "category_id": 1,
        "bbox": list(one.box),
        "segmentation": encode(one.mask),
        "score": round(one.score, 6),
    }


def run(
    manifest_path: Path, folder: Path, output: Path, config: Config, *, workers: int = 1
) -> None:
    """Write the objects of all images in `folder` to `output`, and the images next to it.

    Raises
    ------
    ShardError
        The eigenvectors were computed with another extractor, or an image changed since.
    """
    paths = manifest.paths(manifest.read(manifest_path))
    check_extractor(opened(folder), extractor_for(config), config)
    ids = list(opened(folder))
    numbers = image_ids(ids)
    results = run_ordered(
        FindObjects(folder, config), [(id, paths[id]) for id in ids], workers=workers
    )
    images: list[tuple[int, str, tuple[int, int]]] = []
    without: list[str] = []

    def entries() -> Iterator[dict[str, Any]]:
        for id, result in zip(ids, progress(results, len(ids), "objects"), strict=True):
            name = Path(paths[id]).name
            images.append((numbers[id], name, result.size))
            if not result.objects:
                without.append(id)
            for entry in result.objects:
                yield {"image_id": numbers[id], "file_name": name, **entry}

    write_results(output, entries())
    info = about(
        "objects",
        config,
        weights_sha256=extractor_for(config).weights_sha256 or "",
        eigenvectors=index_digest(folder),
        results=sha256(output),
    )
    write_images(output.with_suffix(".images.json"), images, info=info)
    log.info("objects of %d images -> %s", len(ids) - len(without), output)
    if without:
        shown = ", ".join(without[:5]) + (", ..." if len(without) > 5 else "")
        log.info("no object in %d of %d images: %s", len(without), len(ids), shown)
