"""SAZS with a ViT: the part of a DPT segmentation model that reaches its output.

The published `vitl16_384` is a whole DPT, yet features are taken from the reassembled tokens of the
twelfth block alone. The later blocks, the other three branches, `scratch.*`, the final norm and the
classifier exist in published checkpoints, receive no gradient and change nothing: they are
accepted on load (`is_unused`) and neither kept nor computed.

Ranftl et al., "Vision Transformers for Dense Prediction", ICCV 2021; Liu et al., CVPR 2023.
"""

from __future__ import annotations

import re

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

FEATURES = 512  # channels of the text embeddings that the features are multiplied with


class Backbone(VisionTransformer):
    """The first `depth` blocks of timm's ViT; the tokens are not normalised at the end.

    Parameters
    ----------
    patch : int
        Patch side, in pixels.
    dim, depth, heads : int
        Width, number of blocks, attention heads.
    grid : int
        Side of the square grid of the stored position embedding (24 for 384-pixel weights).
    """

    cls_token: nn.Parameter
    pos_embed: nn.Parameter

    def __init__(self, *, patch: int, dim: int, depth: int, heads: int, grid: int) -> None:
        super().__init__(
            img_size=patch * grid,
            patch_size=patch,
            embed_dim=dim,
            depth=depth,
            num_heads=heads,
            num_classes=0,
            global_pool="",
            final_norm=False,
        )
        self.grid = grid

    def position(self, h: int, w: int) -> Tensor:
        """Position embedding on an (h, w) grid, (1, 1 + h*w, dim), class row first.

        The stored grid is resized bilinearly without corner alignment or antialiasing, as DPT does.
        """
        if (h, w) == (self.grid, self.grid):
            return self.pos_embed
        stored = self.pos_embed[:, 1:].unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        rows = F.interpolate(stored, size=(h, w), mode="bilinear", align_corners=False)
        return torch.cat([self.pos_embed[:, :1], rows.flatten(2).transpose(1, 2)], dim=1)

    def tokens(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens after the last block, (B, 1 + h*w, dim), class token first, and the grid (h, w).

        Odd sizes lose their right and lower strip: (h, w) = (H // patch, W // patch).
        """
        patches = self.patch_embed.proj(images)
        h, w = patches.shape[-2:]
        tokens = patches.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), tokens], dim=1)
        return self.blocks(tokens + self.position(h, w)), (h, w)


class Readout(nn.Module):
    """Join every patch token with the class token: (B, 1 + n, dim) -> (B, n, dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Linear(2 * dim, dim), nn.GELU())

    def forward(self, tokens: Tensor) -> Tensor:
        patches = tokens[:, 1:]
        return self.project(torch.cat([patches, tokens[:, :1].expand_as(patches)], dim=-1))


class Reassemble(nn.ModuleDict):
    """Tokens of a (h, w) grid to a map of twice its side: (B, 1 + h*w, dim) -> (B, 512, 2h, 2w)."""

    def __init__(self, dim: int) -> None:
        # The numbers are those of the published sequence, whose steps 1 and 2 have no weights.
        super().__init__(
            {
                "0": Readout(dim),
                "3": nn.Conv2d(dim, FEATURES, 1),
                "4": nn.ConvTranspose2d(FEATURES, FEATURES, 2, stride=2),
            }
        )

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        patches = self["0"](tokens)
        return self["4"](self["3"](patches.transpose(1, 2).unflatten(2, grid)))


class Pretrained(nn.Module):
    """Trunk and the one branch that counts, under their published names."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.model = backbone
        self.act_postprocess2 = Reassemble(backbone.embed_dim)


class DPTSegmenter(nn.Module):
    """SAZS network on a ViT with patch 16: features and edge logits at stride 8.

    Parameters
    ----------
    backbone : Backbone, patch 16
        Only its blocks up to the one that is read.
    freeze_backbone : bool
        Keep the backbone as it is (no gradient, evaluation mode): a head on frozen features.
    """

    def __init__(self, backbone: Backbone, *, freeze_backbone: bool = False) -> None:
        super().__init__()
        self.pretrained = Pretrained(backbone)
        self.edgeocr_cls_head = nn.Conv2d(FEATURES, 1, 1)
        self.freeze_backbone = freeze_backbone
        if freeze_backbone:
            backbone.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> DPTSegmenter:
        super().train(mode)
        if self.freeze_backbone:
            self.pretrained.model.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Edge logits (B, 1, h, w) and features (B, 512, h, w), h = 2 * (H // 16).

        Parameters
        ----------
        images : Tensor, (B, 3, H, W), normalised; H, W >= 16
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_backbone):
            tokens, grid = self.pretrained.model.tokens(images)
        features = self.pretrained.act_postprocess2(tokens, grid)
        return self.edgeocr_cls_head(features), features

    def is_unused(self, key: str) -> bool:
        """Is `key` a published entry that has no effect on the output?"""
        block = re.match(r"pretrained\.model\.blocks\.(\d+)\.", key)
        if block:
            return int(block[1]) >= len(self.pretrained.model.blocks)
        return re.match(DEAD, key) is not None

    def load_backbone(self, state: dict[str, Tensor]) -> None:
        """Take the backbone of an image classifier in timm's or DINO's key layout.

        The position embedding is resized when the classifier's grid is another one; the
        classifier's later blocks, norm and head are left out.

        Raises
        ------
        KeyError
            A tensor of the backbone is not in `state`.
        RuntimeError
            A tensor has another shape.
        """
        backbone = self.pretrained.model
        live = {key: state[key] for key in backbone.state_dict()}
        live["pos_embed"] = _regrid(live["pos_embed"], backbone.grid)
        backbone.load_state_dict(live)


DEAD = (
    r"pretrained\.model\.(norm|head|head_drop|fc_norm)\."
    r"|pretrained\.act_postprocess[134]\."
    r"|scratch\."
    r"|auxlayer\."
)


def _regrid(embedding: Tensor, side: int) -> Tensor:
    """Square position embedding (1, 1 + s*s, dim) brought to side `side`, bicubically."""
    stored = round((embedding.shape[1] - 1) ** 0.5)
    if stored == side:
        return embedding
    rows = embedding[:, 1:].unflatten(1, (stored, stored)).permute(0, 3, 1, 2)
    rows = F.interpolate(rows, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([embedding[:, :1], rows.flatten(2).transpose(1, 2)], dim=1)
