"""From an image to a mask, without a label.

Nothing here, and nothing it calls, takes a label: a prediction cannot depend on one.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eigen.pairs import Eigenpairs
from models.sazs.networks import log_probabilities, normalised
from models.sazs.stored import StageStore

if TYPE_CHECKING:
    from eval.sazs.fusion import Method

INPUT = 512  # pixels per side of the published network input, at any aspect ratio


def resized(images: Tensor, side: int | None) -> Tensor:
    """(B, 3, H, W) squashed to a square, bilinearly and without antialiasing; None leaves it."""
    if side is None:
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, h, w) resized to the image's size, as Pillow's bilinear filter does."""
    # Pillow widens its filter when it makes maps smaller; torch calls that antialiasing.
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False, antialias=True)


def margin(log_prob: Tensor) -> np.ndarray:
    """Log-odds of the class against "others", (H, W) float32, from (1, 2, H, W).

    The class is predicted where the margin is above 0; a tie goes to "others".
    """
    return (log_prob[0, 1] - log_prob[0, 0]).cpu().numpy()


class SazsSegmenter:
    """Run SAZS inference, one image at a time.

    Parameters
    ----------
    model : network of `models.sazs.networks`, on its device
    side : int or None
        Photos are squashed to this square first (published: 512); None keeps their size.
    autocast : "none", "bf16" or "fp16"
    store : features of a frozen backbone, computed at the same `side`
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        side: int | None = INPUT,
        autocast: str = "none",
        store: StageStore | None = None,
    ) -> None:
        self.model, self.side, self.store = model.eval(), side, store
        self.device = next(model.parameters()).device
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
        self._half = kinds.get(autocast)

    @torch.inference_mode()
    def features(self, image: np.ndarray) -> Tensor:
        """Features of an (H, W, 3) uint8 image, (1, 512, h, w) float32 on the model's device."""
        half, inputs = self._half, self._inputs(image)
        with torch.autocast(self.device.type, half) if half else nullcontext():
            return self.model(inputs)[1].float()

    def _inputs(self, image: np.ndarray) -> Any:
        if self.store is not None:
            return [stage[None].to(self.device).float() for stage in self.store(image)]
        pixels = torch.from_numpy(np.ascontiguousarray(image))[None].to(self.device)
        return resized(normalised(pixels), self.side)

    @torch.inference_mode()
    def margins(self, features: Tensor, texts: Tensor, size: tuple[int, int]) -> np.ndarray:
        """Margin of each class against "others" at `size`, (N - 1, H, W) float32.

        Parameters
        ----------
        features : as from `features`
        texts : Tensor, (N, 512), row 0 "others"
        """
        found = []
        for row in range(1, len(texts)):
            pair = texts[[0, row]].to(self.device)
            found.append(margin(enlarged(log_probabilities(features, pair), size)))
        return np.stack(found)


def segment(
    image: np.ndarray,
    texts: Tensor,
    segmenter: SazsSegmenter,
    *,
    eigenpairs: Eigenpairs | None = None,
    fusion: str | Method = "auto",
) -> np.ndarray:
    """Class of each pixel of an image.

    Parameters
    ----------
    image : ndarray, (H, W, 3), uint8, RGB
    texts : Tensor, (N, 512)
        Text embeddings, row 0 "others", then one row per class asked for.
    eigenpairs : Eigenpairs, optional
        Those of the picture; with them each class mask is fused.
    fusion : str or Method
        See `eval.sazs.fusion`; without `eigenpairs` it has no effect.

    Returns
    -------
    ndarray, (H, W), int32
        0 for "others", else the row of the class; where masks overlap, the largest margin wins.
    """
    size = (image.shape[0], image.shape[1])
    margins = segmenter.margins(segmenter.features(image), texts, size)
    masks = margins > 0
    if eigenpairs is not None:
        # Much to import for predictions that need no eigenvectors.
        from eigen.store.maps import EigenMaps
        from eval.sazs.fusion import method

        fuse = method(fusion) if isinstance(fusion, str) else fusion
        maps = replace(EigenMaps.of_pairs(eigenpairs, size), image=image)
        masks = fuse.masks(margins, maps)
    return label_map(margins, masks)


def label_map(margins: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The class of the largest margin among the masks (N, H, W) at each pixel.

    Returns
    -------
    ndarray, (H, W), int32
        0 where there is no mask, else 1 + the index of the class.
    """
    ranked = np.where(masks, margins, -np.inf)
    return np.where(masks.any(0), ranked.argmax(0) + 1, 0).astype(np.int32)
