"""Learned position embeddings resized to another grid, as each network's authors do."""

from __future__ import annotations

import torch
from torch.nn import functional

from eigen.extractors.contract import Size


def resized(
    embedding: torch.Tensor, grid: Size, *, stored: Size, prefix: int, offset: float
) -> torch.Tensor:
    """Position embedding for `grid`.

    Parameters
    ----------
    embedding : Tensor, (1, prefix + s_h * s_w, d)
        As trained, row-major over the grid.
    grid, stored : (h, w), (s_h, s_w)
        The target grid and the grid trained on. Nothing is resized where they are equal.
    prefix : int
        Leading rows that belong to no patch; they stay as they are.
    offset : float
        DINO, and DINOv2 without registers, resize by the factor (h + 0.1) / s_h, bicubic, not
        antialiased. The result has h rows, but is sampled by that factor: row i reads at (i + 0.5)
        s_h / (h + 0.1) - 0.5. With 0 the factor is h / s_h, antialiased, as DINOv2 with registers
        and timm do.

    Returns
    -------
    Tensor, (1, prefix + h * w, d)
    """
    if grid == stored:
        return embedding
    head, patches = embedding[:, :prefix], embedding[:, prefix:]
    patches = patches.unflatten(1, stored).permute(0, 3, 1, 2)
    if offset:
        factor = tuple((to + offset) / of for to, of in zip(grid, stored, strict=True))
        patches = functional.interpolate(patches, scale_factor=factor, mode="bicubic")
    else:
        patches = functional.interpolate(patches, size=grid, mode="bicubic", antialias=True)
    return torch.cat([head, patches.flatten(2).transpose(1, 2)], dim=1)
