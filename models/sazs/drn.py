"""Dilated residual networks, type D: backbones at stride 8, and SAZS' pooled head on them.

The backbone is a sequence of nine stages; key `N.*` here is `layerN.*` in the published ImageNet
files and `base.N.*` in SAZS checkpoints.

Yu, Koltun, Funkhouser, "Dilated Residual Networks", CVPR 2017; Liu et al., CVPR 2023.
"""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEATURES = 512
_WIDTHS = (16, 16, 32, 64, 128, 256, 512, 512, 512)  # of the nine published stages
_SLIM = (8, 8, 16, 32, 48, 64, 64, 64, 64)
_POOLED = (1, 2, 3, 6)  # cells per side of the four pooled branches


def _conv_bn(
    cin: int, cout: int, kernel: int, *, stride: int = 1, dilation: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(cin, cout, kernel, stride, padding, dilation=dilation, bias=False)
    return conv, nn.BatchNorm2d(cout)


class Residual(nn.Module):
    """Convolutions with batch norm, added to the (projected) input; numbered conv1, bn1, ..."""

    def __init__(self, layers: list[tuple[nn.Conv2d, nn.BatchNorm2d]], cin: int, stride: int):
        super().__init__()
        for number, (conv, norm) in enumerate(layers, start=1):
            self.add_module(f"conv{number}", conv)
            self.add_module(f"bn{number}", norm)
        self.depth = len(layers)
        cout = layers[-1][0].out_channels
        self.downsample = (
            nn.Sequential(*_conv_bn(cin, cout, 1, stride=stride))
            if stride > 1 or cin != cout
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        for number in range(1, self.depth + 1):
            x = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x))
            x = F.relu(x + shortcut if number == self.depth else x)
        return x


def basic_block(cin: int, width: int, *, stride: int, dilation: int) -> Residual:
    """Two 3x3 convolutions; `width` channels out."""
    first = _conv_bn(cin, width, 3, stride=stride, dilation=dilation)
    return Residual([first, _conv_bn(width, width, 3, dilation=dilation)], cin, stride)


def bottleneck(cin: int, width: int, *, stride: int, dilation: int) -> Residual:
    """1x1, 3x3 (with the stride and the dilation), 1x1; 4 * `width` channels out."""
    middle = _conv_bn(width, width, 3, stride=stride, dilation=dilation)
    layers = [_conv_bn(cin, width, 1), middle, _conv_bn(width, 4 * width, 1)]
    return Residual(layers, cin, stride)


# Block, its expansion, blocks in stages 3 to 6, widths. The slim one is ours, for small machines.
_TRUNKS = {
    "drn_d_22_slim": (basic_block, 1, (2, 2, 2, 2), _SLIM),
    "drn_d_22": (basic_block, 1, (2, 2, 2, 2), _WIDTHS),
    "drn_d_105": (bottleneck, 4, (3, 4, 23, 3), _WIDTHS),
}


def backbone(arch: str) -> nn.Sequential:
    """DRN without pooling and classifier: (B, 3, H, W) -> (B, C, ceil(H/8), ceil(W/8)).

    Parameters
    ----------
    arch : "drn_d_22" or "drn_d_105" (C = 512), or "drn_d_22_slim" (C = 64)
    """
    block, expansion, depths, widths = _TRUNKS[arch]
    stages = [
        nn.Sequential(*_conv_bn(3, widths[0], 7), nn.ReLU()),
        nn.Sequential(*_conv_bn(widths[0], widths[1], 3), nn.ReLU()),
        nn.Sequential(*_conv_bn(widths[1], widths[2], 3, stride=2), nn.ReLU()),
    ]
    channels = widths[2]
    for width, depth, stride, dilation in zip(
        widths[3:7], depths, (2, 2, 1, 1), (1, 1, 2, 4), strict=True
    ):
        blocks = []
        for position in range(depth):
            here = stride if position == 0 else 1
            blocks.append(block(channels, width, stride=here, dilation=dilation))
            channels = expansion * width
        stages.append(nn.Sequential(*blocks))
    stages.append(nn.Sequential(*_conv_bn(channels, widths[7], 3, dilation=2), nn.ReLU()))
    stages.append(nn.Sequential(*_conv_bn(widths[7], widths[8], 3), nn.ReLU()))
    network = nn.Sequential(*stages)
    _initialise(network)
    return network


