"""Pixel decoder of MaskFormer: a small feature pyramid from res2..res5 to stride-4 features.

Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation", 2021.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from models.zegformer.resnet import channels


def init_lecun(conv: nn.Conv2d) -> nn.Conv2d:
    """Fill uniformly with variance 1 / fan-in (Caffe2's "Xavier"), bias 0; returns `conv`."""
    nn.init.kaiming_uniform_(conv.weight, a=1)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class ConvGroupNorm(nn.Conv2d):
    """Convolution without bias, then group norm `norm`, which lies inside it as its key says."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2, bias=False)
        self.norm = nn.GroupNorm(32, outputs)
        init_lecun(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(super().forward(x))


class PixelDecoder(nn.Module):
    """Top-down pyramid.

    Parameters
    ----------
    width : int
        Channels inside the pyramid.
    mask_dim : int
        Channels of the result, which mask embeddings are multiplied with.
    inputs : mapping
        Channels of "res2" to "res5"; those of the published backbones unless given.
    """

    def __init__(
        self, *, width: int = 256, mask_dim: int = 256, inputs: Mapping[str, int] | None = None
    ) -> None:
        super().__init__()
        *lateral, top = (inputs or channels()).values()
        for level, count in enumerate(lateral, start=1):
            self.add_module(f"adapter_{level}", ConvGroupNorm(count, width, 1))
            self.add_module(f"layer_{level}", ConvGroupNorm(width, width, 3))
        self.layer_4 = ConvGroupNorm(top, width, 3)
        self.mask_features = init_lecun(nn.Conv2d(width, mask_dim, 3, padding=1))

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """{"res2": (B, 256, H/4, W/4), ..., "res5"} -> (B, mask_dim, H/4, W/4)."""
        y = F.relu(self.layer_4(features["res5"]))
        for level in (3, 2, 1):
            lateral = self.get_submodule(f"adapter_{level}")(features[f"res{level + 1}"])
            y = lateral + F.interpolate(y, size=lateral.shape[-2:], mode="nearest")
            y = F.relu(self.get_submodule(f"layer_{level}")(y))
        return self.mask_features(y)
