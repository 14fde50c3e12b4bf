"""Class embeddings of segments: features of pixels, averaged over the mask of a query.

A variation on the published network, in which the query itself carries the embedding that is
compared with text. A segment is still classified as a whole, but by what lies inside it, and every
labelled pixel of a training image can teach the mapping from features to text: with few images the
queries learn masks long before they learn names.

Mask pooling as in Ghiasi et al., "Scaling Open-Vocabulary Image Segmentation with Image-Level
Labels", ECCV 2022.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_STAGES = ("res4", "res5")
_WIDTH = 256
_DROPOUT = 0.2


class PixelEmbedding(nn.Module):
    """Stages "res4" and "res5" -> embeddings of unit length (B, D, h, w), of the size of res4.

    Parameters
    ----------
    inputs : mapping
        Channels of the stages.
    text_dim : int
        Dimension of the text embeddings.
    """

    def __init__(self, inputs: Mapping[str, int], text_dim: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(inputs[stage]) for stage in _STAGES)
        self.layers = nn.Sequential(
            nn.Conv2d(sum(inputs[stage] for stage in _STAGES), _WIDTH, 1),
            nn.ReLU(),
            nn.Dropout(_DROPOUT),
            nn.Conv2d(_WIDTH, text_dim, 1),
        )

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        fine, coarse = [
            norm(features[stage]) for norm, stage in zip(self.norms, _STAGES, strict=True)
        ]
        if coarse.shape[2:] != fine.shape[2:]:
            coarse = F.interpolate(
                coarse, size=fine.shape[2:], mode="bilinear", align_corners=False
            )
        return F.normalize(self.layers(torch.cat([fine, coarse], dim=1)), dim=1)


def pooled(pixels: Tensor, masks: Tensor) -> Tensor:
    """Mean of the pixels' embeddings over each mask, of unit length, (B, Q, D).

    No gradient reaches the masks: names do not shape them.

    Parameters
    ----------
    pixels : Tensor, (B, D, h, w)
    masks : Tensor, (B, Q, H, W), logits, of the same extent
    """
    shares = F.interpolate(masks.detach().sigmoid(), size=pixels.shape[2:], mode="area")
    return F.normalize(torch.einsum("bqhw,bdhw->bqd", shares.to(pixels.dtype), pixels), dim=2)
