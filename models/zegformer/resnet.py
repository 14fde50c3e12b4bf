"""ResNets under detectron2's keys, whose batch norm is frozen as published, or trains.

Maps normalised images (B, 3, H, W) to features at strides 4, 8, 16 and 32, "res2" to "res5". The
arithmetic is torchvision's: 7x7 stem, the stride of a bottleneck in its 3x3 convolution. Frozen
batch norm, statistics and affine parameters alike, is part of pretrained weights; a backbone
without any hardly learns with it. Both norms share their keys but for a counter of batches, so
either reads the other's weights.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
"""

from __future__ import annotations

import re

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

from data.errors import SettingError
from models.zegformer.backbone import RESNET, STAGES, Backbone

# 14 is not published: one block per stage, for small experiments.
BLOCKS = {14: (1, 1, 1, 1), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
RES2_CHANNELS = 256


def channels(res2: int = RES2_CHANNELS) -> dict[str, int]:
    """Channels of each stage: twice those of the stage before it."""
    return {name: res2 << level for level, name in enumerate(STAGES)}


COUNTER = ".num_batches_tracked"
"""End of the key of a counter that batch norm that trains has and frozen batch norm has not."""


class FrozenBatchNorm(FrozenBatchNorm2d):
    """torchvision's, computed in one operation that keeps half precision."""

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


NORMS: dict[str, type[nn.Module]] = {"FrozenBN": FrozenBatchNorm, "BN": nn.BatchNorm2d}


class ConvNorm(nn.Conv2d):
    """Convolution without bias, then `norm`, which lies inside it as its key says."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        norm: str = "FrozenBN",
    ) -> None:
        super().__init__(
            inputs,
            outputs,
            size,
            stride=stride,
            padding=size // 2 * dilation,
            dilation=dilation,
            bias=False,
        )
        self.norm = NORMS[norm](outputs)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(super().forward(x))


class Stem(nn.Module):
    def __init__(self, norm: str) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, 64, 7, stride=2, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.relu_(self.conv1(x)), kernel_size=3, stride=2, padding=1)


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, *, stride: int, dilation: int, norm: str) -> None:
        super().__init__()
        outputs = 4 * width
        if inputs != outputs or stride != 1:
            self.shortcut: nn.Module = ConvNorm(inputs, outputs, 1, stride=stride, norm=norm)
        else:
            self.shortcut = nn.Identity()
        self.conv1 = ConvNorm(inputs, width, 1, norm=norm)
        self.conv2 = ConvNorm(width, width, 3, stride=stride, dilation=dilation, norm=norm)
        self.conv3 = ConvNorm(width, outputs, 1, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu_(self.conv1(x))
        y = F.relu_(self.conv2(y))
        return F.relu_(self.conv3(y) + self.shortcut(x))


class ResNet(Backbone):
    """The backbone of a depth in `BLOCKS` with a norm of `NORMS`; see the module's contract.

    `res2` is the number of channels of the first stage. With `res5_dilation` 2 the last stage keeps
    stride 16 and dilates its 3x3 convolutions instead. Published are 256 and 1.

    Raises
    ------
    SettingError
        Another depth or norm.
    """

    name = RESNET

    def __init__(
        self,
        depth: int,
        norm: str = "FrozenBN",
        res2: int = RES2_CHANNELS,
        res5_dilation: int = 1,
    ) -> None:
        super().__init__()
        if depth not in BLOCKS:
            raise SettingError(f"depth: expected one of {sorted(BLOCKS)}, found {depth}")
        if norm not in NORMS:
            raise SettingError(f"norm: expected one of {sorted(NORMS)}, found {norm!r}")
        self.depth = depth
        self.channels = channels(res2)
        self.stem = Stem(norm)
        inputs = 64
        for (name, outputs), count in zip(self.channels.items(), BLOCKS[depth], strict=True):
            stage = nn.Sequential()
            dilation = res5_dilation if name == "res5" else 1
            first = 1 if name == "res2" or dilation > 1 else 2
            for block in range(count):
                stride = first if block == 0 else 1
                stage.append(
                    Bottleneck(inputs, outputs // 4, stride=stride, dilation=dilation, norm=norm)
                )
                inputs = outputs
            self.add_module(name, stage)

    def parts(self) -> list[list[nn.Module]]:
        return [[self.stem], *([self.get_submodule(name)] for name in STAGES)]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.stem(images)
        features = {}
        for name in STAGES:
            features[name] = x = self.get_submodule(name)(x)
        return features


def torchvision_key(key: str) -> str:
    """The name that torchvision and timm give an entry of `ResNet`."""
    key = key.removeprefix("stem.")
    key = re.sub(r"^res(\d)", lambda found: f"layer{int(found[1]) - 1}", key)
    key = re.sub(r"conv(\d)\.norm", r"bn\1", key)
    return key.replace("shortcut.norm", "downsample.1").replace("shortcut", "downsample.0")


def msra_key(key: str) -> str:
    """The name that the MSRA pickles (`R-50.pkl` of Caffe's ResNet) give an entry of `ResNet`."""
    layer, _, entry = key.rpartition(".")
    suffix = {"weight": "gamma", "bias": "beta"}.get(entry, entry)
    suffix = f"bn_{suffix}" if layer.endswith(".norm") else "w"
    layer = layer.removesuffix(".norm")
    if layer == "stem.conv1":
        return f"res_conv1_{suffix}" if suffix != "w" else "conv1_w"
    stage, block, part = layer.split(".")
    branch = "branch1" if part == "shortcut" else "branch2" + "abc"[int(part[-1]) - 1]
    return f"{stage}_{block}_{branch}_{suffix}"
