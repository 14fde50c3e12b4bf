"""Vision transformer trunk: an image tensor in, one token per patch (and a class token) out.

Keys follow timm and DINO (`cls_token`, `pos_embed`, `patch_embed.proj`, `blocks.N.*`). Blocks are
pre-norm with exact GELU and LayerNorm eps 1e-6; the trunk ends after its last block, without the
final norm and the classifier, which SAZS does not use.

Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head self-attention over (B, n, dim) tokens."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        B, n, dim = tokens.shape
        q, k, v = self.qkv(tokens).view(B, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)  # (B, heads, n, dim / heads)
        return self.proj(mixed.transpose(1, 2).reshape(B, n, dim))


class Mlp(nn.Module):
    """Two linear layers with a GELU between, over (B, n, dim) tokens."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(tokens)))


class Block(nn.Module):
    """Pre-norm transformer block over (B, n, dim) tokens."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class PatchEmbedding(nn.Module):
    """Non-overlapping patches to vectors; odd sizes lose their right and lower strip."""

    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images)


class VisionTransformer(nn.Module):
    """The first `depth` blocks of a ViT.

    Parameters
    ----------
    patch : int
        Patch side, in pixels.
    dim, depth, heads : int
        Width, number of blocks, attention heads.
    grid : int
        Side of the square grid of the stored position embedding (24 for 384-pixel weights).
    """

    def __init__(self, *, patch: int, dim: int, depth: int, heads: int, grid: int) -> None:
        super().__init__()
        self.patch, self.dim, self.grid = patch, dim, grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid * grid, dim))
        self.patch_embed = PatchEmbedding(patch, dim)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self._initialise()

    def _initialise(self) -> None:
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def position(self, h: int, w: int) -> Tensor:
        """Position embedding on an (h, w) grid, (1, 1 + h*w, dim), class row first.

        The stored grid is resized bilinearly without corner alignment or antialiasing, as DPT does.
        """
        if (h, w) == (self.grid, self.grid):
            return self.pos_embed
        class_row, rows = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        stored = rows.view(1, self.grid, self.grid, self.dim).permute(0, 3, 1, 2)
        resized = F.interpolate(stored, size=(h, w), mode="bilinear", align_corners=False)
        return torch.cat([class_row, resized.flatten(2).transpose(1, 2)], dim=1)

    def forward(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens after the last block.

        Parameters
        ----------
        images : Tensor, (B, 3, H, W), normalised

        Returns
        -------
        tokens : Tensor, (B, 1 + h*w, dim), class token first, patches row-major
        grid : (h, w) = (H // patch, W // patch)
        """
        patches = self.patch_embed(images)
        h, w = patches.shape[-2:]
        tokens = torch.cat(
            [self.cls_token.expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1
        )
        tokens = tokens + self.position(h, w)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens, (h, w)
