"""Inference with the per-pixel baseline of the ZegFormer paper."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from eval.zegformer.ensemble import uncalibrated
from models.zegformer.network import normalised_batch
from models.zegformer.per_pixel import STRIDE


class PixelSegmenter:
    """The per-pixel baseline with the interface of `Segmenter`.

    Parameters
    ----------
    model : models.zegformer.per_pixel.PerPixelBaseline
    text : Tensor, (K, D), unit rows
    seen : Tensor, (K,) bool
    gamma : float
        Subtracted from the probabilities of seen classes, if above 0.
    """

    def __init__(
        self, model: torch.nn.Module, text: Tensor, seen: Tensor, *, gamma: float = -1.0
    ) -> None:
        self.model = model.eval()
        device = next(model.parameters()).device
        self.text, self.seen, self.gamma = text.to(device), seen.to(device), gamma

    def predict(self, images: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """The best class of each pixel, (H, W) int64 per image."""
        return [self.named(image, size)[1] for image, size in zip(images, sizes, strict=True)]

    @torch.inference_mode()
    def maps(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """Calibrated probabilities at `size`, (K, H, W)."""
        batch = normalised_batch([image.to(self.text.device)], divisor=1)
        logits = self.model(batch, self.text)
        large = F.interpolate(logits, scale_factor=STRIDE, mode="bilinear").softmax(dim=1)
        # A side that is no multiple of the stride ends within the last cell.
        own = large[:, :, : image.shape[1], : image.shape[2]]
        maps = F.interpolate(own, size=size, mode="bilinear")[0]
        if self.gamma > 0:
            maps = maps - self.gamma * self.seen[:, None, None].to(maps.dtype)
        return maps

    @torch.inference_mode()
    def named(self, image: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Score, without calibration, and int64 id of the best class of each pixel at `size`."""
        best, labels = self.maps(image, size).max(dim=0)
        return uncalibrated(best, labels, seen=self.seen, gamma=self.gamma), labels
