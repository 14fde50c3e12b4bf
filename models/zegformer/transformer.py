"""DETR's transformer decoder: queries attend to each other and to an image's features.

Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020. Post-norm; positions are
added to queries and keys, not to values.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sine_positions(height: int, width: int, dim: int, *, device: torch.device | str) -> Tensor:
    """Normalised sine position encoding, (dim, height, width) float32.

    The first half of the channels encodes the row, the second the column; even channels are sines,
    odd ones cosines, of temperature 10000. Rows and columns count from 1 and end at 2 pi.
    """
    half = dim // 2
    channel = torch.arange(half, device=device, dtype=torch.float32)
    period = 10000 ** (2 * torch.div(channel, 2, rounding_mode="floor") / half)

    def encode(count: int) -> Tensor:
        place = torch.arange(1, count + 1, device=device, dtype=torch.float32)
        angle = (place / (count + 1e-6) * 2 * math.pi)[:, None] / period
        waves = torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=2)
        return waves.flatten(1).T

    rows = encode(height)[:, :, None].expand(-1, -1, width)
    columns = encode(width)[:, None, :].expand(-1, height, -1)
    return torch.cat([rows, columns])


class DecoderLayer(nn.Module):
    def __init__(self, dim: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True)
        self.linear1 = nn.Linear(dim, feedforward)
        self.linear2 = nn.Linear(feedforward, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, keys: Tensor, query_positions: Tensor) -> Tensor:
        """x and query_positions (B, Q, C); memory and keys (B, h*w, C): without, with positions."""
        q = x + query_positions
        attended, _ = self.self_attn(q, q, x, need_weights=False)
        x = self.norm1(x + self.dropout(attended))
        attended, _ = self.multihead_attn(x + query_positions, keys, memory, need_weights=False)
        x = self.norm2(x + self.dropout(attended))
        hidden = self.dropout(F.relu(self.linear1(x)))
        return self.norm3(x + self.dropout(self.linear2(hidden)))


class Decoder(nn.Module):
    """Decoder layers; one final norm serves the output of every layer."""

    def __init__(
        self, *, dim: int, heads: int, layers: int, feedforward: int, dropout: float
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(dim, heads, feedforward, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, memory: Tensor, positions: Tensor, query_positions: Tensor) -> Tensor:
        """Outputs of all layers, (layers, B, Q, C).

        Parameters
        ----------
        memory : Tensor, (B, h*w, C)
        positions : Tensor, (h*w, C)
            Of the memory's nodes.
        query_positions : Tensor, (Q, C)
        """
        queries = query_positions.expand(len(memory), -1, -1)
        x, keys, outputs = torch.zeros_like(queries), memory + positions, []
        for layer in self.layers:
            x = layer(x, memory, keys, queries)
            outputs.append(self.norm(x))
        return torch.stack(outputs)


class Transformer(nn.Module):
    """The decoder under its published key; MaskFormer's encoder has no layers."""

    def __init__(
        self, *, dim: int, heads: int, layers: int, feedforward: int, dropout: float
    ) -> None:
        super().__init__()
        self.decoder = Decoder(
            dim=dim, heads=heads, layers=layers, feedforward=feedforward, dropout=dropout
        )
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, features: Tensor, query_positions: Tensor) -> Tensor:
        """features (B, C, h, w), query_positions (Q, C) -> (layers, B, Q, C)."""
        _, C, h, w = features.shape
        positions = sine_positions(h, w, C, device=features.device).flatten(1).T
        return self.decoder(features.flatten(2).transpose(1, 2), positions, query_positions)
