"""The losses of ZegFormer, summed over all decoder layers, each of which is matched on its own.

A layer's loss is 1 * cross entropy (all queries; "no object" at weight 0.1) + 20 * focal + 1 * dice
(matched queries, on masks enlarged to the image), the latter two divided by the number of targets
per process. All of it runs in float32.

As published, pixels without a label (unseen classes, void, padding) count as outside of every mask;
`ignore_unlabelled` leaves them out of the mask losses instead. A network that classifies pixels may
learn from each of them (`pixel_loss`), which the published one does not.

Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation", 2021.
"""

from __future__ import annotations

import itertools
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
    match_layers,
)

NO_OBJECT_WEIGHT = 0.1

Pairs = Sequence[tuple[Tensor, Tensor]]


def classification_loss(logits: Tensor, labels: Tensor, queries: Tensor, chosen: Tensor) -> Tensor:
    """Weighted cross entropy: (B, Q, K + 1) float32; unmatched queries are "no object".

    labels : (T,) of all targets of the batch. queries, chosen : (M,) as of `joined_indices`.
    """
    no_object = logits.shape[2] - 1
    wanted = torch.full(
        (logits.shape[0] * logits.shape[1],), no_object, dtype=torch.int64, device=logits.device
    )
    wanted[queries] = labels[chosen]
    weights = torch.ones(no_object + 1, device=logits.device)
    weights[no_object] = NO_OBJECT_WEIGHT
    return F.cross_entropy(logits.flatten(0, 1), wanted, weights)


def focal_loss(logits: Tensor, masks: Tensor, valid: Tensor, count: float | Tensor) -> Tensor:
    """Sum over pairs of the mean focal loss over valid pixels, divided by `count`.

    logits, masks, valid : (M, P) float32; masks and valid are 0 or 1.
    """
    p = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    p_right = p * masks + (1 - p) * (1 - masks)
    alpha = FOCAL_ALPHA * masks + (1 - FOCAL_ALPHA) * (1 - masks)
    loss = alpha * (1 - p_right) ** 2 * entropy * valid
    return (loss.sum(dim=1) / valid.sum(dim=1).clamp(min=1)).sum() / count


def dice_loss(logits: Tensor, masks: Tensor, valid: Tensor, count: float | Tensor) -> Tensor:
    """Sum over pairs of 1 - dice over valid pixels (smoothed by 1), divided by `count`."""
    p = logits.sigmoid() * valid
    overlap = 2 * (p * masks).sum(dim=1) + 1
    return (1 - overlap / (p.sum(dim=1) + (masks * valid).sum(dim=1) + 1)).sum() / count


def pixel_loss(logits: Tensor, targets: Sequence[Target]) -> Tensor:
    """Mean cross entropy over the segments of a batch, of each the mean over its pixels.

    Large segments count as much as small ones. logits : (B, K, h, w) float32.
    """
    losses = []
    for own, target in zip(logits, targets, strict=True):
        masks = F.interpolate(target.masks[:, None].float(), size=own.shape[1:], mode="nearest")[
            :, 0
        ]
        sizes = masks.sum(dim=(1, 2))
        entropy = -own.log_softmax(dim=0)[target.labels]
        means = (entropy * masks).sum(dim=(1, 2)) / sizes.clamp(min=1)
        losses.append(means[sizes > 0])
    joined = torch.cat(losses)
    return joined.sum() / max(len(joined), 1)


