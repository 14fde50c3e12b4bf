"""Stage `names`: masks of a data set's images -> names, by the namer that the settings choose."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.coco_results import encode, image_ids, write_images, write_results
from data.errors import DatasetError
from data.files import sha256, write_plain_json
from data.mask_sources import VOID, ImageMasks, open_masks
from data.pictures import read_image, read_label, write_png
from data.progress import progress
from data.text.vocabulary import Vocabulary
from data.trees.tree import Photo, Tree
from eval.objects.clusters import Confusion, class_iou
from eval.objects.name_spec import NameSpec
from eval.objects.namers import open_namer, voc_ids
from eval.objects.names import Namer, named_map
from pipeline.config import Config
from pipeline.origins import about, check_segments, files_digest, maps_digest, remove_others
from pipeline.stages.segments import FEATURES, SegmentReader

log = logging.getLogger(__name__)
VOC_CLASSES = 21


def run(source: Path, tree: Tree, output: Path, config: Config) -> None:
    """Write each mask with its name to `output`; label maps and the images next to it.

    Parameters
    ----------
    source : Path
        See `data.mask_sources.open_masks`.

    Raises
    ------
    DatasetError
        Masks of an image that the data set does not have, or of another size; segments of two runs.
    ShardError
        An image is not the one that was segmented.
    VocabularyError, WeightsError
        Words or weights that the namer cannot read.
    """
    if source.is_dir() and source.resolve() == output.parent.resolve():
        raise DatasetError(
            f"{source}: expected masks, found the folder that the names are written to; copy the "
            "masks to a folder of their own"
        )
    masks, images = open_masks(source), {image.id: image for image in tree.photos()}
    for one in masks:
        if one.stem not in images:
            raise DatasetError(
                f"{source}: expected masks of images of {tree.root}, found some of {one.stem}"
            )
    origin, shares = _origin(source, masks, images), _object_shares(source)
    opened = open_namer(config.names, config.machine.device)
    ids = image_ids([one.stem for one in masks])
    sizes: dict[str, tuple[int, int]] = {}
    remove_others(output.parent, ids)
    scorer = Scorer(opened.namer, source, shares, config.names)
    write_results(output, _entries(masks, images, scorer, ids, sizes, output.parent))
    write_images(
        output.with_suffix(".images.json"),
        [(ids[id], images[id].path.name, size) for id, size in sizes.items()],
        categories=[
            {"id": number, "name": name}
            for number, name in enumerate(opened.vocabulary.names, start=1)
        ],
        info=about(
            "names",
            config,
            weights_sha256=opened.weights_sha256,
            masks=origin,
            results=sha256(output),
            maps=maps_digest(output.parent, ids),
        ),
    )
    log.info("names of the masks of %d images -> %s", len(masks), output.parent)
    _score(masks, images, tree, opened.vocabulary, output.parent)


def _origin(source: Path, masks: Sequence[ImageMasks], images: dict[str, Photo]) -> dict[str, str]:
    """Where the masks come from: digest of a file, of our segments, or of all files of a folder."""
    if source.is_file():
        return {"file": source.name, "sha256": sha256(source)}
    features = source / FEATURES
    if features.is_file():
        reader = SegmentReader(features)
        if missing := sorted(set(reader.ids) - {one.stem for one in masks}):
            raise DatasetError(
                f"{source}: {len(missing)} label maps are missing (first: {missing[0]}.png); run "
                "the stage `segments` again"
            )
        for one in masks:
            check_segments(source / f"{one.stem}.png", reader.digest(one.stem))
            reader.check_image(one.stem, images[one.stem].path)
        return {"segments": reader.seal}
    maps = {one.stem: one.path for one in masks if one.path is not None}
    return {"folder": source.name, **({"sha256": files_digest(maps)} if maps else {})}


def _object_shares(source: Path) -> dict[str, np.ndarray]:
    """Share of each of our segments that is far from the frame, by image; of other masks none."""
    if not (source / FEATURES).is_file():
        return {}
    reader = SegmentReader(source / FEATURES)
    return {id: shares for id, (_, shares) in zip(reader.ids, reader.rows(), strict=True)}


@dataclass(frozen=True)
class Scorer:
    """Scores of the masks of an image, less for segments that lie close to its frame."""

    namer: Namer
    source: Path
    shares: Mapping[str, np.ndarray]
    spec: NameSpec

    def __call__(self, one: ImageMasks, image: np.ndarray, masks: np.ndarray) -> np.ndarray:
        scores = self.namer(image, masks)
        if one.stem not in self.shares:
            return scores
        numbers = np.unique(read_label(self.source / f"{one.stem}.png"))
        share = self.shares[one.stem][numbers]
        return scores * (1 - self.spec.object_weight * (1 - share))[:, None]


def _entries(
    masks: Sequence[ImageMasks],
    images: dict[str, Photo],
    scorer: Scorer,
    ids: dict[str, int],
    sizes: dict[str, tuple[int, int]],
    folder: Path,
) -> Iterator[dict[str, Any]]:
    least = scorer.spec.least_score
    for one in progress(masks, len(masks), "names"):
        path = images[one.stem].path
        image = read_image(path)
        size = sizes[one.stem] = (image.shape[0], image.shape[1])
        stack = one.read(size)
        scores = scorer(one, image, stack)
        labels = named_map(stack, scores, threshold=least, image=path.name)
        write_png(folder / f"{one.stem}.png", labels, durable=False)
        for mask, row in zip(stack, scores, strict=True):
            best = int(row.argmax())
            if row[best] >= least:
                yield {
                    "image_id": ids[one.stem],
                    "file_name": path.name,
                    "category_id": best + 1,
                    "category": scorer.namer.names[best],
                    "segmentation": encode(mask),
                    "score": round(float(row[best]), 6),
                }


def _score(
    masks: Sequence[ImageMasks],
    images: dict[str, Photo],
    tree: Tree,
    vocabulary: Vocabulary,
    folder: Path,
) -> None:
    """On VOC with words of VOC's: log and write the mIoU over background and the 20 classes."""
    labels_of = voc_ids(vocabulary)
    scores = folder / "scores.json"
    if tree.name != "pascal" or labels_of is None:
        scores.unlink(missing_ok=True)
        return
    to_voc = np.zeros(VOID + 1, np.int64)  # a pixel without a name counts as background
    to_voc[: len(labels_of)] = labels_of
    confusion, labelled = Confusion(VOC_CLASSES, VOC_CLASSES), 0
    for one in masks:
        truth = tree.mask_path(images[one.stem])
        if truth is not None and truth.is_file():
            confusion.add(read_label(truth), to_voc[read_label(folder / f"{one.stem}.png")])
            labelled += 1
    if not labelled:
        scores.unlink(missing_ok=True)
        return
    iou = class_iou(confusion.table, np.arange(VOC_CLASSES))
    content: dict[str, Any] = {
        "images": labelled,
        "miou": float(np.nanmean(iou)),
        "iou": iou.tolist(),
    }
    write_plain_json(scores, content)
    log.info("mIoU %.1f on %d labelled images", 100 * content["miou"], labelled)
