"""Stage `segments`: eigenvectors -> a label map per image, and the features of all segments."""

from __future__ import annotations

import functools
import itertools
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.errors import DatasetError, SettingError, ShardError
from data.files import sha256
from data.pictures import read_label, write_png
from data.progress import progress
from eigen.leading import leading
from eigen.objects.frame import object_share
from eigen.picture import reduced
from eigen.segments import segment_features, segments
from eigen.store import packed
from pipeline import manifest
from pipeline.chain import extractor_for
from pipeline.config import Config
from pipeline.opened import check_unchanged, image_of, opened
from pipeline.origins import about, check_extractor, check_segments, index_digest, remove_others
from pipeline.workers import run_ordered

if TYPE_CHECKING:
    from eigen.pairs import Eigenpairs
    from eigen.segments import Segments
    from models.imagenet import ImagenetClassifier

log = logging.getLogger(__name__)

FEATURES = "features.h5"
SEGMENTS = packed.Format(
    "eigenshape-segments", version=2, ragged={"features": "offset", "object_share": "offset"}
)


@dataclass(frozen=True)
class WriteSegments:
    """(id, path) of an image -> what is known of its segments, and the SHA-256 of the image.

    Also writes the label map.
    """

    source: Path
    folder: Path
    config: Config

    def __call__(self, image: tuple[str, str]) -> tuple[dict[str, np.ndarray], str]:
        id, path = image
        (pixels, digest), spec = image_of(self.source, id, path), self.config.segments
        pairs = opened(self.source)[id]
        extractor = extractor_for(self.config)
        view = reduced(pixels, extractor.patch, self.config.max_patches)
        if pairs.grid != extractor.grid(view.shape[:2]):
            raise ShardError(
                f"{self.source}: expected {id} on the patches of {extractor.name}, found a grid of "
                f"{pairs.grid}; set the extractor that computed it"
            )
        divided = self._divided(id, pairs, pixels)
        write_png(self.folder / f"{id}.png", divided.labels, durable=False)
        if spec.features == "classes":
            classifier = classifier_for(self.config.names.classifier, self.config.machine.device)
            features = class_features(classifier, pixels, divided)
        else:
            features = segment_features(extractor([view])[0], divided)
        return {
            "features": features,
            "object_share": object_share(leading(pairs, pairs.k), divided.nodes, divided.k),
        }, digest

    def _divided(self, id: str, pairs: Eigenpairs, pixels: np.ndarray) -> Segments:
        spec = self.config.segments
        try:
            return segments(
                pairs,
                spec.count,
                spec.method,
                upsampling=self.config.masks.upsampling,
                image=pixels,
                seed=self.config.solve.seed,
            )
        except SettingError as error:
            raise SettingError(f"{id}: {error}") from None


@functools.cache
def classifier_for(name: str, device: str) -> ImagenetClassifier:
    """The ImageNet classifier of that name; one per process."""
    from models.imagenet import ImagenetClassifier

    return ImagenetClassifier(name, device)


def class_features(
    classifier: ImagenetClassifier, image: np.ndarray, divided: Segments
) -> np.ndarray:
    """Roots of the mean class probabilities of each segment, (k, 1000) float32.

    The dot product of two such rows is the Bhattacharyya coefficient of two distributions.
    """
    from eval.objects.names import mask_means

    masks = np.stack([divided.labels == number for number in range(divided.k)])
    return np.sqrt(mask_means(classifier.maps(image), masks))


def run(
    manifest_path: Path, source: Path, output: Path, config: Config, *, workers: int = 1
) -> None:
    """Write the features of all segments to `output`, and label maps next to it."""
    paths = manifest.paths(manifest.read(manifest_path))
    check_extractor(opened(source), extractor_for(config), config)
    ids = list(opened(source))
    task = WriteSegments(source, output.parent, config)
    results = run_ordered(task, [(id, paths[id]) for id in ids], workers=workers)
    output.parent.mkdir(parents=True, exist_ok=True)
    remove_others(output.parent, ids)
    total = 0
    with packed.create(output, SEGMENTS, _attributes(source, config)) as writer:
        made = progress(results, len(ids), "segments")
        for id, (arrays, digest) in zip(ids, made, strict=True):
            labels = sha256(output.parent / f"{id}.png")
            writer.append(arrays, id=id, sha256=digest, labels_sha256=labels)
            total += len(arrays["features"])
    log.info("%d segments of %d images -> %s", total, len(ids), output.parent)


def _attributes(source: Path, config: Config) -> dict[str, str]:
    weights = extractor_for(config).weights_sha256 or ""
    made = about("segments", config, weights_sha256=weights, eigenvectors=index_digest(source))
    return {**made, "settings": json.dumps(made["settings"], sort_keys=True)}


class SegmentReader:
    """Features of a data set's segments, and their label maps; one image in memory at a time.

    Parameters
    ----------
    path : Path
        `features.h5`; the label maps are next to it.

    Raises
    ------
    DatasetError
        The file does not exist.
    ShardError
        It is damaged, or not of this kind.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise DatasetError(f"{path}: no such file; run the stage `segments` first")
        self.path = path
        self._reader = packed.PackedReader(path, SEGMENTS)
        self.ids = [str(id) for id in self._reader.column("id")]
        self._digests = dict(zip(self.ids, self._reader.column("labels_sha256"), strict=True))
        self._images = dict(zip(self.ids, self._reader.column("sha256"), strict=True))
        self._offset = self._reader.column("offset")

    @property
    def seal(self) -> str:
        """Digest of the whole content of the file."""
        return self._reader.seal

    def attributes(self) -> dict[str, Any]:
        """Software, settings (JSON) and the digest of the eigenvectors."""
        return self._reader.attributes()

    def rows(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Features (k, d) and object shares (k,) of each image, in the order of `ids`.

        See `eigen.segments.segment_features` and `eigen.objects.frame.object_share`.
        """
        for start, stop in itertools.pairwise(self._offset):
            features = self._reader.rows("features", start, stop)
            yield features, self._reader.rows("object_share", start, stop)

    def digest(self, id: str) -> str:
        """SHA-256 of the label map of an image."""
        if id not in self._digests:
            raise DatasetError(
                f"{self.path.parent}: {id}.png is not one of the label maps that features.h5 is "
                "about; run the stage `segments` again"
            )
        return str(self._digests[id])

    def check_image(self, id: str, path: Path) -> None:
        """Raise `ShardError` if an image is not the one that was segmented."""
        check_unchanged(path, sha256(path), str(self._images[id]))

    def labels(self, id: str) -> np.ndarray:
        """The label map of an image, (H, W) uint8.

        Raises
        ------
        DatasetError
            It is not the one that the features were computed with.
        """
        path = self.path.parent / f"{id}.png"
        check_segments(path, self.digest(id))
        return read_label(path)
