"""Extractors that run a pretrained convolutional network; see `contract.Extractor`.

The image is enlarged, goes through the network, and the outputs of one or more of its stages are
resampled to one grid, concatenated and centred: what all patches of the image have in common
says nothing about where to cut it. XCiT, whose blocks keep one token per cell of a grid, counts as
convolutional here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from timm.models.xcit import Xcit
from torch import Tensor, nn
from torch.nn import functional

from data.errors import SettingError
from eigen.extractors.network import NetworkExtractor
from eigen.extractors.spec import ExtractorSpec
from eigen.extractors.zoo import Convolutional

# Neither square nor small: a stage's output has this proportion, or is no map of the image.
_PROBE = (192, 320)


class CNN(NetworkExtractor):
    """Extractor of stages of a convolutional network.

    Parameters
    ----------
    spec : ExtractorSpec
        What it leaves open (None) is as published with the backbone.
    backbone : Convolutional
    device : str
        See `network.NetworkExtractor`.
    """

    backbone: Convolutional

    def _open(self, spec: ExtractorSpec) -> None:
        backbone = self.backbone
        self.stages = tuple(spec.stages.split(",")) if spec.stages else backbone.stages
        self.patch = backbone.patch if spec.patch is None else spec.patch
        self.centring = backbone.centring if spec.centring is None else spec.centring
        wanted = backbone.enlargement if spec.enlargement is None else spec.enlargement
        self.stages = self.stages or (_last_stage(self.network),)
        modules = dict(self.network.named_modules())
        for stage in self.stages:
            if stage not in modules:
                raise SettingError(
                    f"{self.name} has no stage {stage!r}; it has {', '.join(_shallow(modules))}"
                )
        try:
            with torch.inference_mode():
                maps = stage_outputs(self.network, self.stages, torch.zeros(1, 3, *_PROBE))
        except (AssertionError, AttributeError, RuntimeError) as error:
            raise SettingError(
                f"{self.name}: the network does not take images of any size ({error});"
                " expected a convolutional one"
            ) from error
        stride = max(_stride(name, found) for name, found in zip(self.stages, maps, strict=True))
        self.enlargement = stride / self.patch if wanted is None else wanted
        self.dim = sum(found.shape[1] for found in maps)

    def _rows(self, pixels: Tensor) -> Tensor:
        grid = pixels.shape[-2] // self.patch, pixels.shape[-1] // self.patch
        size = [max(1, round(side * self.enlargement)) for side in pixels.shape[-2:]]
        if size != list(pixels.shape[-2:]):
            pixels = functional.interpolate(pixels, size=size, mode="bicubic", antialias=True)
        maps = stage_outputs(self.network, self.stages, pixels)
        return torch.cat([self._centred(_on_grid(found.float(), grid)) for found in maps], dim=-1)

    def _centred(self, rows: Tensor) -> Tensor:
        """Rows (B, n, d) less the share of their mean, at a mean squared length of 1."""
        rows = rows - self.centring * rows.mean(dim=1, keepdim=True)
        return rows / rows.square().sum(-1, keepdim=True).mean(1, keepdim=True).sqrt()

    def config(self) -> dict[str, Any]:
        """Everything that decides the numbers but the device, which decides only their rounding."""
        return {
            **super().config(),
            "stages": list(self.stages),
            "enlargement": self.enlargement,
            "centring": self.centring,
        }


def stage_outputs(network: nn.Module, stages: Sequence[str], pixels: Tensor) -> list[Tensor]:
    """Outputs (B, d, h, w) of modules of `network`, in the order of `stages`; None if not run."""
    outputs: dict[str, Tensor] = {}

    def keep(stage: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any, output: Tensor) -> None:
            outputs[stage] = output

        return hook

    hooks = [network.get_submodule(stage).register_forward_hook(keep(stage)) for stage in stages]
    try:
        network.forward_features(pixels)  # type: ignore[operator]
    finally:
        for hook in hooks:
            hook.remove()
    if isinstance(network, Xcit):
        patch: Any = network.patch_embed.patch_size
        grid = (pixels.shape[-2] // patch, pixels.shape[-1] // patch)
        return [outputs[stage].mT.unflatten(2, grid) for stage in stages]
    return [outputs.get(stage) for stage in stages]  # type: ignore[misc]


def _last_stage(network: nn.Module) -> str:
    """timm's name for the module whose output is the network's last map."""
    if isinstance(network, Xcit):
        return f"blocks.{len(network.blocks) - 1}"
    listed = getattr(network, "feature_info", None)
    if not listed:
        raise SettingError(
            f"timm lists no stages of {type(network).__name__}; name them in `stages`"
        )
    return listed[-1]["module"]


def _shallow(modules: dict[str, nn.Module]) -> list[str]:
    """Names of modules at most two levels deep, the likely stages."""
    return [name for name in modules if name and name.count(".") < 2]


def _stride(stage: str, found: Tensor) -> int:
    """Pixels of the probe per cell of a stage's output."""
    if isinstance(found, Tensor) and found.ndim == 4:
        strides = {-(-side // cells) for side, cells in zip(_PROBE, found.shape[2:], strict=True)}
        if len(strides) == 1:
            return strides.pop()
    raise SettingError(
        f"stage {stage!r} gives no map of the image: expected (B, d, h, w), found"
        f" {tuple(getattr(found, 'shape', ())) or type(found).__name__} for {_PROBE} pixels"
    )


def _on_grid(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Maps (B, d, h, w) brought to a grid, as rows (B, n, d)."""
    if tuple(maps.shape[-2:]) != grid:
        maps = functional.interpolate(maps, size=grid, mode="bilinear", antialias=True)
    return maps.flatten(2).mT
