"""Images to label maps with names, overlays and scores, with either system.

A prediction names every pixel with a class, or leaves it unnamed (`IGNORE`) where the best score is
below a threshold. Scores are those of the system, and comparable within one image only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from data.errors import SettingError
from data.files import write_plain_json
from data.pictures import IGNORE as _NARROW_IGNORE
from data.pictures import write_png
from data.text.vocabulary import Vocabulary
from data.zegformer.transforms import test_image
from eigen.pairs import Eigenpairs
from eigen.store.maps import EigenMaps
from eval.figures import label_overlay
from eval.sazs.fusion import method
from eval.sazs.segmenter import SazsSegmenter
from eval.zegformer.per_pixel import PixelSegmenter
from eval.zegformer.segmenter import Segmenter

IGNORE = 65535
"""Label of pixels that are not named; label maps with up to 255 classes are written with 255."""


@dataclass(frozen=True)
class Named:
    """The prediction for one photo.

    labels : (H, W) uint16, class ids of the vocabulary or `IGNORE`
    scores : mean score of each class present over its pixels
    """

    labels: np.ndarray
    scores: dict[int, float]


class Predict(Protocol):
    """From an image (H, W, 3) uint8, and its eigenpairs if they are to take part, to `Named`."""

    def __call__(self, image: np.ndarray, eigenpairs: Eigenpairs | None = None) -> Named: ...


def with_zegformer(
    segmenter: Segmenter | PixelSegmenter, *, short: int, longest: int, threshold: float
) -> Predict:
    """Photos (H, W, 3) uint8 -> `Named`; `short`, `longest`: sides of the network's input."""

    def predict(image: np.ndarray, eigenpairs: Eigenpairs | None = None) -> Named:
        size = (image.shape[0], image.shape[1])
        view = test_image(image, short=short, longest=longest)
        pixels = torch.from_numpy(np.ascontiguousarray(view.transpose(2, 0, 1)))
        if eigenpairs is None:
            best, labels = segmenter.named(pixels, size)
        elif isinstance(segmenter, PixelSegmenter):
            raise SettingError("eigenpairs: the per-pixel baseline has no masks to refine")
        else:
            maps = EigenMaps.of_pairs(eigenpairs, (view.shape[0], view.shape[1]))
            best, labels = segmenter.named(pixels, size, maps)
        return _named(labels, best, threshold)

    return predict


def with_sazs(segmenter: SazsSegmenter, texts: Tensor, *, threshold: float) -> Predict:
    """As `with_zegformer`; texts (K + 1, D), row 0 "others". Its pixels stay unnamed."""

    fuse = method("projection")

    def predict(image: np.ndarray, eigenpairs: Eigenpairs | None = None) -> Named:
        size = (image.shape[0], image.shape[1])
        margins = segmenter.margins(segmenter.features(image), texts, size)
        masks = margins > 0
        if eigenpairs is not None:
            maps = EigenMaps.of_pairs(eigenpairs, size)
            masks = np.stack([fuse(margin, maps) for margin in margins])
        ranked = torch.from_numpy(np.where(masks, margins, -np.inf))
        best, labels = ranked.max(dim=0)
        # A fused mask may take in pixels of negative margin; no mask has those of minus infinity.
        return _named(labels, best, max(threshold, float(np.finfo(np.float32).min)))

    return predict


def _named(labels: Tensor, best: Tensor, threshold: float) -> Named:
    found = labels.cpu().numpy().astype(np.uint16)
    scores = best.cpu().numpy()
    found[scores < threshold] = IGNORE
    classes = [int(c) for c in np.unique(found) if c != IGNORE]
    return Named(found, {c: float(scores[found == c].mean()) for c in classes})


def overlay(image: np.ndarray, found: Named, vocabulary: Vocabulary) -> np.ndarray:
    """The photo with coloured, named classes."""
    # Id 0 would be black: colours start at 1, and are the same in every photo.
    names = {c + 1: vocabulary.synonyms(c)[0] for c in found.scores}
    shifted = np.where(found.labels == IGNORE, 0, found.labels.astype(np.int64) + 1)
    return label_overlay(image, shifted, names, background=0, ignore=IGNORE)


def write(folder: Path, stem: str, image: np.ndarray, found: Named, vocabulary: Vocabulary) -> None:
    """`{stem}.png` the overlay, `{stem}_labels.png` class ids, `{stem}.json` names and scores."""
    write_png(folder / f"{stem}.png", overlay(image, found, vocabulary))
    narrow = found.labels if len(vocabulary) > 255 else _narrow(found.labels)
    write_png(folder / f"{stem}_labels.png", narrow)
    named = found.labels.size
    content = {
        "size": list(found.labels.shape),
        "unnamed": IGNORE if len(vocabulary) > 255 else _NARROW_IGNORE,
        "classes": [
            {
                "id": c,
                "name": vocabulary.names[c],
                "share": float((found.labels == c).sum() / named),
                "score": score,
            }
            for c, score in found.scores.items()
        ],
    }
    write_plain_json(folder / f"{stem}.json", content)


def _narrow(labels: np.ndarray) -> np.ndarray:
    return np.where(labels == IGNORE, _NARROW_IGNORE, labels).astype(np.uint8)
