"""Extractors that run a pretrained vision transformer; see `contract.Extractor`."""

from __future__ import annotations

from typing import Any

import torch

from eigen.extractors.network import NetworkExtractor
from eigen.extractors.trunk import Trunk
from eigen.extractors.zoo import Backbone


class ViT(NetworkExtractor):
    """Extractor of one facet of one block of a vision transformer.

    Parameters
    ----------
    name, backbone, weights, device, autocast
        See `network.NetworkExtractor`.
    facet, block
        See `eigen.extractors.extractor`.
    """

    def __init__(
        self, name: str, backbone: Backbone, *, facet: str, block: int, **options: Any
    ) -> None:
        self._facet, self._block = facet, block
        super().__init__(name, backbone, **options)

    def _open(self) -> None:
        self.trunk = Trunk(
            self.network, offset=self.backbone.offset, facet=self._facet, block=self._block
        )
        self.patch, self.dim = self.trunk.patch, self.trunk.dim

    def _rows(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.trunk(pixels)

    def config(self) -> dict[str, Any]:
        """Everything that decides the numbers but the device, which decides only their rounding."""
        return {**super().config(), "facet": self.trunk.facet, "block": self.trunk.block}
