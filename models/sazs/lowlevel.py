"""SAZS on features that need no weights: colour, texture and place of each patch of 8 pixels.

The features are those of the extractor `lowlevel8` (`eigen.extractors.lowlevel`), frozen; dilated
residual blocks and SAZS' pooled head are trained on them. For a few photos and no pretrained start.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from data.sazs.transforms import MEAN, STD
from eigen.extractors.lowlevel import LowLevel
from models.sazs.drn import PooledSegmenter, basic_block

_WIDTH = 64
_DILATIONS = (1, 2, 4, 8)


class LowLevelFeatures(nn.Module):
    """Normalised images (B, 3, H, W) -> features (B, 384, H // 8, W // 8), without gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.extractor = LowLevel("lowlevel8", patch=8)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (MEAN, STD))
        pixels = ((images.float() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
        pictures = pixels.permute(0, 2, 3, 1).cpu().numpy()
        grid = self.extractor.grid(pictures.shape[1:3])
        rows = torch.from_numpy(self.extractor(list(np.ascontiguousarray(pictures))))
        return rows.transpose(1, 2).unflatten(2, grid).to(images.device)


class LowLevelSegmenter(PooledSegmenter):
    """Dilated blocks and SAZS' head on frozen `LowLevelFeatures`.

    Parameters
    ----------
    drop_rate : as in `PooledSegmenter`
    """

    def __init__(self, *, drop_rate: float = 0.9) -> None:
        entry = nn.Conv2d(LowLevel.dim, _WIDTH, 1, bias=False)
        blocks = [basic_block(_WIDTH, _WIDTH, stride=1, dilation=d) for d in _DILATIONS]
        base = nn.Sequential(LowLevelFeatures(), entry, nn.BatchNorm2d(_WIDTH), nn.ReLU(), *blocks)
        super().__init__(base, channels=_WIDTH, kernel=1, drop_rate=drop_rate)
