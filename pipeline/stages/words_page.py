"""Stage `words`: one page with scikit-image's photos segmented by words for what they show."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data import weight_files
from data.pictures import read_image
from data.progress import progress
from data.synthetic.samples import WORDS
from data.weight_files import Checkpoint
from eigen.device import torch_device
from eigen.store.maps import EigenFolder
from eval import report
from eval.figures import label_overlay
from eval.sazs.fusion import method
from eval.sazs.segmenter import SazsSegmenter, label_map
from eval.sazs.words import PACKAGED, texts_of
from models.sazs.load import load

FUSION = "diffusion"
_COLOURS = np.array([0, 6, 5])  # class ids whose colours, teal and purple, these photos lack
_COLUMNS = ("image", "network", "network and eigenvectors")
_CAPTION = (
    "The small bundled network (models/sazs/words.md) is given each image and words for what it"
    " shows; pixels that match no word are left as they are. Diffusion on a pixel graph weighted by"
    " colours and eigenvectors then refines the boundary of each mask and keeps its area."
    " Percentages are shares of the image, as predicted by the network."
)

log = logging.getLogger(__name__)


def run(photos: Mapping[str, Path], folder: Path, output: Path, *, device: str = "auto") -> None:
    """Write the page.

    Parameters
    ----------
    photos : mapping from id to path
        The photos of `data.synthetic.samples.WORDS` are among them.
    folder : path
        Shards of their eigenvectors.

    Raises
    ------
    WeightsError
        The package with the weights of the backbone is not installed.
    """
    checkpoint = weight_files.read(PACKAGED)
    model, recipe = load(checkpoint)
    segmenter = SazsSegmenter(model.to(torch_device(device)), side=recipe["input_side"] or None)
    eigen = EigenFolder(folder)
    ids = progress(list(WORDS), len(WORDS), "words")
    rows = (_row(id, photos[id], checkpoint, segmenter, eigen) for id in ids)
    section = report.pictures("Images", _COLUMNS, rows, caption=_CAPTION)
    report.write(output, [section], title="Photos segmented by words")
    log.info("page -> %s", output)


def _row(
    id: str, path: Path, checkpoint: Checkpoint, segmenter: SazsSegmenter, eigen: EigenFolder
) -> report.PictureRow:
    image, words = read_image(path), WORDS[id]
    size = (image.shape[0], image.shape[1])
    margins = segmenter.margins(segmenter.features(image), texts_of(words, checkpoint), size)
    maps, fuse = replace(eigen.maps(id, size), image=image), method(FUSION)
    fused = np.stack([fuse(margin, maps) for margin in margins])
    labels = [label_map(margins, masks) for masks in (margins > 0, fused)]
    names = {int(colour): word for colour, word in zip(_COLOURS[1:], words, strict=False)}
    drawn = [label_overlay(image, _COLOURS[found], names, background=0) for found in labels]
    return report.PictureRow(id, [image, *drawn], "; ".join(_shares(words, labels[0])))


def _shares(words: Sequence[str], labels: np.ndarray) -> Iterator[str]:
    """Each word with the share of the image that it was given."""
    for number, word in enumerate(words, start=1):
        share = 100 * float((labels == number).mean())
        yield f"{word} {share:.1f} %" if share >= 0.05 else f"{word} not found"
