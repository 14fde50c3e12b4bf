"""Small images as data URIs, for a page that fetches nothing."""

from __future__ import annotations

import base64
import io
import math

import cv2
import numpy as np
from PIL import Image

from eval.figures import RGB

SIDE = 256  # pixels: twice the height at which strips are shown, for screens of high density
QUALITY = 72


def fit(size: tuple[int, int], side: int = SIDE) -> tuple[int, int]:
    """(H, W) shrunk so that the longer side has at most `side` pixels; never enlarged."""
    scale = min(1.0, side / max(size))
    return max(1, math.floor(size[0] * scale)), max(1, math.floor(size[1] * scale))


def shrink(image: np.ndarray, side: int = SIDE) -> np.ndarray:
    """An image (H, W, 3) at the size of `fit`, by area averaging."""
    height, width = fit(image.shape[:2], side)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def picture_uri(image: np.ndarray) -> str:
    """Data URI of an image (H, W, 3) uint8 at its own size, as lossy WebP."""
    return _uri(Image.fromarray(image), "webp", quality=QUALITY, method=2)


def mask_uri(mask: np.ndarray, colour: RGB) -> str:
    """Data URI of a mask (H, W) bool at its own size, as PNG of one bit per pixel.

    True has the colour, False is transparent.
    """
    picture = Image.fromarray(mask.astype(np.uint8))
    picture.putpalette((0, 0, 0, *colour))
    return _uri(picture, "png", bits=1, transparency=0)


def _uri(picture: Image.Image, kind: str, **options: int) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
