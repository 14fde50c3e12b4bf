"""Read facets of one block of a timm vision transformer, on any grid, computing nothing beyond.

The network is timm's, with its blocks and keys. Added here is what timm has no option for: position
embeddings resized as published, and stopping inside a block.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models.eva import Eva, EvaBlock
from timm.models.vision_transformer import Block, VisionTransformer
from torch.nn import functional

from data.errors import SettingError
from eigen.extractors.contract import Size
from eigen.extractors.positions import resized

PROJECTIONS = ("query", "key", "value")  # in the order of the rows of a joint qkv product
FACETS = (*PROJECTIONS, "token")


class FacetReader:
    """Patch features of one block of `network`.

    Parameters
    ----------
    network : VisionTransformer or Eva
        Any timm network of exactly these classes, in eval mode.
    offset : float
        See `positions.resized`.
    facet : {"key", "query", "value", "token"}
        The output of the block's query, key or value layer, heads concatenated, before any
        normalisation, scaling or rotary embedding; or the block's output, before the final norm.
    block : int
        Counted from 0, or from the end where negative.

    Raises
    ------
    SettingError
        A network of another kind, or a facet or block that it does not have.
    """

    def __init__(self, network: Any, *, offset: float, facet: str, block: int) -> None:
        # Subclasses embed or attend differently (a second class token, windows).
        if type(network) not in (VisionTransformer, Eva) or getattr(network, "rope_mixed", False):
            raise SettingError(
                "network: expected timm's VisionTransformer, or Eva with one rotary embedding for"
                f" all blocks, found {type(network).__name__}"
            )
        self.network = network
        self.offset = offset
        self.facet = _known_facet(facet)
        self.block = _block_index(block, len(self.network.blocks))
        self.dim: int = (
            self.network.embed_dim if facet == "token" else self._projection()[0].shape[0]
        )

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        height, width = self.network.patch_embed.patch_size
        if height != width:
            raise SettingError(f"patches: expected squares, found {height} x {width} pixels")
        return height

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels (B, 3, h * patch, w * patch) -> (B, h * w, dim), patches alone."""
        if self.facet == "token":
            tokens = self.tokens(pixels, blocks=self.block + 1)
            return tokens[:, self.network.num_prefix_tokens :]
        tokens = self.tokens(pixels, blocks=self.block)[:, self.network.num_prefix_tokens :]
        # Only the facet's third of the joint product is computed.
        normed = self.network.blocks[self.block].norm1(tokens)
        return functional.linear(normed, *self._projection())

    def tokens(self, pixels: torch.Tensor, *, blocks: int) -> torch.Tensor:
        """Prefix and patch tokens (B, prefix + h * w, d) after the first `blocks` blocks."""
        patches = self.network.patch_embed.proj(pixels)
        grid = tuple(patches.shape[-2:])
        tokens = self._embedded(self.network.patch_embed.norm(patches.flatten(2).mT), grid)
        tokens = self.network.norm_pre(tokens)
        rotary = getattr(self.network, "rope", None)
        shared = {} if rotary is None else {"rope": rotary.get_embed(shape=grid)}
        for block in self.network.blocks[:blocks]:
            tokens = block(tokens, **shared)
        return tokens

    def positions(self, grid: Size) -> torch.Tensor | None:
        """Position embedding as added, (1, rows, d); None where there is only a rotary one."""
        network = self.network
        if network.pos_embed is None:
            return None
        return resized(
            network.pos_embed,
            grid,
            stored=network.patch_embed.grid_size,
            prefix=0 if network.no_embed_class else network.num_prefix_tokens,
            offset=self.offset,
        )

    def _embedded(self, patches: torch.Tensor, grid: Size) -> torch.Tensor:
        """Patches (B, h * w, d) with position embedding and prefix tokens."""
        network, added = self.network, self.positions(grid)
        prefix = [
            token.expand(len(patches), -1, -1)
            for token in (network.cls_token, network.reg_token)
            if token is not None
        ]
        if added is None:
            return torch.cat([*prefix, patches], dim=1)
        if network.no_embed_class:
            return torch.cat([*prefix, patches + added], dim=1)
        return torch.cat([*prefix, patches], dim=1) + added

    def _projection(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight (d, c) and bias (d,) of the facet's layer, on the network's device."""
        block = self.network.blocks[self.block]
        # Other blocks normalise elsewhere, or have several attentions.
        if type(block) not in (Block, EvaBlock):
            raise SettingError(
                f"facet: {self.facet!r} is not defined for blocks of {type(block).__name__};"
                " use 'token'"
            )
        attention, third = block.attn, PROJECTIONS.index(self.facet)
        if attention.qkv is None:
            layer = (attention.q_proj, attention.k_proj, attention.v_proj)[third]
            return layer.weight, layer.bias
        weight = attention.qkv.weight.chunk(3)[third]
        if getattr(attention, "q_bias", None) is not None:  # Eva keeps the three apart
            return weight, (attention.q_bias, attention.k_bias, attention.v_bias)[third]
        bias = attention.qkv.bias
        return weight, None if bias is None else bias.chunk(3)[third]


def _known_facet(facet: str) -> str:
    if facet not in FACETS:
        raise SettingError(f"facet: expected one of {', '.join(FACETS)}, found {facet!r}")
    return facet


def _block_index(block: int, depth: int) -> int:
    if not -depth <= block < depth:
        raise SettingError(
            f"block: expected {-depth} to {depth - 1} for {depth} blocks, found {block}"
        )
    return block % depth