def _initialise(network: nn.Module) -> None:
    """Published start without weights: normal(0, sqrt(2 / (k * k * out)))."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))


class PooledSegmenter(nn.Module):
    """SAZS' pooled head on a convolutional backbone: non-negative features and edge logits.

    Parameters
    ----------
    base : backbone at stride 8
    channels : int
        Of the backbone's output.
    kernel : int
        Side of the convolution that joins the pooled branches.
    drop_rate : float in [0, 1)
        Channel dropout on the features while training.
    """

    def __init__(
        self, base: nn.Sequential, *, channels: int, kernel: int = 3, drop_rate: float = 0.9
    ) -> None:
        super().__init__()
        self.base = base
        for cells in _POOLED:
            conv, norm = _conv_bn(channels, channels, 1)
            self.add_module(f"pool{cells}_conv", conv)
            self.add_module(f"pool{cells}_bn", norm)
        self.fc1, self.fc1_bn = _conv_bn(channels * (1 + len(_POOLED)), FEATURES, kernel)
        self.edgeocr_cls_head = nn.Conv2d(FEATURES, 1, 1)
        self.dropout = nn.Dropout2d(drop_rate)

    def _pooled(self, base: Tensor, cells: int) -> Tensor:
        pooled = F.adaptive_avg_pool2d(base, cells)
        pooled = getattr(self, f"pool{cells}_bn")(getattr(self, f"pool{cells}_conv")(pooled))
        return F.interpolate(
            F.relu(pooled), size=base.shape[-2:], mode="bilinear", align_corners=False
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Edge logits (B, 1, h, w) and features (B, 512, h, w), at the backbone's stride.

        Parameters
        ----------
        images : Tensor, (B, 3, H, W), normalised
        """
        base = self.base(images)
        joined = torch.cat([base, *(self._pooled(base, cells) for cells in _POOLED)], dim=1)
        features = self.dropout(F.relu(self.fc1_bn(self.fc1(joined))))
        return self.edgeocr_cls_head(features), features

    def is_unused(self, key: str) -> bool:
        """Is `key` a published entry that has no effect on the output?"""
        return False


class DRNSegmenter(PooledSegmenter):
    """SAZS network on a DRN; h = ceil(H / 8).

    Parameters
    ----------
    arch : see `backbone`
    drop_rate : as in `PooledSegmenter`
    """

    def __init__(self, arch: str, *, drop_rate: float = 0.9) -> None:
        base = backbone(arch)
        super().__init__(
            base,
            channels=base[-1][0].out_channels,  # type: ignore[index]
            # On the slim backbone 3 x 3 would take most of the time of a step.
            kernel=1 if arch == "drn_d_22_slim" else 3,
            drop_rate=drop_rate,
        )

    def is_unused(self, key: str) -> bool:
        """Is `key` a published entry that has no effect on the output?"""
        return key in ("fc2.weight", "up.weight")

    def load_backbone(self, state: dict[str, Tensor]) -> None:
        """Take the backbone of a published DRN image classifier (`layerN.*`; `fc.*` is left out).

        Raises
        ------
        KeyError
            A tensor of the backbone is not in `state`.
        RuntimeError
            A tensor has another shape.
        """
        self.base.load_state_dict({key: state[layer_key(key)] for key in self.base.state_dict()})


def layer_key(key: str) -> str:
    """Key of a tensor in the published ImageNet files: `3.0.conv1.weight` -> `layer3...`."""
    return re.sub(r"^(\d)\.", r"layer\1.", key)
