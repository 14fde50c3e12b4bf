"""Test-time augmentation with flat memory: several sizes, each as it is and mirrored.

Score maps are summed as they come, so one set of maps is held however many views there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from data.errors import SettingError
from data.zegformer.transforms import resize_image, resized_size
from eval.zegformer.segmenter import Segmenter


class Augmented:
    """A segmenter that averages its score maps over views of an image.

    Parameters
    ----------
    segmenter : Segmenter
    shorts : shorter sides of the views, in pixels
    longest : the longer side is at most this
    flip : mirrored views too

    Raises
    ------
    SettingError
        No sizes.
    """

    def __init__(
        self, segmenter: Segmenter, *, shorts: Sequence[int], longest: int, flip: bool
    ) -> None:
        if not shorts:
            raise SettingError("shorts: expected at least one size, found none")
        self.segmenter, self.shorts = segmenter, shorts
        self.longest, self.flip = longest, flip

    def predict(self, images: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """As `Segmenter.predict`; the views are made from the given images."""
        return [
            self.maps(image, size).argmax(dim=0) for image, size in zip(images, sizes, strict=True)
        ]

    @torch.inference_mode()
    def maps(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """Mean calibrated score maps, (K, H, W)."""
        classes = len(self.segmenter.classes.text)
        total = torch.zeros(classes, *size, device=self.segmenter.device)
        views = 0
        for view, mirrored in self._views(image):
            self._add(view, mirrored, total)
            views += 1
        return total.div_(views)

    def _add(self, view: Tensor, mirrored: bool, total: Tensor) -> None:
        (found,) = self.segmenter.segments([view])
        for rows, maps in self.segmenter.bands(found, (total.shape[1], total.shape[2])):
            total[:, rows] += maps.flip(2) if mirrored else maps

    def _views(self, image: Tensor) -> Iterator[tuple[Tensor, bool]]:
        """The image, (3, H, W) uint8, at each size, and whether it is mirrored."""
        pixels = image.permute(1, 2, 0).cpu().numpy()
        for short in self.shorts:
            shape = resized_size(*pixels.shape[:2], short=short, longest=self.longest)
            view = torch.from_numpy(resize_image(pixels, shape).copy()).permute(2, 0, 1)
            yield view, False
            if self.flip:
                yield view.flip(2), True
