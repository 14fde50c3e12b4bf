"""ZegFormer's preparation of images: resizing, crop, colours, flip, padding, one mask per class.

Images are (H, W, 3) uint8 RGB and labels (H, W) uint8 or uint16 throughout. All random
numbers come from the generator that is passed in.

Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation", 2021; colour
changes after Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

PADDING = 128
_CROP_TRIES = 10


@dataclass(frozen=True)
class Augmentation:
    """Settings of a training sample; the defaults are those of COCO-Stuff.

    Attributes
    ----------
    short_sides : one is drawn for the shorter side, in pixels
    longest : the longer side is at most this
    crop : side of the random square crop
    max_area : a crop is drawn again, up to ten times, while one class covers at least this share
        of its labelled pixels; 1 takes the first
    colours : change brightness, contrast, saturation and hue
    padded : side of the padded square; below 1 leaves the crop as it is
    ignore : label value without a class
    """

    short_sides: Sequence[int] = (320, 384, 448, 512, 576, 640, 704, 768, 832, 896, 960)
    longest: int = 2560
    crop: int = 640
    max_area: float = 1.0
    colours: bool = True
    padded: int = 640
    ignore: int = 255


def train_sample(
    image: np.ndarray, label: np.ndarray, settings: Augmentation, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A random view of an image and its label: (side, side, 3) uint8 and (side, side)."""
    short = int(rng.choice(np.asarray(settings.short_sides)))
    size = resized_size(*image.shape[:2], short=short, longest=settings.longest)
    image, label = resize_image(image, size), resize_label(label, size)
    window = crop_window(label, settings, rng)
    image, label = image[window], label[window]
    if settings.colours:
        image = changed_colours(image, rng)
    if rng.random() < 0.5:
        image, label = image[:, ::-1], label[:, ::-1]
    image = padded(image, settings.padded, PADDING)
    return image, padded(label, settings.padded, settings.ignore)


def test_image(image: np.ndarray, *, short: int = 640, longest: int = 2560) -> np.ndarray:
    """An image resized as for the network's input at test time."""
    return resize_image(image, resized_size(*image.shape[:2], short=short, longest=longest))


def resized_size(height: int, width: int, *, short: int, longest: int) -> tuple[int, int]:
    """(height, width) with the shorter side `short`, unless the longer would exceed `longest`."""
    scale = short / min(height, width)
    new = (float(short), scale * width) if height < width else (scale * height, float(short))
    if max(new) > longest:
        shrink = longest / max(new)
        new = (new[0] * shrink, new[1] * shrink)
    return int(new[0] + 0.5), int(new[1] + 0.5)


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, antialiased when shrinking (Pillow)."""
    if image.shape[:2] == size:
        return image
    shrunk = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(shrunk)


def resize_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest neighbour by torch, with which the published pipeline resizes labels as float64.

    Other libraries round differently where a source position is within rounding of an integer.
    """
    import torch

    values = torch.from_numpy(label.astype(np.float64))[None, None]
    resized = torch.nn.functional.interpolate(values, size=size, mode="nearest")
    return resized[0, 0].numpy().astype(label.dtype)


def crop_window(
    label: np.ndarray, settings: Augmentation, rng: np.random.Generator
) -> tuple[slice, slice]:
    """Rows and columns of a random crop."""
    H, W = label.shape
    h, w = min(H, settings.crop), min(W, settings.crop)
    for _ in range(_CROP_TRIES):
        top, left = int(rng.integers(H - h + 1)), int(rng.integers(W - w + 1))
        window = slice(top, top + h), slice(left, left + w)
        if settings.max_area >= 1 or _is_varied(label[window], settings):
            break
    return window


def _is_varied(label: np.ndarray, settings: Augmentation) -> bool:
    counts = np.bincount(label[label != settings.ignore])
    counts = counts[counts > 0]
    return len(counts) > 1 and counts.max() < settings.max_area * counts.sum()


def changed_colours(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change each of brightness, contrast, saturation and hue with probability 1/2."""
    if rng.random() < 0.5:
        image = brightness(image, rng.uniform(-32, 32))
    early = rng.random() < 0.5
    changes = ("contrast", "saturation", "hue") if early else ("saturation", "hue", "contrast")
    for change in changes:
        if rng.random() >= 0.5:
            continue
        if change == "contrast":
            image = contrast(image, rng.uniform(0.5, 1.5))
        elif change == "saturation":
            image = saturation(image, rng.uniform(0.5, 1.5))
        else:
            image = hue(image, int(rng.integers(-18, 19)))
    return image


def brightness(image: np.ndarray, delta: float) -> np.ndarray:
    """Add `delta`, in 0 to 255."""
    return _clipped(image.astype(np.float32) + np.float32(delta))


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Multiply by `factor`."""
    return _clipped(image.astype(np.float32) * np.float32(factor))


def saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Multiply the S of HSV by `factor`."""
    hsv = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2HSV)
    hsv[..., 1] = _clipped(hsv[..., 1].astype(np.float32) * np.float32(factor))
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def hue(image: np.ndarray, delta: int) -> np.ndarray:
    """Shift the H of HSV by `delta` of OpenCV's 180 steps."""
    hsv = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(np.int64) + delta) % 180
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _clipped(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype(np.uint8)


def padded(array: np.ndarray, side: int, value: int) -> np.ndarray:
    """Pad `array` at the right and bottom to `side`, or crop it; below 1 it stays unchanged."""
    if side < 1:
        return array
    part = array[:side, :side]
    full = np.full((side, side, *array.shape[2:]), value, array.dtype)
    full[: part.shape[0], : part.shape[1]] = part
    return full


def class_masks(label: np.ndarray, ignore: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes present, (n,) int64 ascending, and the mask of each, (n, H, W) bool."""
    classes = np.unique(label)
    classes = classes[classes != ignore]
    return classes.astype(np.int64), label[None] == classes[:, None, None]
