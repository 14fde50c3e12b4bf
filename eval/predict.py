"""Predict named label maps with either system, and write them with overlays and scores.

A prediction assigns every pixel a class, or `IGNORE` where the best score is below a threshold.
Scores are those of the system, and comparable within one image only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from data.coco_results import encode, write_results
from data.errors import SettingError
from data.files import write_plain_json
from data.pictures import IGNORE as _NARROW_IGNORE
from data.pictures import write_png
from data.text.vocabulary import Vocabulary
from data.zegformer.transforms import test_image
from eigen.pairs import Eigenpairs
from eval.figures import OUTLINES, RGB, label_colour, label_overlay

if TYPE_CHECKING:
    from eval.sazs.segmenter import SazsSegmenter
    from eval.zegformer.per_pixel import PixelSegmenter
    from eval.zegformer.segmenter import Segmenter

IGNORE = 65535
"""Label of pixels without a class; label maps of up to 255 classes are written with 255."""


@dataclass(frozen=True)
class Named:
    """The prediction for one image.

    labels : (H, W) uint16, class ids of the vocabulary or `IGNORE`
    scores : mean score of each class present over its pixels
    """

    labels: np.ndarray
    scores: dict[int, float]


class Predict(Protocol):
    """Predict an image, (H, W, 3) uint8 RGB; eigenpairs, if given, refine the masks."""

    def __call__(self, image: np.ndarray, eigenpairs: Eigenpairs | None = None) -> Named: ...


def with_zegformer(
    segmenter: Segmenter | PixelSegmenter, *, short: int, longest: int, threshold: float
) -> Predict:
    """Predict with ZegFormer.

    Parameters
    ----------
    short, longest : int
        Shorter side of the network's input in pixels, and the largest longer side.
    threshold : float
        Pixels with a lower score get `IGNORE`.
    """

    from eval.zegformer.per_pixel import PixelSegmenter

    def predict(image: np.ndarray, eigenpairs: Eigenpairs | None = None) -> Named:
        size = (image.shape[0], image.shape[1])
        view = test_image(image, short=short, longest=longest)
        pixels = torch.from_numpy(np.ascontiguousarray(view.transpose(2, 0, 1)))
        if eigenpairs is None:
            best, labels = segmenter.named(pixels, size)
        elif isinstance(segmenter, PixelSegmenter):
            raise SettingError("eigenpairs: the per-pixel baseline has no masks to refine")
        else:
            from eigen.store.maps import EigenMaps

            maps = EigenMaps.of_pairs(eigenpairs, (view.shape[0], view.shape[1]))
            best, labels = segmenter.named(pixels, size, maps)
        return _named(labels, best, threshold)

    return predict


def with_sazs(segmenter: SazsSegmenter, texts: Tensor, *, threshold: float) -> Predict:
    """Predict with SAZS, as `with_zegformer`; pixels of "others" get `IGNORE`.

    Parameters
    ----------
    texts : Tensor, shape (K + 1, D)
        Text embeddings of "others" and of K classes.
    """

    def predict(image: np.ndarray, eigenpairs: Eigenpairs | None = None) -> Named:
        size = (image.shape[0], image.shape[1])
        margins = segmenter.margins(segmenter.features(image), texts, size)
        masks = margins > 0
        if eigenpairs is not None:
            from eigen.store.maps import EigenMaps
            from eval.sazs.fusion import AUTO, method

            maps = replace(EigenMaps.of_pairs(eigenpairs, size), image=image)
            masks = method(AUTO).masks(margins, maps)
        ranked = torch.from_numpy(np.where(masks, margins, -np.inf))
        best, labels = ranked.max(dim=0)
        # Fused masks may include pixels of negative margin, but none of minus infinity.
        return _named(labels, best, max(threshold, float(np.finfo(np.float32).min)))

    return predict


def _named(labels: Tensor, best: Tensor, threshold: float) -> Named:
    named = labels.cpu().numpy().astype(np.uint16)
    scores = best.cpu().numpy()
    named[scores < threshold] = IGNORE
    classes = [int(c) for c in np.unique(named) if c != IGNORE]
    return Named(named, {c: float(scores[named == c].mean()) for c in classes})


def class_colour(label: int, classes: int) -> RGB:
    """Colour of a class id, the same in every image of a vocabulary of `classes` names.

    A few names get colours that colour-blind readers can distinguish; more, those of PASCAL VOC.
    """
    # Id 0 of VOC's colours is black.
    return OUTLINES[label] if classes <= len(OUTLINES) else label_colour(label + 1)


def overlay(image: np.ndarray, named: Named, vocabulary: Vocabulary) -> np.ndarray:
    """The image with its classes coloured and named, (H, W, 3) uint8."""
    names = {c: vocabulary.synonyms(c)[0] for c in named.scores}
    colours = [class_colour(c, len(vocabulary)) for c in range(len(vocabulary))]
    labels = named.labels.astype(np.int64)
    return label_overlay(image, labels, names, ignore=IGNORE, colours=colours)


def write(folder: Path, stem: str, image: np.ndarray, named: Named, vocabulary: Vocabulary) -> None:
    """Write `{stem}.png` (overlay), `{stem}_labels.png` (class ids) and `{stem}.json` (scores)."""
    write_png(folder / f"{stem}.png", overlay(image, named, vocabulary))
    narrow = named.labels if len(vocabulary) > 255 else _narrow(named.labels)
    write_png(folder / f"{stem}_labels.png", narrow)
    content = {
        "size": list(named.labels.shape),
        "unnamed": IGNORE if len(vocabulary) > 255 else _NARROW_IGNORE,
        "classes": [
            {
                "id": c,
                "name": vocabulary.names[c],
                "share": float((named.labels == c).mean()),
                "score": score,
            }
            for c, score in named.scores.items()
        ],
    }
    write_plain_json(folder / f"{stem}.json", content)


def write_coco(path: Path, file_name: str, named: Named, vocabulary: Vocabulary) -> None:
    """Write a mask per class present, in COCO's results format, for image 1, `file_name`.

    `category_id` is the class id plus one, `category` its name.
    """
    entries = []
    for c, score in named.scores.items():
        mask = named.labels == c
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        left, top = int(columns[0]), int(rows[0])
        entries.append(
            {
                "image_id": 1,
                "file_name": file_name,
                "category_id": c + 1,
                "category": vocabulary.names[c],
                "bbox": [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
                "segmentation": encode(mask),
                "score": score,
            }
        )
    write_results(path, entries)


def _narrow(labels: np.ndarray) -> np.ndarray:
    return np.where(labels == IGNORE, _NARROW_IGNORE, labels).astype(np.uint8)
