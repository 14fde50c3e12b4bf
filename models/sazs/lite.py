"""SAZS on EfficientNet-Lite2, whose ImageNet weights come in a Python package.

The backbone runs at stride 16 throughout: the last stages are dilated instead of strided. Frozen,
it is no part of the checkpoint, which holds the head alone, and its outputs can be computed once
per image (`models.sazs.stored`). Trained, it starts from the package and lies in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data import weight_files
from data.sazs.transforms import MEAN, STD
from eigen.extractors import weights
from eigen.extractors.cnn import stage_outputs
from eigen.extractors.layouts import to_timm
from eigen.extractors.zoo import CONVOLUTIONAL
from models.sazs.drn import FEATURES

BACKBONE = "efficientnet_lite2"
STAGES = {"blocks.2": 48, "blocks.4": 120, "blocks.5": 208, "blocks.6": 352}
"""Stages that are read, and their channels; the first has stride 8, the others 16."""

STRIDE = 16
_WIDTH = 192
_DILATIONS = (1, 2, 4)


class LiteStages(nn.Module):
    """Normalised images (B, 3, H, W) -> the outputs of `STAGES`.

    Batch norm always keeps its published statistics: a batch of crops has too few images for its
    own.

    Parameters
    ----------
    frozen : bool
        Fill the network from the package, and compute no gradient.

    Raises
    ------
    WeightsError
        `frozen`, and the package with the weights is not installed, or holds another file.
    """

    def __init__(self, *, frozen: bool) -> None:
        super().__init__()
        published = CONVOLUTIONAL[BACKBONE]
        self.frozen, self.sha256 = frozen, ""
        self.network = timm.create_model(published.timm, num_classes=0, output_stride=STRIDE)
        # What comes after the last stage that is read.
        self.network.conv_head = self.network.bn2 = nn.Identity()
        if frozen:
            checkpoint = weight_files.read(weights.packaged(BACKBONE, published))
            self.load(checkpoint.tensors)
            self.sha256 = checkpoint.sha256
            self.network.requires_grad_(False)
        self.network.eval()
        mean, std = torch.tensor(published.mean), torch.tensor(published.std)
        # From SAZS' normalisation of pixels to that of the backbone.
        self.scale = (torch.tensor(STD) / std).view(1, 3, 1, 1)
        self.shift = ((torch.tensor(MEAN) - mean) / std).view(1, 3, 1, 1)

    def train(self, mode: bool = True) -> LiteStages:
        """Stay in evaluation mode: see above."""
        return super().train(False)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Fill the network from a file of an ImageNet classifier, in its own layout or timm's."""
        state = to_timm(tensors, self.network.state_dict())
        unread = ("conv_head.", "bn2.", "classifier.")
        self.network.load_state_dict(
            {key: value for key, value in state.items() if not key.startswith(unread)}
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        pixels = images * self.scale.to(images) + self.shift.to(images)
        # Whole cells at every stage, for every size of image.
        size = [max(STRIDE, side // STRIDE * STRIDE) for side in images.shape[-2:]]
        pixels = F.interpolate(
            pixels, size=size, mode="bilinear", align_corners=False, antialias=True
        )
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return stage_outputs(self.network, list(STAGES), pixels)


class LiteHead(nn.Module):
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

    def forward(self, stages: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        fine, *coarse = [norm(stage) for norm, stage in zip(self.norms, stages, strict=True)]
        x = self.entry(torch.cat(coarse, dim=1))
        for block in self.blocks:
            x = F.relu(x + block(x))
        fine = self.fine(fine)
        x = F.interpolate(x, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        x = self.mix(x + fine)
        return self.edges(x), self.embed(x)


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


class LiteSegmenter(nn.Module):
    """SAZS network: `LiteHead` on `LiteStages`; frozen, its state is the head's alone.

    Parameters
    ----------
    drop_rate : as in `LiteHead`
    frozen : as in `LiteStages`
    """

    def __init__(self, *, drop_rate: float = 0.1, frozen: bool = True) -> None:
        super().__init__()
        self.stages = LiteStages(frozen=frozen)
        self.head = LiteHead(drop_rate=drop_rate)
        if frozen:
            self._register_state_dict_hook(_without_stages)
            self.stages._register_load_state_dict_pre_hook(self._with_stages)

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Edge logits (B, 1, h, w) and features (B, 512, h, w), at stride 8.

        Parameters
        ----------
        inputs : Tensor, (B, 3, H, W), normalised images; or what `stages` makes of them
        """
        return self.head(self.stages(inputs) if isinstance(inputs, Tensor) else inputs)

    def load_backbone(self, weights: Mapping[str, Tensor]) -> None:
        """Fill the backbone from an image classifier."""
        self.stages.load(weights)

    def is_unused(self, key: str) -> bool:
        """Is `key` an entry that has no effect on the output?"""
        return key == "words"

    def _with_stages(self, state: dict[str, Any], prefix: str, *_: Any) -> None:
        state.update(self.stages.state_dict(prefix=prefix))


def _without_stages(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for key in [key for key in state if key.startswith(f"{prefix}stages.")]:
        del state[key]
