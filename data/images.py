"""Images as paths, PIL images or arrays, brought to one form."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.arguments import described
from data.errors import SettingError
from data.pictures import read_image

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageLike = str | os.PathLike[str] | Image | np.ndarray


def as_image(image: ImageLike) -> np.ndarray:
    """An image as an array, as a viewer would show it.

    Parameters
    ----------
    image : path, PIL.Image.Image or ndarray
        An array is uint8: (H, W) or (H, W, 1) grey, (H, W, 3) RGB, or (H, W, 4) RGBA, which is laid
        over white. Files and PIL images are turned upright by their EXIF orientation.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8, RGB

    Raises
    ------
    ImageError
        The file cannot be read.
    SettingError
        Anything else; the message describes what was passed.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(Path(image))
    if isinstance(image, np.ndarray):
        return _from_array(image)
    from PIL import Image

    if isinstance(image, Image.Image):
        return _from_pillow(image)
    raise SettingError(f"image: expected {_EXPECTED}, found {described(image)}")


_EXPECTED = (
    "the path of a file, a PIL image, or a uint8 array of shape (H, W), (H, W, 3) or (H, W, 4)"
)


def _from_array(image: np.ndarray) -> np.ndarray:
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise SettingError(f"image: expected {_EXPECTED}, found {described(image)}")
    if image.size == 0:
        raise SettingError(f"image: an array of shape {image.shape} has no pixels")
    if channels == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if channels == 3:
        return np.ascontiguousarray(image)
    from PIL import Image

    return _from_pillow(Image.fromarray(image, "RGBA"))


def _from_pillow(image: Image) -> np.ndarray:
    from data.pictures import upright_rgb

    if 0 in image.size:
        raise SettingError(f"image: a PIL image of {image.width} x {image.height} has no pixels")
    return upright_rgb(image)