class Criterion:
    """Losses of a batch; see the module's contract.

    Parameters
    ----------
    ignore_unlabelled : bool
        Leave pixels outside `Target.valid` out of the mask losses. Not as published.
    pixel_weight : float
        Of `pixel_loss`, for predictions that have `pixels`. Published: 0.
    """

    def __init__(self, *, ignore_unlabelled: bool = False, pixel_weight: float = 0.0) -> None:
        self.ignore_unlabelled = ignore_unlabelled
        self.pixel_weight = pixel_weight

    def __call__(
        self, predictions: Sequence[Prediction], targets: Sequence[Target]
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
        device = predictions[-1].masks.device
        count = _targets_per_process(targets, device)
        indices = joined_indices(
            match_layers(predictions, targets), targets, predictions[-1].masks.shape[1], device
        )
        total = torch.zeros((), device=device)
        terms: dict[str, Tensor] = {}
        last = len(predictions) - 1
        with torch.autocast(device.type, enabled=False):
            for layer, prediction in enumerate(predictions):
                suffix = "" if layer == last else f"_{layer}"
                ce, mask, dice = self._layer(prediction, targets, count, *indices[layer])
                terms |= {
                    f"loss_ce{suffix}": ce,
                    f"loss_mask{suffix}": mask,
                    f"loss_dice{suffix}": dice,
                }
                total = total + CLASS_WEIGHT * ce + MASK_WEIGHT * mask + DICE_WEIGHT * dice
            pixels = predictions[-1].pixels
            if self.pixel_weight and pixels is not None:
                terms["loss_pixel"] = pixel_loss(pixels.float(), targets)
                total = total + self.pixel_weight * terms["loss_pixel"]
        return terms | {"total": total}

    def layer(
        self, prediction: Prediction, targets: Sequence[Target], count: float | Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cross entropy, focal and dice loss of one decoder layer, unweighted."""
        queries, device = prediction.masks.shape[1], prediction.masks.device
        (indices,) = joined_indices(match_layers([prediction], targets), targets, queries, device)
        return self._layer(prediction, targets, count, *indices)

    def _layer(
        self,
        prediction: Prediction,
        targets: Sequence[Target],
        count: float | Tensor,
        queries: Tensor,
        chosen: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        labels = torch.cat([target.labels for target in targets])
        ce = classification_loss(prediction.logits.float(), labels, queries, chosen)
        if not len(queries):
            nothing = 0 * prediction.masks.float().sum()
            return ce, nothing, nothing
        matched = prediction.masks.flatten(0, 1)[queries].float()[None]
        truth = torch.cat([target.masks for target in targets])[chosen].float()
        large = F.interpolate(matched, size=truth.shape[1:], mode="bilinear", align_corners=False)
        pixels = (
            large[0].flatten(1),
            truth.flatten(1),
            self._valid(targets, truth, chosen).flatten(1),
        )
        return ce, focal_loss(*pixels, count), dice_loss(*pixels, count)

    def _valid(self, targets: Sequence[Target], truth: Tensor, chosen: Tensor) -> Tensor:
        """The pixels that count, of each matched target."""
        if not self.ignore_unlabelled:
            return torch.ones_like(truth)
        maps = [
            torch.ones_like(target.masks) if target.valid is None
            else target.valid.expand_as(target.masks)
            for target in targets
        ]  # fmt: skip
        return torch.cat(maps)[chosen].to(truth)


def joined_indices(
    layers: Sequence[Pairs], targets: Sequence[Target], queries: int, device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    """Pairs of each layer as indices into all queries and all targets of the batch.

    Parameters
    ----------
    layers : of each decoder layer, the pairs of each image (`match_layers`)
    queries : queries per image

    Returns
    -------
    (queries, targets) of each layer, (M,) int64 on `device`, sent in one transfer
    """
    offsets = [0, *itertools.accumulate(len(target.labels) for target in targets)]
    table = torch.stack([
        torch.stack([
            torch.cat([index * queries + own for index, (own, _) in enumerate(pairs)]),
            torch.cat([offsets[index] + own for index, (_, own) in enumerate(pairs)]),
        ])
        for pairs in layers
    ])  # fmt: skip
    if device.type == "cuda":
        table = table.pin_memory()  # so that the CPU need not wait for the transfer
    return [(own[0], own[1]) for own in table.to(device, non_blocking=True)]


def _targets_per_process(targets: Sequence[Target], device: torch.device) -> float | Tensor:
    """Mean number of targets over all processes, at least 1."""
    count = float(sum(len(target.labels) for target in targets))
    if not (dist.is_available() and dist.is_initialized()):
        return max(count, 1.0)
    total = torch.full((), count, device=device)
    dist.all_reduce(total)
    return (total / dist.get_world_size()).clamp(min=1)
