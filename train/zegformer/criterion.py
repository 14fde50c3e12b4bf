"""The losses of ZegFormer, summed over all decoder layers, each of which is matched on its own.

A layer's loss is 1 * cross entropy (all queries; "no object" at weight 0.1) + 20 * focal + 1 * dice
(matched queries, on masks enlarged to the image), the latter two divided by the number of targets
per process. All of it runs in float32.

As published, pixels without a label (unseen classes, void, padding) count as outside of every mask;
`ignore_unlabelled` leaves them out of the mask losses instead.

Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation", 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn import functional as F

from models.zegformer.network import Prediction
from train.zegformer.matcher import (
    CLASS_WEIGHT,
    DICE_WEIGHT,
    FOCAL_ALPHA,
    MASK_WEIGHT,
    Target,
    match,
)

NO_OBJECT_WEIGHT = 0.1

Pairs = list[tuple[Tensor, Tensor]]


def classification_loss(logits: Tensor, targets: Sequence[Target], pairs: Pairs) -> Tensor:
    """Weighted cross entropy: (B, Q, K + 1) float32; unmatched queries are "no object"."""
    no_object = logits.shape[2] - 1
    wanted = torch.full(logits.shape[:2], no_object, dtype=torch.int64, device=logits.device)
    for row, target, (queries, chosen) in zip(wanted, targets, pairs, strict=True):
        row[queries.to(row.device)] = target.labels[chosen.to(row.device)]
    weights = torch.ones(no_object + 1, device=logits.device)
    weights[no_object] = NO_OBJECT_WEIGHT
    return F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), weights)


def focal_loss(logits: Tensor, masks: Tensor, valid: Tensor, count: float) -> Tensor:
    """Sum over pairs of the mean focal loss over valid pixels, divided by `count`.

    logits, masks, valid : (M, P) float32; masks and valid are 0 or 1.
    """
    p = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    p_right = p * masks + (1 - p) * (1 - masks)
    alpha = FOCAL_ALPHA * masks + (1 - FOCAL_ALPHA) * (1 - masks)
    loss = alpha * (1 - p_right) ** 2 * entropy * valid
    return (loss.sum(dim=1) / valid.sum(dim=1).clamp(min=1)).sum() / count


def dice_loss(logits: Tensor, masks: Tensor, valid: Tensor, count: float) -> Tensor:
    """Sum over pairs of 1 - dice over valid pixels (smoothed by 1), divided by `count`."""
    p = logits.sigmoid() * valid
    overlap = 2 * (p * masks).sum(dim=1) + 1
    return (1 - overlap / (p.sum(dim=1) + (masks * valid).sum(dim=1) + 1)).sum() / count


class Criterion:
    """Losses of a batch; see the module's contract.

    Parameters
    ----------
    ignore_unlabelled : bool
        Leave pixels outside `Target.valid` out of the mask losses. Not as published.
    """

    def __init__(self, *, ignore_unlabelled: bool = False) -> None:
        self.ignore_unlabelled = ignore_unlabelled

    def __call__(
        self, predictions: Sequence[Prediction], targets: list[Target]
    ) -> dict[str, Tensor]:
        """Terms by name: loss_ce, loss_mask, loss_dice of the last layer, the same with `_0`,
        `_1`, ... of the layers before it, all unweighted, and the weighted `total`.

        Parameters
        ----------
        predictions : one per decoder layer, the last one last
        targets : one per image

        Raises
        ------
        DivergenceError
        """
        count = _targets_per_process(targets, predictions[-1].masks.device)
        total = torch.zeros((), device=predictions[-1].masks.device)
        terms: dict[str, Tensor] = {}
        last = len(predictions) - 1
        with torch.autocast(total.device.type, enabled=False):
            for layer, prediction in enumerate(predictions):
                suffix = "" if layer == last else f"_{layer}"
                ce, mask, dice = self.layer(prediction, targets, count)
                terms |= {
                    f"loss_ce{suffix}": ce,
                    f"loss_mask{suffix}": mask,
                    f"loss_dice{suffix}": dice,
                }
                total = total + CLASS_WEIGHT * ce + MASK_WEIGHT * mask + DICE_WEIGHT * dice
        return terms | {"total": total}

    def layer(
        self, prediction: Prediction, targets: list[Target], count: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cross entropy, focal and dice loss of one decoder layer, unweighted."""
        pairs = match(prediction, targets)
        ce = classification_loss(prediction.logits.float(), targets, pairs)
        logits, masks, valid = [], [], []
        for own, target, (queries, chosen) in zip(prediction.masks, targets, pairs, strict=True):
            if not len(queries):
                continue
            matched = own[queries.to(own.device)].float()[None]
            size = target.masks.shape[1:]
            large = F.interpolate(matched, size=size, mode="bilinear", align_corners=False)[0]
            truth = target.masks[chosen.to(own.device)].float()
            logits.append(large.flatten(1))
            masks.append(truth.flatten(1))
            valid.append(self._valid(target, truth).flatten(1))
        if not logits:
            nothing = 0 * prediction.masks.float().sum()
            return ce, nothing, nothing
        together = torch.cat(logits), torch.cat(masks), torch.cat(valid)
        return ce, focal_loss(*together, count), dice_loss(*together, count)

    def _valid(self, target: Target, truth: Tensor) -> Tensor:
        if self.ignore_unlabelled and target.valid is not None:
            return target.valid.to(truth).expand_as(truth)
        return torch.ones_like(truth)


def _targets_per_process(targets: Sequence[Target], device: torch.device) -> float:
    """Mean number of targets over all processes, at least 1."""
    own = torch.tensor(float(sum(len(target.labels) for target in targets)), device=device)
    size = 1
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(own)
        size = dist.get_world_size()
    return max(float(own) / size, 1.0)
