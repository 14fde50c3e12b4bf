"""Augmentation of SAZS's training samples.

Images are (H, W, 3) uint8 RGB and label maps (H, W) uint8. Random numbers come from the generator
that is passed in, so a sample depends on its seed alone, not on the worker.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from data.errors import DatasetError
from data.pictures import IGNORE

MEAN = (0.29010095242892997, 0.32808144844279574, 0.28696394422942517)
STD = (0.1829540508368939, 0.18656561047509476, 0.18447508988480435)
"""Mean and deviation of RGB pixels, scaled to 0..1, that images are normalised with: those of
Cityscapes, which SAZS publishes for both of its data sets."""


def augment(
    image: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
    *,
    rotate: int = 10,
    scale: float = 2.0,
    crop: int = 512,
) -> tuple[np.ndarray, np.ndarray]:
    """Rotate, scale, crop and mirror at random, in this order.

    Parameters
    ----------
    rotate
        Largest angle in degrees; whole degrees are drawn. 0 for none.
    scale
        Largest factor, and inverse of the smallest. 0 for none.
    crop
        Side of the square crop in pixels; padding at the right and bottom is black, 255 in the
        labels.

    Returns
    -------
    image
        (crop, crop, 3) uint8.
    labels
        (crop, crop) uint8.

    Raises
    ------
    DatasetError
        The label map does not have the image's size.
    """
    if image.shape[:2] != labels.shape:
        raise DatasetError(
            f"labels: expected the image's size {image.shape[:2]}, found {labels.shape}"
        )
    if rotate > 0:
        image, labels = turned(image, labels, int(rng.integers(-rotate, rotate + 1)))
    if scale > 0:
        image, labels = scaled(image, labels, rng.uniform(1 / scale, scale))
    image, labels = cropped(image, labels, crop, rng)
    if rng.random() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    return np.ascontiguousarray(image), np.ascontiguousarray(labels)


def turned(image: np.ndarray, labels: np.ndarray, angle: int) -> tuple[np.ndarray, np.ndarray]:
    """Rotate about the centre by `angle` degrees counter-clockwise; the size stays.

    Beyond its borders the image is mirrored, at the top and left without the outermost pixel, at
    the bottom and right with it (as published); the labels are 255 there.
    """
    if angle == 0:
        return image, labels
    height, width = labels.shape
    # How far a corner of the window can reach outside, plus a pixel for interpolation.
    reach = math.ceil(math.sin(math.radians(abs(angle))) * max(height, width) / 2) + 2
    window = (reach, reach, reach + width, reach + height)
    rows, columns = (_mirrored(length, reach) for length in (height, width))
    padded = Image.fromarray(image[np.ix_(rows, columns)])
    image = np.array(padded.rotate(angle, Image.Resampling.BILINEAR).crop(window))
    padded = Image.fromarray(np.pad(labels, reach, constant_values=IGNORE))
    padded = padded.rotate(angle, Image.Resampling.NEAREST, fillcolor=IGNORE)
    return image, np.array(padded.crop(window))


def _mirrored(length: int, reach: int) -> np.ndarray:
    """Indices -reach .. length + reach - 1, folded back into the range as in `turned`."""
    period = max(2 * length - 1, 1)
    index = np.mod(np.arange(-reach, length + reach), period)
    return np.where(index < length, index, period - index)


def scaled(image: np.ndarray, labels: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Resize both sides by `factor`, rounded down: Lanczos to shrink, bicubic to enlarge."""
    height, width = labels.shape
    size = (max(int(width * factor), 1), max(int(height * factor), 1))
    filter_ = Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC
    image = np.array(Image.fromarray(image).resize(size, filter_))
    return image, np.array(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))


def cropped(
    image: np.ndarray, labels: np.ndarray, side: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Crop a square at random; an image that is too small is padded at the right and bottom."""
    height, width = labels.shape
    top = int(rng.integers(max(height - side, 0) + 1))
    left = int(rng.integers(max(width - side, 0) + 1))
    image = image[top : top + side, left : left + side]
    labels = labels[top : top + side, left : left + side]
    missing = ((0, side - labels.shape[0]), (0, side - labels.shape[1]))
    image = np.pad(image, (*missing, (0, 0)))
    return image, np.pad(labels, missing, constant_values=IGNORE)
