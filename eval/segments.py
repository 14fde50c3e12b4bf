"""Scored masks -> a score per class and pixel, or the best class of each pixel.

A pixel's score of a class is the sum over queries of the query's score of the class times the
sigmoid of its mask logit there. Maps are made at the padded size, cut to the picture, brought to
the output size, and only then calibrated.

Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation", 2021.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_CLASSES_AT_ONCE = 16


@dataclass(frozen=True)
class Segments:
    """The masks of one picture and how much of each class they are.

    Attributes
    ----------
    scores : Tensor, (Q, K) float32
    masks : Tensor, (Q, H', W') float32
        Probabilities at the padded size.
    size : (int, int)
        Height and width of the picture without padding.
    """

    scores: Tensor
    masks: Tensor
    size: tuple[int, int]


def enlarged(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Mask logits (Q, h, w) brought bilinearly to `size`."""
    return F.interpolate(masks[None], size=size, mode="bilinear", align_corners=False)[0]


def class_maps(
    segments: Segments,
    size: tuple[int, int],
    *,
    seen: Tensor,
    gamma: float = 0.0,
) -> Iterator[tuple[slice, Tensor]]:
    """Score maps at `size`, some classes at a time: never all K maps at once.

    Parameters
    ----------
    size : (int, int)
        Height and width of the output.
    seen : Tensor, (K,) bool
    gamma : float
        Subtracted from the maps of seen classes, if above 0.

    Yields
    ------
    (slice of the classes, (n, H, W) float32)
    """
    H, W = segments.size
    K = segments.scores.shape[1]
    for start in range(0, K, _CLASSES_AT_ONCE):
        part = slice(start, min(start + _CLASSES_AT_ONCE, K))
        maps = torch.einsum("qc,qhw->chw", segments.scores[:, part], segments.masks)
        maps = enlarged(maps[:, :H, :W], size)
        if gamma > 0:
            maps = maps - gamma * seen[part, None, None].to(maps.dtype)
        yield part, maps


def all_maps(
    segments: Segments, size: tuple[int, int], *, seen: Tensor, gamma: float = 0.0
) -> Tensor:
    """`class_maps` of all classes together, (K, H, W) float32."""
    return torch.cat([maps for _, maps in class_maps(segments, size, seen=seen, gamma=gamma)])


def best_class(
    segments: Segments, size: tuple[int, int], *, seen: Tensor, gamma: float = 0.0
) -> Tensor:
    """The class of highest score at each pixel, (H, W) int64; a tie goes to the first."""
    device = segments.masks.device
    best = torch.full(size, -torch.inf, device=device)
    found = torch.zeros(size, dtype=torch.int64, device=device)
    for part, maps in class_maps(segments, size, seen=seen, gamma=gamma):
        top, index = maps.max(dim=0)
        higher = top > best
        best = torch.where(higher, top, best)
        found = torch.where(higher, index + part.start, found)
    return found
