"""Stage `segments`: eigenvectors -> a label map per image, and the features of all segments."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.errors import ShardError
from data.pictures import read_image, write_png
from eigen.picture import reduced
from eigen.segments import segment_features, segments
from eigen.store import packed
from pipeline import manifest, provenance
from pipeline.chain import extractor_for
from pipeline.config import Config
from pipeline.progress import progress
from pipeline.stages.objects import opened
from pipeline.workers import run_ordered

log = logging.getLogger(__name__)

SEGMENTS = packed.Format("eigenshape-segments", version=1, ragged={"features": "offset"})


@dataclass(frozen=True)
class WriteSegments:
    """(id, path) of an image -> features (k, d) of its segments; also writes the label map."""

    source: Path
    folder: Path
    config: Config

    def __call__(self, image: tuple[str, str]) -> np.ndarray:
        id, path = image
        pixels, spec = read_image(path), self.config.segments
        pairs = opened(self.source)[id]
        extractor = extractor_for(self.config)
        view = reduced(pixels, extractor.patch, self.config.max_patches)
        if pairs.grid != extractor.grid(view.shape[:2]):
            raise ShardError(
                f"{self.source}: expected {id} on the patches of {extractor.name}, found a grid of "
                f"{pairs.grid}; set the extractor that computed it"
            )
        divided = segments(
            pairs,
            spec.count,
            spec.method,
            upsampling=self.config.masks.upsampling,
            image=pixels,
            seed=self.config.solve.seed,
        )
        write_png(self.folder / f"{id}.png", divided.labels, durable=False)
        return segment_features(extractor([view])[0], divided)


def run(
    manifest_path: Path, source: Path, output: Path, config: Config, *, workers: int = 1
) -> None:
    """Write the features of all segments to `output`, and label maps next to it."""
    paths = {entry.id: entry.path for entry in manifest.read(manifest_path)}
    ids = list(opened(source))
    task = WriteSegments(source, output.parent, config)
    results = run_ordered(task, [(id, paths[id]) for id in ids], workers=workers)
    output.parent.mkdir(parents=True, exist_ok=True)
    for stale in {path.stem for path in output.parent.glob("*.png")} - set(ids):
        (output.parent / f"{stale}.png").unlink()
    total = 0
    with packed.create(output, SEGMENTS, {"software": provenance.software()}) as writer:
        for id, features in zip(ids, progress(results, len(ids), "segments"), strict=True):
            writer.append({"features": features}, id=id)
            total += len(features)
    log.info("%d segments of %d images -> %s", total, len(ids), output.parent)


def read_features(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """(id, features (k, d)) of each image, in order; one image in memory at a time.

    Raises
    ------
    ShardError
        The file is damaged, or not of this kind.
    """
    reader = packed.PackedReader(path, SEGMENTS)
    offset = reader.column("offset")
    for id, start, stop in zip(reader.column("id"), offset[:-1], offset[1:], strict=True):
        yield str(id), reader.rows("features", start, stop)
