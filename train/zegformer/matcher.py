"""Which query answers for which mask: the cheapest one-to-one assignment.

The cost of a pair is 1 * (-probability of the class) + 20 * focal + 1 * dice, on masks reduced to
the prediction's size. It is computed in float32 even if the network is not: in half precision
the sums over pixels overflow.

Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation", 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data.errors import DivergenceError
from models.zegformer.network import Prediction

FOCAL_ALPHA = 0.25
CLASS_WEIGHT, MASK_WEIGHT, DICE_WEIGHT = 1.0, 20.0, 1.0


@dataclass(frozen=True)
class Target:
    """The masks of one image.

    labels : Tensor, (n,) int64, class of each mask. masks : Tensor, (n, H, W) bool.
    valid : Tensor, (H, W) bool, or None; pixels with a label, for criteria that leave out others.
    """

    labels: Tensor
    masks: Tensor
    valid: Tensor | None = None


def class_cost(logits: Tensor, labels: Tensor) -> Tensor:
    """(Q, K + 1) logits, (n,) labels -> (Q, n): negative softmax probability of the class."""
    return -logits.softmax(dim=1)[:, labels]


def focal_cost(logits: Tensor, masks: Tensor) -> Tensor:
    """(Q, P) mask logits, (n, P) masks of 0 and 1 -> (Q, n): mean focal loss (gamma 2)."""
    p = logits.sigmoid()
    inside = FOCAL_ALPHA * (1 - p) ** 2 * F.softplus(-logits)
    outside = (1 - FOCAL_ALPHA) * p**2 * F.softplus(logits)
    return (inside @ masks.T + outside @ (1 - masks).T) / logits.shape[1]


def dice_cost(logits: Tensor, masks: Tensor) -> Tensor:
    """(Q, P) mask logits, (n, P) masks of 0 and 1 -> (Q, n): 1 - dice, smoothed by 1."""
    p = logits.sigmoid()
    overlap = 2 * p @ masks.T + 1
    return 1 - overlap / (p.sum(dim=1)[:, None] + masks.sum(dim=1)[None] + 1)


@torch.no_grad()
def cost(prediction: Prediction, index: int, target: Target) -> Tensor:
    """Cost of every pair of query and target of image `index` in the batch, (Q, n) float32."""
    with torch.autocast(prediction.masks.device.type, enabled=False):
        logits = prediction.masks[index].float()
        masks = F.interpolate(target.masks[:, None].float(), size=logits.shape[1:], mode="nearest")
        pixels, truth = logits.flatten(1), masks.flatten(1)
        return (
            CLASS_WEIGHT * class_cost(prediction.logits[index].float(), target.labels)
            + MASK_WEIGHT * focal_cost(pixels, truth)
            + DICE_WEIGHT * dice_cost(pixels, truth)
        )


def match(prediction: Prediction, targets: Sequence[Target]) -> list[tuple[Tensor, Tensor]]:
    """The cheapest assignment of each image: (query indices, target indices), queries ascending.

    min(Q, n) pairs per image; int64 on the CPU. Raises as `match_layers`.
    """
    return match_layers([prediction], targets)[0]


@torch.no_grad()
def match_layers(
    predictions: Sequence[Prediction], targets: Sequence[Target]
) -> list[list[tuple[Tensor, Tensor]]]:
    """`match` of every decoder layer. All costs leave the device in one transfer.

    Raises
    ------
    DivergenceError
        A cost is not finite.
    """
    costs = [
        cost(prediction, index, target)
        for prediction in predictions
        for index, target in enumerate(targets)
    ]
    values = torch.cat([table.flatten() for table in costs]).cpu()
    tables = values.split([table.numel() for table in costs])
    assigned = [
        _assigned(table.view(of_device.shape), number % len(targets))
        for number, (table, of_device) in enumerate(zip(tables, costs, strict=True))
    ]
    return [assigned[n : n + len(targets)] for n in range(0, len(assigned), len(targets))]


def _assigned(costs: Tensor, index: int) -> tuple[Tensor, Tensor]:
    from scipy.optimize import linear_sum_assignment

    if not np.isfinite(costs.numpy()).all():
        raise DivergenceError(
            f"image {index} of the batch: matching costs are not finite, so the network's "
            "outputs are not; lower the learning rate (SOLVER.BASE_LR) or use bf16 or no "
            "mixed precision (SOLVER.AMP.DTYPE, SOLVER.AMP.ENABLED)"
        )
    queries, chosen = linear_sum_assignment(costs.numpy())
    return torch.from_numpy(queries), torch.from_numpy(chosen)
