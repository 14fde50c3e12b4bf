"""ZegFormer: class-agnostic masks, each named by its similarity to text embeddings.

The network maps images (B, 3, H, W), RGB normalised and padded (`normalised_batch`), and text
embeddings (K, D) of unit length to Q masks an image at stride 4 and to logits over the K classes
and "no object", which comes last. No weight depends on K: classes may change at any call. Keys are
the published ones; CLIP, the criterion's class weights and the pixel statistics are not part of it.

Ding et al., "Decoupling Zero-Shot Semantic Segmentation", CVPR 2022.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.zegformer.backbone import Backbone
from models.zegformer.pixel_decoder import PixelDecoder, init_lecun
from models.zegformer.resnet import COUNTER, RES2_CHANNELS, ResNet
from models.zegformer.segment_embedding import PixelEmbedding, pooled
from models.zegformer.transformer import Transformer

# Of RGB in 0 to 255.
PIXEL_MEAN = (123.675, 116.280, 103.530)
PIXEL_STD = (58.395, 57.120, 57.375)
SIZE_DIVISIBILITY = 32

_NOT_OURS = ("criterion.", "sem_seg_head.predictor.clip_model.", "pixel_", "clip_pixel_")


@dataclass(frozen=True)
class Prediction:
    """What a decoder layer says of each query.

    logits : Tensor, (B, Q, K + 1); "no object" last. masks : Tensor, (B, Q, H/4, W/4), logits.
    pixels : Tensor (B, K, h, w) or None; logits of pixels, of a network that embeds them.
    """

    logits: Tensor
    masks: Tensor
    pixels: Tensor | None = None


class MaskEmbedding(nn.Module):
    """Three linear layers with ReLU between."""

    def __init__(self, dim: int, mask_dim: int) -> None:
        super().__init__()
        sizes = (dim, dim, dim, mask_dim)
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class Predictor(nn.Module):
    """Queries -> masks and class logits."""

    def __init__(
        self,
        *,
        inputs: int,
        queries: int,
        dim: int,
        mask_dim: int,
        text_dim: int,
        heads: int,
        layers: int,
        feedforward: int,
        dropout: float,
        temperature: float,
        unit_no_object: bool,
        pixel_embedding: PixelEmbedding | None = None,
    ) -> None:
        super().__init__()
        self.pixel_embedding = pixel_embedding
        self.unit_no_object = unit_no_object
        self.transformer = Transformer(
            dim=dim, heads=heads, layers=layers, feedforward=feedforward, dropout=dropout
        )
        self.query_embed = nn.Embedding(queries, dim)
        self.input_proj = init_lecun(nn.Conv2d(inputs, dim, 1))
        self.mask_embed = MaskEmbedding(dim, mask_dim)
        self.projection_layer = nn.Linear(dim, text_dim)
        bound = text_dim**-0.5
        self.bg_feature = nn.Parameter(torch.empty(1, text_dim).uniform_(-bound, bound))
        scale = torch.tensor([math.log(1 / temperature)])
        self.logit_scale = nn.Parameter(scale, requires_grad=False)

    def decode(self, res5: Tensor) -> Tensor:
        """Embeddings of the queries after every decoder layer, (layers, B, Q, C)."""
        return self.transformer(self.input_proj(res5), self.query_embed.weight)

    def class_logits(self, hs: Tensor, text: Tensor, segments: Tensor | None = None) -> Tensor:
        """hs (..., Q, C), text (K, D) -> (..., Q, K + 1).

        `segments`, (..., Q, D), are compared with text in place of the queries, which still decide
        on "no object". The paper has a cosine for "no object" too; its code, and so its weights,
        leave the learned no-object embedding at its own length unless `unit_no_object`.
        """
        g = self.projection_layer(hs)
        g = g / g.norm(dim=-1, keepdim=True)
        no_object = F.normalize(self.bg_feature, dim=1) if self.unit_no_object else self.bg_feature
        if segments is None:
            return self.logit_scale.exp() * (g @ torch.cat([text.to(g.dtype), no_object]).T)
        cosines = segments @ text.to(segments.dtype).T
        return self.logit_scale.exp() * torch.cat([cosines.to(g.dtype), g @ no_object.T], dim=-1)

    def forward(
        self,
        features: Mapping[str, Tensor],
        mask_features: Tensor,
        text: Tensor,
        *,
        every_layer: bool,
    ) -> list[Prediction]:
        hs = self.decode(features["res5"])
        embed = self.pixel_embedding
        pixels = None if embed is None else embed(features)
        return [
            self._prediction(h, mask_features, text, pixels)
            for h in (hs if every_layer else hs[-1:])
        ]

    def _prediction(
        self, h: Tensor, mask_features: Tensor, text: Tensor, pixels: Tensor | None
    ) -> Prediction:
        masks = torch.einsum("bqc,bchw->bqhw", self.mask_embed(h), mask_features)
        if pixels is None:
            return Prediction(self.class_logits(h, text), masks)
        of_pixels = torch.einsum("bdhw,kd->bkhw", pixels, text.to(pixels.dtype))
        return Prediction(
            self.class_logits(h, text, pooled(pixels, masks)),
            masks,
            self.logit_scale.exp() * of_pixels,
        )


class Head(nn.Module):
    """Pixel decoder and predictor under their published keys."""

    def __init__(self, pixel_decoder: PixelDecoder, predictor: Predictor) -> None:
        super().__init__()
        self.pixel_decoder = pixel_decoder
        self.predictor = predictor


class ZegFormer(nn.Module):
    """The network; see the module's contract. Defaults are the published sizes.

    Parameters
    ----------
    depth : int
        Of the ResNet: 50 or 101, or another of `models.zegformer.resnet.BLOCKS`.
    queries, dim, mask_dim, heads, layers, feedforward, dropout
        Of the transformer decoder and its heads.
    width : int
        Of the pixel decoder; `dim` unless given.
    text_dim : int
        Numbers in a text embedding.
    temperature : float
        Of the cosine between queries and texts; fixed.
    unit_no_object : bool
        Bring the no-object embedding to unit length, as the paper's formula has it. Published
        weights were trained without.
    norm, res2, res5_dilation
        Of the ResNet, see there.
    segments : bool
        Classify the pixels inside each mask (`segment_embedding`) in place of the query.
    backbone : Backbone or None
        Instead of a ResNet.
    """

    def __init__(
        self,
        *,
        depth: int = 101,
        queries: int = 100,
        dim: int = 256,
        mask_dim: int = 256,
        width: int | None = None,
        text_dim: int = 512,
        heads: int = 8,
        layers: int = 6,
        feedforward: int = 2048,
        dropout: float = 0.1,
        temperature: float = 0.01,
        unit_no_object: bool = False,
        norm: str = "FrozenBN",
        res2: int = RES2_CHANNELS,
        res5_dilation: int = 1,
        segments: bool = False,
        backbone: Backbone | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone or ResNet(depth, norm, res2, res5_dilation)
        channels = self.backbone.channels
        self.sem_seg_head = Head(
            PixelDecoder(width=width or dim, mask_dim=mask_dim, inputs=channels),
            Predictor(
                inputs=channels["res5"],
                queries=queries,
                dim=dim,
                mask_dim=mask_dim,
                text_dim=text_dim,
                heads=heads,
                layers=layers,
                feedforward=feedforward,
                dropout=dropout,
                temperature=temperature,
                unit_no_object=unit_no_object,
                pixel_embedding=PixelEmbedding(channels, text_dim) if segments else None,
            ),
        )

    def forward(
        self,
        images: Tensor | Mapping[str, Tensor],
        text: Tensor,
        *,
        every_layer: bool = False,
    ) -> list[Prediction]:
        """Predictions of the last decoder layer, or of all layers, the last one last.

        Parameters
        ----------
        images : Tensor, (B, 3, H, W), as `normalised_batch` makes them, or what the backbone made
            of them
        text : Tensor, (K, text_dim), unit rows
        every_layer : bool
            Training supervises all of them.
        """
        features = self.backbone(images) if isinstance(images, Tensor) else images
        head = self.sem_seg_head
        mask_features = head.pixel_decoder(features)
        return head.predictor(features, mask_features, text, every_layer=every_layer)

    def is_unused(self, key: str) -> bool:
        """Published entries that are not this network's: criterion, CLIP, pixel statistics."""
        return key.startswith(_NOT_OURS) or key.endswith(COUNTER)


def normalised_batch(
    images: Sequence[Tensor],
    *,
    mean: Sequence[float] = PIXEL_MEAN,
    std: Sequence[float] = PIXEL_STD,
    divisor: int = SIZE_DIVISIBILITY,
) -> Tensor:
    """Normalise images and pad them right and below with zeros to one common size.

    Parameters
    ----------
    images : sequence of (3, H, W), uint8 or float in 0 to 255, RGB
    mean, std : of the channels, in 0 to 255
    divisor : int
        Both sides of the result are multiples of it.

    Returns
    -------
    (B, 3, H', W') float32
    """
    height = max(image.shape[1] for image in images)
    width = max(image.shape[2] for image in images)
    size = (-(-height // divisor) * divisor, -(-width // divisor) * divisor)
    device = images[0].device
    batch = torch.zeros(len(images), 3, *size, device=device)
    shift, scale = (_channels(tuple(values), device) for values in (mean, std))
    for row, image in zip(batch, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = (image.float() - shift) / scale
    return batch


@functools.lru_cache(maxsize=16)
def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(3, 1, 1) on the device; kept, because sending it there makes the CPU wait for the GPU."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device).view(3, 1, 1)
