"""Scored masks -> a score per class and pixel, or the best class of each pixel.

A pixel's score of a class is the sum over queries of the query's score of the class times the
sigmoid of its mask logit there. Maps are made at the padded size, cut to the image, brought to
the output size, and only then calibrated.

Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation", 2021.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

# Scores and masks of a band: few stay in the cache of a CPU, many keep a GPU busy.
_ON_A_CPU, _ON_A_GPU = 1 << 20, 1 << 26


@dataclass(frozen=True)
class Segments:
    """The masks of one image and how much of each class they are.

    Attributes
    ----------
    scores : Tensor, (Q, K) float32
    masks : Tensor, (Q, H', W') float32
        Logits at the padded size.
    size : (int, int)
        Height and width of the image without padding.
    gamma : float or None
        What seen classes lose at each pixel; None: what the segmenter's scoring says.
    """

    scores: Tensor
    masks: Tensor
    size: tuple[int, int]
    gamma: float | None = None


def enlarged(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (Q, h, w) brought bilinearly to `size`."""
    return F.interpolate(masks[None], size=size, mode="bilinear", align_corners=False)[0]


def score_bands(
    segments: Segments, size: tuple[int, int], *, seen: Tensor, gamma: float = 0.0
) -> Iterator[tuple[slice, Tensor]]:
    """Score maps at `size`, some rows at a time: never all K maps at once.

    Enlarging is linear and so commutes with the sum over queries: it is done to the masks, which
    are fewer than the classes of a large vocabulary. Their probabilities too are made a few rows
    at a time.

    Parameters
    ----------
    size : (int, int)
        Height and width of the output.
    seen : Tensor, (K,) bool
    gamma : float
        Subtracted from the maps of seen classes, if above 0.

    Yields
    ------
    (slice of the rows, (K, n, W) float32)
    """
    height, width = size
    K = segments.scores.shape[1]
    masks = segments.masks[:, : segments.size[0], : segments.size[1]]
    weights = segments.scores.T.contiguous()
    at_once = _ON_A_CPU if masks.device.type == "cpu" else _ON_A_GPU
    rows = max(1, at_once // (sum(segments.scores.shape) * width))
    for start in range(0, height, rows):
        band = slice(start, min(start + rows, height))
        inside = _enlarged_sigmoid(masks, size, band)
        maps = (weights @ inside.flatten(1)).view(K, -1, width)
        if gamma > 0:
            maps -= gamma * seen[:, None, None].to(maps.dtype)
        yield band, maps


def _enlarged_sigmoid(logits: Tensor, size: tuple[int, int], band: slice) -> Tensor:
    """Some rows of `enlarged(logits.sigmoid(), size)`."""
    height = logits.shape[1]
    rows = torch.arange(band.start, band.stop, dtype=torch.float64)
    place = ((rows + 0.5) * (height / size[0]) - 0.5).clamp(0, height - 1)
    above = place.floor().long()
    below = (above + 1).clamp(max=height - 1)
    first, last = int(above[0]), int(below[-1])
    inside = logits[:, first : last + 1].sigmoid()
    share = (place - above)[:, None].to(inside)
    between = torch.lerp(inside[:, above - first], inside[:, below - first], share)
    return enlarged(between, (len(rows), size[1]))
