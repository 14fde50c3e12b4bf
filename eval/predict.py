"""Own photos -> label maps with names, overlays and scores, with any of the two systems.

A prediction names every pixel with a class, or leaves it unnamed (`IGNORE`) where the best score is
below a threshold. Scores are those of the system and comparable within a photo only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.files import atomic_path
from data.pictures import write_png
from data.text.vocabulary import Vocabulary
from data.zegformer.transforms import test_image
from eval.figures import label_overlay
from eval.sazs.segmenter import SazsSegmenter
from eval.zegformer.per_pixel import PixelSegmenter
from eval.zegformer.segmenter import Segmenter

IGNORE = 65535


@dataclass(frozen=True)
class Named:
    """The prediction for one photo.

    labels : (H, W) uint16, class ids of the vocabulary or `IGNORE`
    scores : mean score of each class present over its pixels
    """

    labels: np.ndarray
    scores: dict[int, float]


Predict = Callable[[np.ndarray], Named]


def with_zegformer(
    segmenter: Segmenter | PixelSegmenter, *, short: int, longest: int, threshold: float
) -> Predict:
    """Photos (H, W, 3) uint8 -> `Named`; `short`, `longest`: sides of the network's input."""

    def predict(image: np.ndarray) -> Named:
        size = (image.shape[0], image.shape[1])
        view = test_image(image, short=short, longest=longest)
        pixels = torch.from_numpy(np.ascontiguousarray(view.transpose(2, 0, 1)))
        best, labels = segmenter.named(pixels, size)
        return _named(labels, best, threshold)

    return predict


def with_sazs(segmenter: SazsSegmenter, texts: Tensor, *, threshold: float) -> Predict:
    """As `with_zegformer`; texts (K + 1, D), row 0 "others". Its pixels stay unnamed."""

    def predict(image: np.ndarray) -> Named:
        size = (image.shape[0], image.shape[1])
        margins = segmenter.margins(segmenter.features(image), texts, size)
        best = torch.from_numpy(margins.max(axis=0))
        return _named(torch.from_numpy(margins.argmax(axis=0)), best, max(threshold, 0.0))

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
        "unnamed": 65535 if len(vocabulary) > 255 else 255,
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
    with atomic_path(folder / f"{stem}.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False))


def _narrow(labels: np.ndarray) -> np.ndarray:
    return np.where(labels == IGNORE, 255, labels).astype(np.uint8)
