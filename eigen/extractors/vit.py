"""Extractors that run a pretrained vision transformer; see `contract.Extractor`."""

from __future__ import annotations

from typing import Any

import torch

from eigen.extractors.network import NetworkExtractor
from eigen.extractors.spec import ExtractorSpec
from eigen.extractors.trunk import Trunk


class ViT(NetworkExtractor):
    """Extractor of one facet of one block of a vision transformer.

    Parameters
    ----------
    spec, backbone, device
        See `network.NetworkExtractor`.
    """

    def _open(self, spec: ExtractorSpec) -> None:
        self.trunk = Trunk(
            self.network, offset=self.backbone.offset, facet=spec.facet, block=spec.block
        )
        self.patch, self.dim = self.trunk.patch, self.trunk.dim

    def _rows(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.trunk(pixels)

    def config(self) -> dict[str, Any]:
        """Everything that decides the numbers but the device, which decides only their rounding."""
        return {**super().config(), "facet": self.trunk.facet, "block": self.trunk.block}
