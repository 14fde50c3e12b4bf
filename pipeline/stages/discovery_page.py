"""Stage `discovery`: objects, named segments and joint graphs of some images, on one page."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.coco_results import decode, read_results
from data.pictures import read_image, read_label
from data.progress import progress
from data.synthetic.records import SAMPLES
from data.synthetic.samples import WORDS, frames
from eigen.extractors.contract import Extractor
from eigen.joint import joint_eigenvectors, joint_segments
from eval import report
from eval.objects.names import ImagenetNamer
from eval.objects.pictures import joint_section, objects_rgb, segments_rgb
from eval.objects.scores import Found
from models.imagenet import ImagenetClassifier
from pipeline.chain import extractor_for
from pipeline.config import Config

LEAST_PROBABILITY = 0.2
"""Names with a lower probability are not shown: most segments belong to none of its classes."""
JOINT_IMAGES = 6
JOINT_PAIRS = 5
JOINT_PATCHES = 800
"""Most patches of each image of a joint graph, whose size is their sum."""
_COLUMNS = ("image", "objects", "segments")
_CAPTION = (
    "No training was involved. Objects have an outline, a box and a confidence from 0 to 1. The"
    " largest eigengap determines the number of segments. An ImageNet classifier names them with"
    " one of its 1000 classes if the probability is at least {least}."
)

log = logging.getLogger(__name__)


def run(
    dataset: str,
    images: Mapping[str, Path],
    objects: Path,
    segments: Path,
    output: Path,
    config: Config,
) -> None:
    """Write the page.

    Parameters
    ----------
    dataset : str
    images : mapping from id to path
        Of the data set. Up to `report_photos` of them that have segments are shown, evenly spaced.
    objects : path
        `objects.json` of the data set.
    segments : path
        Folder of its label maps.

    Raises
    ------
    WeightsError
        The package with the weights of the classifier is not installed.
    DatasetError, ImageError
        A file that cannot be read, or not of its image's size.
    """
    objects_of = _read_objects(objects)
    namer = ImagenetNamer(ImagenetClassifier(config.names.classifier, config.machine.device))
    done = [id for id in images if (segments / f"{id}.png").is_file()]
    chosen = _evenly(done, config.report_photos)
    rows = (
        _row(Subject(id, images[id], segments / f"{id}.png"), objects_of, namer)
        for id in progress(chosen, len(chosen), "discovery")
    )
    caption = _CAPTION.format(least=LEAST_PROBABILITY)
    page = [report.pictures("Objects and named segments", _COLUMNS, rows, caption=caption)]
    extractor = extractor_for(config)
    page += [
        _joint(title, strip, extractor, config)
        for title, strip in _strips(dataset, images, chosen).items()
    ]
    report.write(output, page, title="Objects, segments and names")
    log.info("page -> %s", output)


@dataclass(frozen=True)
class Subject:
    """An image, and the label map of its segments."""

    id: str
    path: Path
    segments: Path


def _read_objects(path: Path) -> dict[str, list[dict]]:
    by_stem = defaultdict(list)
    for entry in read_results(path):
        by_stem[Path(str(entry["file_name"])).stem].append(entry)
    return by_stem


def _row(
    subject: Subject, entries: Mapping[str, Sequence[dict]], namer: ImagenetNamer
) -> report.PictureRow:
    image, labels = read_image(subject.path), read_label(subject.segments)
    size = (image.shape[0], image.shape[1])
    objects = [
        Found(entry["bbox"], decode(entry["segmentation"], size, subject.id), entry["score"])
        for entry in entries.get(subject.path.stem, ())
    ]
    numbers = np.unique(labels)
    scores = namer(image, np.stack([labels == number for number in numbers]))
    names = {
        int(number): f"{namer.names[row.argmax()]} {row.max():.2f}"
        for number, row in zip(numbers, scores, strict=True)
        if row.max() >= LEAST_PROBABILITY
    }
    drawn = [image, objects_rgb(image, objects), segments_rgb(image, labels, names)]
    count = f"{len(objects)} object{'s' * (len(objects) != 1)}, {len(numbers)} segments"
    return report.PictureRow(subject.id, drawn, "; ".join([count, *names.values()]))


def _strips(
    dataset: str, images: Mapping[str, Path], chosen: Sequence[str]
) -> dict[str, Mapping[str, Path]]:
    """Paths by id of each joint graph, by its title; none of a single image."""
    samples = dataset == SAMPLES.name
    ids = list(WORDS) if samples else _evenly(chosen, JOINT_IMAGES)
    strips: dict[str, Mapping[str, Path]] = {
        "One graph over several images": {id: images[id] for id in ids if id in images}
    }
    if samples:
        strips["One graph over two views of a scene"] = frames()
    return {title: strip for title, strip in strips.items() if len(strip) > 1}


def _joint(
    title: str, strip: Mapping[str, Path], extractor: Extractor, config: Config
) -> report.Section:
    pixels = [read_image(path) for path in strip.values()]
    joint = joint_eigenvectors(
        pixels,
        extractor,
        JOINT_PAIRS,
        tolerance=config.solve.tolerance,
        seed=config.solve.seed,
        max_patches=min(JOINT_PATCHES, config.max_patches),
    )
    parts = joint_segments(joint, seed=config.solve.seed)
    log.info("%s: %d images, %d segments", title, len(pixels), parts[0].k)
    return joint_section(pixels, joint, parts, labels=list(strip), title=title)


def _evenly(ids: Sequence[str], most: int) -> list[str]:
    if len(ids) <= most:
        return list(ids)
    return [ids[i] for i in np.linspace(0, len(ids) - 1, most).round().astype(int)]
