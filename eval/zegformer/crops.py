"""What CLIP's image tower is shown of each mask: a square crop of the image.

Styles: "cropmask" (published default) sets everything outside the mask to zero, which is CLIP's
mean colour, and crops the mask's box; "crop" crops the box unmasked; "mask" shows the whole masked
image. A box is stretched to a square.

Geometries: "published" takes the first and last row and column of a mask as the box's edges (the
last are cut off), the whole padded image where that box has no area, and lets padding be part of
a mask; "corrected" includes the last row and column, widens the box to a square inside the image
and keeps masks off the padding.

Ding et al., "Decoupling Zero-Shot Semantic Segmentation", CVPR 2022, section 3.4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from data.errors import SettingError

STYLES = ("cropmask", "crop", "mask")
GEOMETRIES = ("published", "corrected")


def check(style: str, geometry: str) -> None:
    """Refuse names outside `STYLES` and `GEOMETRIES`.

    Raises
    ------
    SettingError
    """
    if style not in STYLES:
        raise SettingError(f"crop style {style!r} is not known; choose {', '.join(STYLES)}")
    if geometry not in GEOMETRIES:
        raise SettingError(
            f"crop geometry {geometry!r} is not known; choose {', '.join(GEOMETRIES)}"
        )


def published_boxes(masks: Tensor) -> Tensor:
    """Boxes (x0, y0, x1, y1), (Q, 4) int64, of masks (Q, H, W) bool; see the module's contract."""
    Q, H, W = masks.shape
    x0, x1 = _extent(masks.any(dim=1))
    y0, y1 = _extent(masks.any(dim=2))
    found = torch.stack([x0, y0, x1, y1], dim=1)
    whole = torch.tensor([0, 0, W, H], device=masks.device).expand(Q, 4)
    return torch.where(((x1 - x0) * (y1 - y0) > 0)[:, None], found, whole)


