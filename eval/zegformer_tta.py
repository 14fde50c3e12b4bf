"""Test-time augmentation with flat memory: several sizes, each as it is and mirrored.

Score maps are averaged as they come, so two sets of maps are held however many views there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from data.zegformer_transforms import resize_image, resized_size
from eval.zegformer import Segmenter


class Augmented:
    """A segmenter that averages its score maps over views of a photo.

    Parameters
    ----------
    segmenter : Segmenter
    shorts : shorter sides of the views, in pixels
    longest : the longer side is at most this
    flip : mirrored views too
    """

    def __init__(
        self, segmenter: Segmenter, *, shorts: Sequence[int], longest: int, flip: bool
    ) -> None:
        self.segmenter, self.shorts = segmenter, shorts
        self.longest, self.flip = longest, flip

    def predict(self, images: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """As `Segmenter.predict`; the views are made of the images as given."""
        return [
            self.maps(image, size).argmax(dim=0) for image, size in zip(images, sizes, strict=True)
        ]

    @torch.inference_mode()
    def maps(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """Mean calibrated score maps, (K, H, W)."""
        total: Tensor | None = None
        views = 0
        pixels = image.permute(1, 2, 0).cpu().numpy()
        for short in self.shorts:
            shape = resized_size(*pixels.shape[:2], short=short, longest=self.longest)
            view = torch.from_numpy(resize_image(pixels, shape).copy()).permute(2, 0, 1)
            for mirrored in (False, True) if self.flip else (False,):
                (found,) = self.segmenter.segments([view.flip(2) if mirrored else view])
                maps = self.segmenter.maps(found, size)
                maps = maps.flip(2) if mirrored else maps
                total = maps if total is None else total.add_(maps)
                views += 1
        if total is None:
            raise ValueError("shorts: expected at least one size, found none")
        return total / views
