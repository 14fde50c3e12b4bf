"""Eigenvectors inside ZegFormer: cleaner query masks, extra proposals, smoother score maps.

Beyond the paper. Nothing here sees a label: an eigen segment is chosen by its agreement with a
query's own mask, or scored by CLIP. Without eigenvectors nothing here runs, and results are those
of the published program bit by bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data.errors import SettingError
from eigen.store.maps import EigenMaps

WAYS = ("refine", "propose", "smooth")


@dataclass(frozen=True)
class EigenUse:
    """How eigenvectors take part.

    Attributes
    ----------
    ways : some of `WAYS`
    agreement : IoU with a query's mask from which an eigen segment refines it
    weight : share of the eigen segment in a refined mask, of the smooth map in a smoothed one
    smallest : proposals cover at least this share of the image
    gamma : subtracted from the scores of seen classes where proposals are added, which raise all
        scores; None: what the scoring says. `calibration.matched` chooses it

    Raises
    ------
    SettingError
    """

    ways: tuple[str, ...] = ("refine",)
    agreement: float = 0.6
    weight: float = 0.5
    smallest: float = 0.01
    gamma: float | None = None

    def __post_init__(self) -> None:
        unknown = set(self.ways) - set(WAYS)
        if unknown:
            raise SettingError(f"eigenvectors: {sorted(unknown)} unknown; choose {', '.join(WAYS)}")


def eigen_segments(maps: EigenMaps, *, smallest: float = 0.01) -> np.ndarray:
    """Candidate segments, (S, H, W) bool: the eigen masks, their complements, and their parts.

    A part is a connected component of a mask or complement that has several; all candidates cover
    at least `smallest` of the image. May be empty.
    """
    found = []
    for mask in (*maps.masks, *~maps.masks):
        count, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
        found.append(mask)
        if count > 2:
            areas = np.bincount(parts.ravel(), minlength=count)
            large = (c for c in range(1, count) if areas[c] >= smallest * mask.size)
            found += [parts == c for c in large]
    kept = [mask for mask in found if mask.mean() >= smallest]
    return np.stack(kept) if kept else np.zeros((0, *maps.masks.shape[1:]), bool)


def refined(mask_logits: Tensor, segments: Tensor, use: EigenUse) -> Tensor:
    """Blend each query mask with the eigen segment it agrees with most.

    Parameters
    ----------
    mask_logits : Tensor, (Q, H', W')
        At the padded size.
    segments : Tensor, (S, H, W) bool
        At the image's size, on the same device.

    Returns
    -------
    Logits (Q, H', W'); rows without a segment of sufficient agreement are as they were.
    """
    if not len(segments):
        return mask_logits
    H, W = segments.shape[1:]
    inside = mask_logits[:, :H, :W]
    own = (inside.sigmoid() > 0.5).flatten(1).float()
    other = segments.flatten(1).float()
    overlap = own @ other.T
    union = own.sum(1)[:, None] + other.sum(1)[None] - overlap
    agreement, best = (overlap / union.clamp(min=1)).max(dim=1)
    chosen = agreement >= use.agreement
    blend = (1 - use.weight) * inside[chosen].sigmoid() + use.weight * segments[
        best[chosen]
    ].float()
    result = mask_logits.clone()
    result[chosen, :H, :W] = torch.logit(blend, eps=1e-6)
    return result


def as_masks(segments: Tensor, size: tuple[int, int]) -> Tensor:
    """Segments (S, H, W) bool as mask logits at the padded `size`, for CLIP to name."""
    H, W = segments.shape[1:]
    logits = torch.where(segments, 8.0, -8.0)
    return F.pad(logits, (0, size[1] - W, 0, size[0] - H), value=-8.0)


def named_by_queries(scores: Tensor, masks: Tensor, segments: Tensor) -> Tensor:
    """Class scores (S, K) of segments: those of the queries, each times its IoU with the segment.

    Parameters
    ----------
    scores : Tensor, (Q, K)
    masks : Tensor, (Q, H', W')
        The queries' probabilities at the padded size.
    segments : Tensor, (S, H, W) bool
    """
    H, W = segments.shape[1:]
    own, other = masks[:, :H, :W].flatten(1), segments.flatten(1).to(masks.dtype)
    overlap = other @ own.T
    union = other.sum(1)[:, None] + own.sum(1)[None] - overlap
    return overlap / union.clamp(min=1) @ scores


def smoothed(maps: Tensor, planes: Tensor, weight: float) -> Tensor:
    """Score maps drawn towards what the eigenvectors can express.

    Parameters
    ----------
    maps : Tensor, (K, H, W)
    planes : Tensor, (n, H, W)
        Eigenvectors at the maps' size; the constant is added.
    weight : float in [0, 1]
        0 leaves the maps, 1 is their orthogonal projection on the eigenvectors.
    """
    n, H, W = planes.shape
    basis = torch.cat([torch.ones(1, H * W, device=maps.device), planes.reshape(n, -1).float()])
    q, _ = torch.linalg.qr(basis.T)
    flat = maps.flatten(1)
    return torch.lerp(flat, flat @ q @ q.T, weight).view_as(maps)
