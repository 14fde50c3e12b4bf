"""Extractors that run a pretrained vision transformer; see `contract.Extractor`."""

from __future__ import annotations

from typing import Any

import torch

from eigen.extractors.facets import FacetReader
from eigen.extractors.network import NetworkExtractor
from eigen.extractors.spec import ExtractorSpec


class ViT(NetworkExtractor):
    """Extractor of one facet of one block of a vision transformer.

    Parameters
    ----------
    spec, backbone, device
        See `network.NetworkExtractor`.
    """

    def _open(self, spec: ExtractorSpec) -> None:
        self.reader = FacetReader(
            self.network, offset=self.backbone.offset, facet=spec.facet, block=spec.block
        )
        self.patch, self.dim = self.reader.patch, self.reader.dim

    def _rows(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.reader(pixels)

    def config(self) -> dict[str, Any]:
        """Everything that decides the numbers but the device, which decides only their rounding."""
        return {**super().config(), "facet": self.reader.facet, "block": self.reader.block}
