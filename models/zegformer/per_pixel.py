"""The per-pixel baseline of the ZegFormer paper ("SPNet-FPN"): no queries, one cosine per pixel.

Ding et al., "Decoupling Zero-Shot Semantic Segmentation", CVPR 2022, after Xian et al., "Semantic
Projection Network for Zero- and Few-Label Semantic Segmentation", CVPR 2019.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.zegformer.backbone import Backbone
from models.zegformer.pixel_decoder import PixelDecoder
from models.zegformer.resnet import COUNTER, RES2_CHANNELS, ResNet

STRIDE = 4
"""Of the logits, in pixels of the image."""


class PixelHead(nn.Module):
    """Pixel features -> cosine logits, under the published keys."""

    def __init__(
        self, inputs: Mapping[str, int], width: int, text_dim: int, temperature: float
    ) -> None:
        super().__init__()
        self.pixel_decoder = PixelDecoder(width=width, mask_dim=width, inputs=inputs)
        self.projection_layer = nn.Conv2d(width, text_dim, 1)
        scale = torch.tensor([math.log(1 / temperature)])
        self.logit_scale = nn.Parameter(scale, requires_grad=False)
        nn.init.kaiming_normal_(self.projection_layer.weight, mode="fan_out", nonlinearity="relu")
        if self.projection_layer.bias is not None:
            nn.init.zeros_(self.projection_layer.bias)

    def forward(self, features: Mapping[str, Tensor], text: Tensor) -> Tensor:
        x = F.normalize(self.projection_layer(self.pixel_decoder(features)), dim=1)
        return self.logit_scale.exp() * torch.einsum("bdhw,kd->bkhw", x, text.to(x.dtype))


class PerPixelBaseline(nn.Module):
    """Images (B, 3, H, W), normalised, and unit text (K, D) -> logits (B, K, H/4, W/4).

    There is no class for "no object": every pixel belongs to one of the K classes.
    """

    def __init__(
        self,
        *,
        depth: int = 50,
        width: int = 256,
        text_dim: int = 512,
        temperature: float = 0.01,
        norm: str = "FrozenBN",
        res2: int = RES2_CHANNELS,
        res5_dilation: int = 1,
        backbone: Backbone | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone or ResNet(depth, norm, res2, res5_dilation)
        self.sem_seg_head = PixelHead(self.backbone.channels, width, text_dim, temperature)

    def forward(self, images: Tensor | Mapping[str, Tensor], text: Tensor) -> Tensor:
        """`images` may also be the outputs of the backbone."""
        features = self.backbone(images) if isinstance(images, Tensor) else images
        return self.sem_seg_head(features, text)

    def is_unused(self, key: str) -> bool:
        """Published entries that are not this network's."""
        return key.startswith(("criterion.", "pixel_")) or key.endswith(COUNTER)
