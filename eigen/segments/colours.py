"""Features and eigenvectors as RGB images, in colours that mean the same across a data set."""

from __future__ import annotations

import numpy as np

from data.errors import SettingError
from eigen.leading import has_constant
from eigen.pairs import Cells, Eigenpairs, Size
from eigen.upsample import upsample, upsample_pairs

# Standard deviations from the mean to either end of a colour channel.
SPAN = 2.0
# Shares of the pixels of one image that a channel leaves dark or saturated.
LOW, HIGH = 2, 98


def eigenvector_rgb(pairs: Eigenpairs) -> np.ndarray:
    """The first three non-constant eigenvectors as red, green and blue, (H, W, 3) uint8.

    Each channel is stretched over the values of this image. Missing vectors leave a channel grey.
    """
    first = int(has_constant(pairs))
    planes = upsample_pairs(pairs)[first : first + 3]
    image = np.full((*pairs.size, 3), 128, np.uint8)
    for channel, plane in enumerate(planes):
        low, high = np.percentile(plane, (LOW, HIGH))
        if high > low:
            scaled = np.clip((plane - low) / (high - low), 0, 1)
            image[..., channel] = np.rint(scaled * 255)
    return image


class Moments:
    """Mean and covariance of features that are added a few rows at a time; `count` rows so far."""

    def __init__(self) -> None:
        self.count = 0
        self._sum, self._products = np.zeros(0), np.zeros((0, 0))

    def add(self, features: np.ndarray) -> None:
        """Count the rows of (n, dim) features in."""
        if not self.count and features.ndim == 2:
            dim = features.shape[1]
            self._sum, self._products = np.zeros(dim), np.zeros((dim, dim))
        if features.ndim != 2 or features.shape[1] != len(self._sum):
            raise SettingError(f"features: expected (n, {len(self._sum)}), found {features.shape}")
        rows = features.astype(np.float64)
        self.count += len(rows)
        self._sum += rows.sum(axis=0)
        self._products += rows.T @ rows

    def components(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean (dim,), variances (dim,) in falling order, and principal components (dim, dim).

        Signs are chosen so that the largest entry of a component is positive.

        Raises
        ------
        SettingError
            Nothing was added.
        """
        if not self.count:
            raise SettingError("no features: add those of at least one image first")
        mean = self._sum / self.count
        covariance = self._products / self.count - np.outer(mean, mean)
        variance, components = np.linalg.eigh(covariance)
        components, variance = components[:, ::-1], variance[::-1]
        largest = np.take_along_axis(components, np.abs(components).argmax(axis=0)[None], axis=0)
        return mean, np.maximum(variance, 0), components * np.sign(largest)


class PcaColours:
    """Principal components of all features of a data set; memory does not grow with it.

    `add` every image's features, then `rgb` gives each image in colours that are aligned: one
    colour is one kind of feature, in whichever image. The result does not depend on batches, only
    on the order in which images are added, and on that by rounding alone.
    """

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._moments = Moments()

    def add(self, features: np.ndarray) -> None:
        """Count the rows of (n, dim) features in."""
        if features.ndim != 2 or features.shape[1] != self._dim:
            raise SettingError(f"features: expected (n, {self._dim}), found {features.shape}")
        self._moments.add(features)

    def basis(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean (dim,), components (dim, 3) and their standard deviations (3,).

        Raises
        ------
        SettingError
            Nothing was added.
        """
        mean, variance, components = self._moments.components()
        return mean, components[:, :3], np.sqrt(variance[:3])

    def rgb(self, features: np.ndarray, grid: Size, size: Size, cells: Cells) -> np.ndarray:
        """The image (H, W, 3) uint8 of the features (h*w, dim) of one image of `size` (H, W)."""
        mean, components, deviation = self.basis()
        values = (features - mean) @ components / np.where(deviation > 0, SPAN * deviation, 1)
        planes = upsample(values.T.reshape(-1, *grid), size, cells=cells)
        planes = np.clip((planes + 1) / 2, 0, 1)
        missing = np.full((3 - len(planes), *size), 0.5, np.float32)
        return np.rint(np.moveaxis(np.concatenate([planes, missing]), 0, -1) * 255).astype(np.uint8)
