"""The terms of SAZS' objective, and their sum.

Shapes throughout: log-probabilities (B, 2, h, w), edge logits (B, 1, h, w), target (B, h, w) with
0 "others", 1 the class, 255 void; edge target (B, 1, h, w) with 0, 1, and values above 1 for cells
that count as neither.

The published objective is seg + 0.3 edge + 0.1 attention + 0.3 shape. Its shape term sends a
log-softmax over one channel, hence zeros, to the regressor: a constant without gradient. `fixed`
sends probabilities instead. A fifth term, `overlap`, is ours and off by default.

Liu et al., CVPR 2023; the attention term comes from Takikawa et al., "Gated-SCNN", ICCV 2019.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.errors import SettingError
from models.sazs.inverseform import TILE

VOID = 255
_EDGE_LOGIT = 0.8  # above it a pixel takes part in the attention term
_TILED = (3 * TILE, 6 * TILE)  # Cityscapes' proportion, kept by the published code for any map


def segmentation_loss(log_prob: Tensor, target: Tensor) -> Tensor:
    """Mean negative log-likelihood over pixels that are not void; 0 where all are."""
    counted = target != VOID
    summed = F.nll_loss(log_prob, target.long(), ignore_index=VOID, reduction="sum")
    return summed / counted.sum().clamp(min=1)


def overlap_loss(log_prob: Tensor, target: Tensor) -> Tensor:
    """1 - soft Dice coefficient of the class over the batch, void left out, both areas plus 1.

    The likelihood alone answers "others" wherever it is unsure, which leaves an empty mask for a
    class that fills a fifth of its images. The overlap is what a mask is scored by.

    Milletari, Navab, Ahmadi, "V-Net", 3DV 2016, section 3.
    """
    counted = target != VOID
    predicted, true = log_prob[:, 1].exp() * counted, (target == 1).float()
    return 1 - (2 * (predicted * true).sum() + 1) / (predicted.sum() + true.sum() + 1)


def absent_loss(margins: Tensor, shown: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of the classes that an image does not show, which must be found nowhere.

    The published objective asks for classes that are there alone, so its networks answer a name of
    something that is not there with what resembles it.

    Parameters
    ----------
    margins : Tensor, (B, N, h, w)
        Log-odds of each class against "others".
    shown : Tensor, (B, N), bool

    Returns
    -------
    Tensor, (B,)
        Mean over the absent classes and the pixels of an image that are not void; 0 where there
        are none.
    """
    counted = (target != VOID)[:, None].float()
    entropy = (F.softplus(margins) * counted).sum((2, 3)) / counted.sum((2, 3)).clamp(min=1)
    return (entropy * ~shown).sum(1) / (~shown).sum(1).clamp(min=1)


def edge_loss(edge_logits: Tensor, edges: Tensor) -> Tensor:
    """Cross-entropy in which edge and other pixels of the batch weigh the same, over all pixels.

    Each kind of pixel is weighted by the share of the other kind; values above 1 weigh nothing but
    count in the mean. Without any edge pixel the loss is 0.
    """
    positive, negative = edges == 1, edges == 0
    n_pos, n_neg = positive.sum(), negative.sum()
    n = (n_pos + n_neg).clamp(min=1)
    weight = positive * (n_neg / n) + negative * (n_pos / n)
    return F.binary_cross_entropy_with_logits(edge_logits, edges.clamp(max=1).float(), weight)


def attention_loss(
    log_prob: Tensor, edge_logits: Tensor, target: Tensor, *, empty: float = 0.0
) -> Tensor:
    """Segmentation loss on the pixels that the edge head calls edge, summed over images.

    Class weights 1 + (1 - share of the class) are counted over the batch; a class that does not
    occur weighs 1.

    Parameters
    ----------
    empty : float
        The term of an image in which no pixel takes part; the published code gives NaN on
        present-day torch.
    """
    target = torch.where(edge_logits.squeeze(1) > _EDGE_LOGIT, target, VOID).long()
    weights = class_weights(target)
    counted = target != VOID
    summed = F.nll_loss(log_prob, target, weights, ignore_index=VOID, reduction="none").sum((1, 2))
    total = (weights[target.clamp(max=1)] * counted).sum((1, 2))
    # Not a loop with a condition: each would make the CPU wait for the GPU.
    return torch.where(counted.any(2).any(1), summed / total.clamp(min=1), empty).sum()


