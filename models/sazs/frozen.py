"""SAZS on frozen features of EfficientNet-Lite2, whose weights come in a Python package.

The backbone runs at stride 16 throughout: the last stages are dilated instead of strided. It is no
part of the checkpoint, which holds the head alone and names the backbone by the SHA-256 of its
weights. Its features can be computed once per image (`FrozenStages`) and the head trained on them.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.sazs.transforms import MEAN, STD
from eigen.extractors import weights
from eigen.extractors.cnn import stage_outputs
from eigen.extractors.zoo import CONVOLUTIONAL
from models.sazs.drn import FEATURES

BACKBONE = "efficientnet_lite2"
STAGES = {"blocks.2": 48, "blocks.4": 120, "blocks.5": 208, "blocks.6": 352}
"""Stages that are read, and their channels; the first has stride 8, the others 16."""

STRIDE = 16
_WIDTH = 192
_DILATIONS = (1, 2, 4)


class FrozenStages(nn.Module):
    """Normalised images (B, 3, H, W) -> the outputs of `STAGES`, without gradient.

    Raises
    ------
    WeightsError
        The package with the weights is not installed, or holds another file.
    """

    def __init__(self) -> None:
        super().__init__()
        published = CONVOLUTIONAL[BACKBONE]
        self.network = timm.create_model(published.timm, num_classes=0, output_stride=STRIDE)
        self.sha256 = weights.load(self.network, None, name=BACKBONE, backbone=published)
        self.network.requires_grad_(False).eval()
        mean, std = torch.tensor(published.mean), torch.tensor(published.std)
        # From SAZS' normalisation of pixels to that of the backbone.
        self.scale = (torch.tensor(STD) / std).view(1, 3, 1, 1)
        self.shift = ((torch.tensor(MEAN) - mean) / std).view(1, 3, 1, 1)

    def train(self, mode: bool = True) -> FrozenStages:
        """Stay in evaluation mode: batch norm keeps its published statistics."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        pixels = images * self.scale.to(images) + self.shift.to(images)
        # Whole cells at every stage, whatever the size of the image.
        size = [max(STRIDE, side // STRIDE * STRIDE) for side in images.shape[-2:]]
        pixels = F.interpolate(
            pixels, size=size, mode="bilinear", align_corners=False, antialias=True
        )
        return stage_outputs(self.network, list(STAGES), pixels)


class FrozenHead(nn.Module):
    """Outputs of `STAGES` -> edge logits (B, 1, h, w) and features (B, 512, h, w) at stride 8.

    Parameters
    ----------
    drop_rate : float in [0, 1)
        Channel dropout before the last convolution while training.
    """

    def __init__(self, *, drop_rate: float = 0.1) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(channels) for channels in STAGES.values()])
        fine, *coarse = STAGES.values()
        self.entry = nn.Sequential(
            nn.Conv2d(sum(coarse), _WIDTH, 1), nn.BatchNorm2d(_WIDTH), nn.ReLU()
        )
        self.blocks = nn.ModuleList([_block(dilation) for dilation in _DILATIONS])
        self.fine = nn.Conv2d(fine, _WIDTH, 1)
        self.mix = nn.Sequential(
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1, groups=_WIDTH, bias=False),
            nn.BatchNorm2d(_WIDTH),
            nn.ReLU(),
            nn.Dropout2d(drop_rate),
        )
        self.edges = nn.Conv2d(_WIDTH, 1, 1)
        self.embed = nn.Conv2d(_WIDTH, FEATURES, 1)

    def hidden(self, stages: list[Tensor]) -> Tensor:
        """What both outputs are computed from, (B, 192, h, w)."""
        fine, *coarse = [norm(stage) for norm, stage in zip(self.norms, stages, strict=True)]
        x = self.entry(torch.cat(coarse, dim=1))
        for block in self.blocks:
            x = F.relu(x + block(x))
        fine = self.fine(fine)
        x = F.interpolate(x, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        return self.mix(x + fine)

    def scores(self, hidden: Tensor, texts: Tensor) -> Tensor:
        """Inner products of the features with texts (N, 512), (B, N, h, w).

        The last convolution is applied to the texts instead of every pixel.
        """
        weight = texts @ self.embed.weight[:, :, 0, 0]
        bias: Any = self.embed.bias
        return F.conv2d(hidden, weight[:, :, None, None], texts @ bias)

    def forward(self, stages: list[Tensor]) -> tuple[Tensor, Tensor]:
        hidden = self.hidden(stages)
        return self.edges(hidden), self.embed(hidden)


def _block(dilation: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(
            _WIDTH, _WIDTH, 3, padding=dilation, dilation=dilation, groups=_WIDTH, bias=False
        ),
        nn.BatchNorm2d(_WIDTH),
        nn.ReLU(),
        nn.Conv2d(_WIDTH, _WIDTH, 1, bias=False),
        nn.BatchNorm2d(_WIDTH),
    )


class FrozenSegmenter(nn.Module):
    """SAZS network: `FrozenHead` on `FrozenStages`; its state is the head's alone.

    Parameters
    ----------
    drop_rate : as in `FrozenHead`
    """

    def __init__(self, *, drop_rate: float = 0.1) -> None:
        super().__init__()
        self.stages = FrozenStages()
        self.head = FrozenHead(drop_rate=drop_rate)
        self._register_state_dict_hook(_without_stages)
        self.stages._register_load_state_dict_pre_hook(self._with_stages)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Edge logits (B, 1, h, w) and features (B, 512, h, w), at stride 8.

        Parameters
        ----------
        images : Tensor, (B, 3, H, W), normalised
        """
        return self.head(self.stages(images))

    def is_unused(self, key: str) -> bool:
        """Is `key` an entry that has no effect on the output?"""
        return key == "words"

    def _with_stages(self, state: dict[str, Any], prefix: str, *_: Any) -> None:
        state.update(self.stages.state_dict(prefix=prefix))


def _without_stages(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for key in [key for key in state if key.startswith(f"{prefix}stages.")]:
        del state[key]
