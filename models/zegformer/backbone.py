"""What ZegFormer's backbones have in common: stages, of which some may stay as they are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

from torch import Tensor, nn

STAGES = ("res2", "res3", "res4", "res5")
RESNET = "build_resnet_backbone"
"""MODEL.BACKBONE.NAME of a ResNet."""

ALL_PARTS = 1 + len(STAGES)
"""The stem and the stages: what `freeze` can count."""


class Backbone(nn.Module, ABC):
    """Normalised images (B, 3, H, W) -> {"res2": (B, d, H/4, W/4), ..., "res5"}.

    Attributes
    ----------
    name : str
        As MODEL.BACKBONE.NAME has it.
    channels : dict
        Of each stage.
    sha256 : str
        Of the file of packaged weights that it started from; empty without one.
    """

    name: str
    channels: dict[str, int]
    sha256: str = ""
    _frozen_parts = 0

    @abstractmethod
    def parts(self) -> Sequence[Sequence[nn.Module]]:
        """Modules of the stem and of each stage, in the order in which they run."""

    def freeze(self, count: int) -> Self:
        """Leave the stem and the first `count` - 1 stages as they are; 0 trains everything."""
        self._frozen_parts = count
        for module in self._frozen():
            module.requires_grad_(False)
        return self.train(self.training)

    @property
    def is_frozen(self) -> bool:
        """Does no part of it train?"""
        return self._frozen_parts == ALL_PARTS

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module.train`; frozen parts keep the statistics of their norms."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    @abstractmethod
    def forward(self, images: Tensor) -> dict[str, Tensor]: ...

    def _frozen(self) -> list[nn.Module]:
        return [module for part in self.parts()[: self._frozen_parts] for module in part]