def class_weights(target: Tensor) -> Tensor:
    """1 + (1 - share) for classes 0 and 1 among the pixels that are not void; 1 if absent."""
    counts = torch.stack([(target == 0).sum(), (target == 1).sum()]).float()
    share = counts / counts.sum().clamp(min=1)
    return 1 + (counts > 0) * (1 - share)


def shape_loss(edge_logits: Tensor, edges: Tensor, regressor: nn.Module, *, kind: str) -> Tensor:
    """Mean 2-norm of the regressor's answer over 18 tiles an image.

    Parameters
    ----------
    regressor : `models.sazs.inverseform.InverseNet`, frozen
    kind : "reference" (predictions become zeros, as published) or "fixed" (edge probabilities)
    """
    predicted = (
        F.log_softmax(edge_logits, dim=1) if kind == "reference" else torch.sigmoid(edge_logits)
    )
    return regressor(tiles(predicted), tiles(edges.float())).norm(dim=1).mean()


def tiles(maps: Tensor) -> Tensor:
    """(B, 1, h, w) resized to 672 x 1344 and cut into tiles, (18 B, 1, 224, 224).

    Tiles run row by row, each for the whole batch.
    """
    resized = F.interpolate(maps, size=_TILED, mode="bilinear", align_corners=False)
    cut = resized.unfold(2, TILE, TILE).unfold(3, TILE, TILE)  # (B, 1, 3, 6, 224, 224)
    return cut.permute(2, 3, 0, 1, 4, 5).reshape(-1, 1, TILE, TILE)


@dataclass(frozen=True)
class JointLoss:
    """The weighted sum of the terms.

    Attributes
    ----------
    mode : "corrected" (attention averaged over the images) or "reference" (summed, as published)
    shape : "none", "reference" or "fixed"
    regressor : needed unless `shape` is "none"
    overlap : weight of `overlap_loss`; 0, as published, leaves it out
    edge, attention, inverse : weights of the terms added to the segmentation loss
    """

    mode: str = "corrected"
    shape: str = "none"
    regressor: nn.Module | None = None
    overlap: float = 0.0
    edge: float = 0.3
    attention: float = 0.1
    inverse: float = 0.3

    def __post_init__(self) -> None:
        if self.mode not in ("corrected", "reference"):
            raise SettingError(f"mode {self.mode!r}: expected corrected or reference")
        if self.shape not in ("none", "reference", "fixed"):
            raise SettingError(f"shape loss {self.shape!r}: expected none, reference or fixed")
        if self.shape != "none" and self.regressor is None:
            raise SettingError(
                f"shape loss {self.shape!r} needs the regressor's weights "
                "(distance_measures_regressor.pth, --regressor), or choose none"
            )

    def __call__(
        self, log_prob: Tensor, edge_logits: Tensor, target: Tensor, edges: Tensor
    ) -> dict[str, Tensor]:
        """Terms "seg", "edge", "attention", "total", and "shape" and "overlap" if any; float32."""
        log_prob, edge_logits = log_prob.float(), edge_logits.float()
        attention = attention_loss(log_prob, edge_logits, target)
        if self.mode == "corrected":
            attention = attention / len(target)
        terms = {
            "seg": segmentation_loss(log_prob, target),
            "edge": edge_loss(edge_logits, edges),
            "attention": attention,
        }
        total = terms["seg"] + self.edge * terms["edge"] + self.attention * attention
        if self.regressor is not None and self.shape != "none":
            terms["shape"] = shape_loss(edge_logits, edges, self.regressor, kind=self.shape)
            total = total + self.inverse * terms["shape"]
        if self.overlap:
            terms["overlap"] = overlap_loss(log_prob, target)
            total = total + self.overlap * terms["overlap"]
        return {**terms, "total": total}