def square_boxes(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Half-open square boxes around masks, inside the image of `size` (H, W); (Q, 4) int64.

    Where a square does not fit into the image, the box is as long as the image on that axis.
    """
    H, W = size
    x0, x1 = _extent(masks.any(dim=1))
    y0, y1 = _extent(masks.any(dim=2))
    empty = ~masks.flatten(1).any(dim=1)
    side = torch.maximum(x1 - x0, y1 - y0) + 1
    left, right = _widened(x0, x1, side, W)
    top, bottom = _widened(y0, y1, side, H)
    whole = torch.tensor([0, 0, W, H], device=masks.device)
    return torch.where(empty[:, None], whole, torch.stack([left, top, right, bottom], dim=1))


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First and last true index of each row of (Q, n); 0 and n - 1 for rows without one."""
    n = occupied.shape[1]
    first = occupied.int().argmax(dim=1)
    last = n - 1 - occupied.flip(1).int().argmax(dim=1)
    none = ~occupied.any(dim=1)
    return first.masked_fill(none, 0), last.masked_fill(none, 0)


def _widened(first: Tensor, last: Tensor, side: Tensor, length: int) -> tuple[Tensor, Tensor]:
    side = side.clamp(max=length)
    start = torch.div(first + last + 1 - side, 2, rounding_mode="floor")
    start = torch.minimum(start.clamp(min=0), length - side)
    return start, start + side


def axis_weights(low: float, high: float, length: int, bins: int) -> Tensor:
    """Aligned RoIAlign along one axis: (bins, length) float32, rows sum to 1.

    Each bin averages ceil((high - low) / bins) linear samples at equal distances (He et al., "Mask
    R-CNN", ICCV 2017; "aligned" shifts by half a pixel). Samples outside read the nearest pixel.
    """
    samples = max(1, math.ceil((high - low) / bins))
    step = (high - low) / (bins * samples)
    place = low - 0.5 + (torch.arange(bins * samples, dtype=torch.float64) + 0.5) * step
    place = place.clamp(0, length - 1)
    left = place.floor().long().clamp(max=max(length - 2, 0))
    share = place - left
    weights = torch.zeros(bins * samples, length, dtype=torch.float64)
    weights.scatter_(1, left[:, None], (1 - share)[:, None])
    if length > 1:
        weights.scatter_(1, left[:, None] + 1, share[:, None])
    return weights.view(bins, samples, length).mean(dim=1).float()


def crop(
    image: Tensor, box: tuple[int, int, int, int], side: int, mask: Tensor | None = None
) -> Tensor:
    """RoIAlign of one box of an image, (C, H, W) -> (C, side, side): two matrix products.

    The image is taken as zero outside `mask`, (H, W) bool.
    """
    x0, y0, x1, y1 = box
    rows = axis_weights(y0, y1, image.shape[1], side).to(image)
    columns = axis_weights(x0, x1, image.shape[2], side).to(image)
    # Nothing outside these carries weight.
    across, down = slice(max(x0 - 1, 0), x1 + 1), slice(max(y0 - 1, 0), y1 + 1)
    part = image[:, down, across]
    if mask is not None:
        part = part * mask[down, across]
    return rows[:, down] @ part @ columns[:, across].T


def crops(
    image: Tensor,
    mask_logits: Tensor,
    size: tuple[int, int],
    *,
    side: int,
    style: str = "cropmask",
    geometry: str = "published",
) -> tuple[Tensor, Tensor]:
    """What CLIP sees of each mask, equal images given once.

    Parameters
    ----------
    image : Tensor, (3, H, W)
        Normalised for CLIP, padded with zeros.
    mask_logits : Tensor, (Q, H, W)
        At the padded image's size. A pixel is in the mask where their sigmoid is above 0.5.
    size : (int, int)
        Height and width without padding.
    side : int
        Of the crops, in pixels.
    style, geometry
        See the module's contract.

    Returns
    -------
    pictures : Tensor, (P, 3, side, side)
    row : Tensor, (Q,) int64
        Which image belongs to each query. All empty masks share one.

    Raises
    ------
    SettingError
    """
    check(style, geometry)
    masks = mask_logits.sigmoid() > 0.5
    if geometry == "corrected":
        masks[:, size[0] :] = False
        masks[:, :, size[1] :] = False
    empty = ~masks.flatten(1).any(dim=1)
    shown = torch.nonzero(~empty).flatten()
    if style == "mask":
        pictures = _whole_masked(image, mask_logits[shown], side)
    else:
        boxes = published_boxes(masks) if geometry == "published" else square_boxes(masks, size)
        pictures = image.new_zeros(len(shown), 3, side, side)
        for picture, q in zip(pictures, shown.tolist(), strict=True):
            x0, y0, x1, y1 = boxes[q].tolist()
            mask = masks[q] if style == "cropmask" else None
            picture.copy_(crop(image, (x0, y0, x1, y1), side, mask))
    row = torch.empty(len(masks), dtype=torch.int64, device=image.device)
    row[shown] = torch.arange(len(shown), device=image.device)
    if bool(empty.any()):
        row[empty] = len(shown)
        pictures = torch.cat([pictures, _of_an_empty_mask(image, size, side, style, geometry)])
    return pictures, row


def _of_an_empty_mask(
    image: Tensor, size: tuple[int, int], side: int, style: str, geometry: str
) -> Tensor:
    if style != "crop":
        return image.new_zeros(1, 3, side, side)
    H, W = image.shape[1:] if geometry == "published" else size
    return crop(image, (0, 0, W, H), side)[None]


def _whole_masked(image: Tensor, mask_logits: Tensor, side: int) -> Tensor:
    def squashed(maps: Tensor) -> Tensor:
        return F.interpolate(maps, size=(side, side), mode="bilinear", align_corners=False)

    inside = squashed(mask_logits[:, None]).sigmoid() > 0.5
    return squashed(image[None]) * inside
