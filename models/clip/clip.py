"""CLIP: an image tower and a text tower whose outputs share one space.

Images enter as (B, 3, S, S), normalised with `PIXEL_MEAN` and `PIXEL_STD`; texts as token ids
(B, 77). Both leave as (B, D), not normalised. Keys are those of OpenAI's published files, which
open_clip's files share. Rows of text are cut to the longest one before the tower runs: attention
is causal, so what lies behind the end token cannot matter.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.errors import VocabularyError

CONTEXT_LENGTH = 77
# Of RGB in 0 to 255.
PIXEL_MEAN = (122.7709383, 116.7460125, 104.09373615)
PIXEL_STD = (68.5005327, 66.6321579, 70.3231630)

_ATTENTION_HEAD_WIDTH = 64
_SPECIAL = ("<|startoftext|>", "<|endoftext|>")
_NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")


@functools.cache
def _tokenizer() -> Any:
    """open_clip's byte-pair encoder, with the special tokens spelled as OpenAI does."""
    import regex
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    for token, number in zip(_SPECIAL, tokenizer.all_special_ids, strict=True):
        tokenizer.encoder[token] = number
        tokenizer.cache[token] = token
    words = tokenizer.pat.pattern.removeprefix("<start_of_text>|<end_of_text>|")
    special = "|".join(map(re.escape, _SPECIAL))
    tokenizer.pat = regex.compile(f"{special}|{words}", regex.IGNORECASE)
    return tokenizer


def tokenize(texts: Sequence[str], *, truncate: bool = False) -> Tensor:
    """Token ids, (B, 77) int64: start token, text, end token, zeros.

    Parameters
    ----------
    texts : sequence of str
    truncate : bool
        Cut a text that is too long (its last id becomes the end token) instead of raising.

    Raises
    ------
    VocabularyError
        A text needs more than 77 tokens; names it.
    """
    tokenizer = _tokenizer()
    start, end = tokenizer.all_special_ids
    tokens = torch.zeros(len(texts), CONTEXT_LENGTH, dtype=torch.int64)
    for row, text in zip(tokens, texts, strict=True):
        ids = [start, *tokenizer.encode(text), end]
        if len(ids) > CONTEXT_LENGTH:
            if not truncate:
                raise VocabularyError(
                    f"{text[:60]!r}... takes {len(ids)} tokens, CLIP reads at most "
                    f"{CONTEXT_LENGTH}; shorten the class name or the prompt"
                )
            ids = [*ids[: CONTEXT_LENGTH - 1], end]
        row[: len(ids)] = torch.tensor(ids)
    return tokens


class LayerNorm(nn.LayerNorm):
    """Layer norm computed in float32 (float64 for doubles), whatever the dtype of the encoders."""

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        weight, bias = self.weight.to(wide), self.bias.to(wide)
        return F.layer_norm(x.to(wide), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention under the keys of `nn.MultiheadAttention`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor, *, causal: bool, rows: int | None = None) -> Tensor:
        """(B, L, width) -> (B, rows, width): what the first `rows` tokens (all) gather."""
        B, L, width = x.shape
        weight, bias = self.in_proj_weight, self.in_proj_bias
        q = F.linear(x[:, :rows], weight[:width], bias[:width])
        k, v = F.linear(x, weight[width:], bias[width:]).view(B, L, 2, -1).unbind(2)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class QuickGELU(nn.Module):
    """The approximation of GELU that CLIP was trained with."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", QuickGELU())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))

    def forward(self, x: Tensor, *, causal: bool, rows: int | None = None) -> Tensor:
        x = x[:, :rows] + self.attn(self.ln_1(x), causal=causal, rows=rows)
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads) for _ in range(layers))

    def forward(self, x: Tensor, *, causal: bool, rows: int | None = None) -> Tensor:
        """The first `rows` tokens (all) after the last block, which computes no others."""
        *earlier, last = self.resblocks
        for block in earlier:
            x = block(x, causal=causal)
        return last(x, causal=causal, rows=rows)


class ImageTower(nn.Module):
    """Vision transformer; the feature is the class token's."""

    def __init__(self, *, image_size: int, patch: int, width: int, layers: int, dim: int) -> None:
        super().__init__()
        scale = width**-0.5
        nodes = (image_size // patch) ** 2
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(nodes + 1, width))
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers, width // _ATTENTION_HEAD_WIDTH)
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, dim))

    def forward(self, images: Tensor) -> Tensor:
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        start = self.class_embedding.expand(len(images), 1, -1)
        x = self.ln_pre(torch.cat([start, patches], dim=1) + self.positional_embedding)
        x = self.transformer(x, causal=False, rows=1)
        return self.ln_post(x[:, 0]) @ self.proj


class CLIP(nn.Module):
    """Both towers. The defaults are ViT-B/16.

    Parameters
    ----------
    image_size, patch, width, layers : int
        Of the image tower; `image_size` and `patch` in pixels.
    text_width, text_layers, vocabulary : int
        Of the text tower; `vocabulary` counts token ids.
    dim : int
        Numbers in a feature.
    """

    def __init__(
        self,
        *,
        image_size: int = 224,
        patch: int = 16,
        width: int = 768,
        layers: int = 12,
        text_width: int = 512,
        text_layers: int = 12,
        vocabulary: int = 49408,
        dim: int = 512,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.dim = dim
        self.visual = ImageTower(
            image_size=image_size, patch=patch, width=width, layers=layers, dim=dim
        )
        self.token_embedding = nn.Embedding(vocabulary, text_width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(CONTEXT_LENGTH, text_width))
        self.transformer = Transformer(text_width, text_layers, text_width // _ATTENTION_HEAD_WIDTH)
        self.ln_final = LayerNorm(text_width)
        self.text_projection = nn.Parameter(text_width**-0.5 * torch.randn(text_width, dim))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    @property
    def dtype(self) -> torch.dtype:
        return self.visual.conv1.weight.dtype

    def encode_image(self, images: Tensor) -> Tensor:
        """Features of normalised images: (B, 3, S, S) -> (B, D), in the towers' type."""
        return self.visual(images.to(self.dtype))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Features of token ids: (B, 77) -> (B, D).

        The feature is taken at the largest id of a row (the first of them): the end token.
        """
        end = tokens.argmax(dim=1)
        length = int(end.max()) + 1
        x = self.token_embedding(tokens[:, :length]) + self.positional_embedding[:length]
        x = self.ln_final(self.transformer(x, causal=True))
        return x[torch.arange(len(x), device=x.device), end] @ self.text_projection

    def is_unused(self, key: str) -> bool:
        """Entries of published archives that are no weights."""
        return key in _NOT_WEIGHTS or key.endswith("attn_mask")


def sizes_of(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """The arguments of `CLIP` that a published state dict was made with.

    Raises
    ------
    KeyError
        Not the layout of a CLIP with a vision transformer; names the missing entry.
    """
    conv = weights["visual.conv1.weight"]
    grid = math.isqrt(len(weights["visual.positional_embedding"]) - 1)
    text = weights["ln_final.weight"]
    return {
        "image_size": grid * conv.shape[-1],
        "patch": conv.shape[-1],
        "width": conv.shape[0],
        "layers": _count_blocks(weights, "visual.transformer.resblocks."),
        "text_width": len(text),
        "text_layers": _count_blocks(weights, "transformer.resblocks."),
        "vocabulary": len(weights["token_embedding.weight"]),
        "dim": weights["text_projection"].shape[1],
    }


def _count_blocks(weights: Mapping[str, Tensor], prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in weights if key.startswith(prefix)})
