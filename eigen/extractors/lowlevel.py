"""Features without weights: colour, its spread, oriented gradients and position of each patch.

Each patch is described by four short vectors. Each vector goes through random Fourier features, so
that the inner product of two patches is a weighted sum of four Gaussian kernels [1]: the affinity
of normalised cuts [2] in the form X X^T of a patch graph. Most of the mean over the image is then
subtracted: otherwise every patch resembles every other and the graph is nearly constant.

Gradients enter by the harmonics of their doubled angle (edges have no direction, only an
orientation), which is an oriented histogram without bins, on three scales.

References
----------
[1] Rahimi, Recht: Random features for large-scale kernel machines. NIPS 2007.
[2] Shi, Malik: Normalized cuts and image segmentation. PAMI 2000, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from eigen.extractors.contract import Size, checked_size, patch_grid, whole_patches

if TYPE_CHECKING:
    import torch

VERSION = 1  # increased whenever the features of the same image change
SCALES = 3  # full size, half, quarter
# Share of the image's mean that is subtracted. All of it would leave a one-colour image without
# features.
CENTRING = 0.95


class Part(NamedTuple):
    """One Gaussian kernel of the sum: its weight and how many cosine-sine pairs stand for it."""

    weight: float
    frequencies: int


PARTS = {
    "colour": Part(1.0, 64),
    "spread": Part(0.3, 32),
    "gradients": Part(0.8, 64),
    "place": Part(1.0, 32),
}

# Kernel widths: what counts as one standard deviation of difference.
WIDTH_LIGHTNESS = 30.0  # CIE L*, 0..100
WIDTH_CHROMA = 15.0  # CIE a*, b*
WIDTH_SPREAD = 0.5  # log(1 + standard deviation) of L*, a*, b* within a patch
WIDTH_GRADIENT = 1.0  # log(1 + mean gradient of L* per pixel); harmonics relative to it
WIDTH_PLACE = 0.14  # of the longer side of the image


class LowLevel:
    """Extractor `lowlevel` (patches of 16 pixels) and `lowlevel8`; see `contract.Extractor`."""

    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    weights_sha256 = None
    device = "cpu"
    dim = 2 * sum(part.frequencies for part in PARTS.values())

    def __init__(self, name: str = "lowlevel", *, patch: int = 16) -> None:
        self.name, self.patch = name, patch

    def grid(self, size: Size) -> Size:
        """Node grid (h, w) of an image of `size` (H, W) pixels."""
        return patch_grid(size, self.patch)

    def config(self) -> dict[str, Any]:
        """Everything that decides the features."""
        return {"name": self.name, "version": VERSION, "patch": self.patch}

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Features (B, h*w, dim) float32, unit rows, of B images (H, W, 3) uint8 of one size."""
        checked_size(images)
        return np.stack([_features(image, self.patch) for image in images])

    def features_tensor(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """The same as a tensor on the CPU."""
        import torch

        return torch.from_numpy(self(images))


def _features(image: np.ndarray, patch: int) -> np.ndarray:
    """(n, dim) float32 unit rows of one image."""
    parts = described(image, patch)
    # Square roots, because the weights scale inner products.
    rows = np.concatenate(
        [
            np.sqrt(np.float32(part.weight)) * _fourier(name, parts[name])
            for name, part in PARTS.items()
        ],
        axis=1,
    )
    rows -= np.float32(CENTRING) * rows.mean(axis=0)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def described(image: np.ndarray, patch: int) -> dict[str, np.ndarray]:
    """The vectors (n, columns) of every part, each in units of its kernel's width.

    `colour` is the mean of 8-bit Lab, `spread` the logarithm of 1 + its standard deviation,
    `gradients` strength and harmonics scale by scale, `place` row and column.
    """
    grid = patch_grid(image.shape[:2], patch)
    # Integer conversion: the same bytes on every CPU.
    lab = cv2.cvtColor(np.ascontiguousarray(whole_patches(image, patch)), cv2.COLOR_RGB2Lab)
    lab = lab.astype(np.float32)
    return {
        **_colour(lab, grid),
        "gradients": _gradients(lab[..., 0], grid),
        "place": _place(grid),
    }


def _patch_means(channels: np.ndarray, grid: Size) -> np.ndarray:
    """(H, W, c) float32 -> (n, c), the mean over each patch."""
    means = cv2.resize(channels, (grid[1], grid[0]), interpolation=cv2.INTER_AREA)
    return means.reshape(grid[0] * grid[1], -1)


def _colour(lab: np.ndarray, grid: Size) -> dict[str, np.ndarray]:
    """Mean and spread over each patch of 8-bit Lab (L* times 2.55), in kernel widths."""
    mean = _patch_means(lab, grid)
    variance = np.maximum(_patch_means(lab * lab, grid) - mean * mean, 0)
    unit = np.array([100 / 255, 1, 1], np.float32)
    widths = np.array([WIDTH_LIGHTNESS, WIDTH_CHROMA, WIDTH_CHROMA], np.float32)
    spread = np.log1p(np.sqrt(variance) * unit) / np.float32(WIDTH_SPREAD)
    return {"colour": mean * unit / widths, "spread": spread}


def _gradients(lightness: np.ndarray, grid: Size) -> np.ndarray:
    """(n, 5 per scale): log mean gradient, then cosine and sine of 2 and 4 times its angle."""
    parts: list[np.ndarray] = []
    level: np.ndarray = lightness * np.float32(100 / 255)
    for _ in range(SCALES):
        gx = cv2.Sobel(level, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
        gy = cv2.Sobel(level, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
        length = np.sqrt(gx * gx + gy * gy) + np.float32(1e-6)
        cos2, sin2 = (gx * gx - gy * gy) / length, 2 * gx * gy / length
        cos4, sin4 = (cos2 * cos2 - sin2 * sin2) / length, 2 * cos2 * sin2 / length
        strength, *harmonics = (
            _patch_means(channel, grid) for channel in (length, cos2, sin2, cos4, sin4)
        )
        parts += [np.log1p(strength), *(mean / (1 + strength) for mean in harmonics)]
        level = cv2.pyrDown(level)
    return np.concatenate(parts, axis=1) / np.float32(WIDTH_GRADIENT)


def _place(grid: Size) -> np.ndarray:
    """(n, 2): row and column of each patch over the longer side of the grid, in kernel widths."""
    rows, columns = np.indices(grid, dtype=np.float32)
    place = np.stack([rows.ravel(), columns.ravel()], axis=1)
    return place / np.float32(max(grid) * WIDTH_PLACE)


def _fourier(name: str, vectors: np.ndarray) -> np.ndarray:
    """Unit rows (n, 2 m) whose inner products approximate exp(-|x - y|^2 / 2)."""
    frequencies = _frequencies(name, vectors.shape[1])
    # einsum, not a BLAS product: its bytes do not depend on the number of threads.
    phase = np.einsum("nc,cm->nm", vectors, frequencies)
    return np.concatenate([np.cos(phase), np.sin(phase)], axis=1) / np.sqrt(
        np.float32(frequencies.shape[1])
    )


@lru_cache
def _frequencies(name: str, columns: int) -> np.ndarray:
    """Standard normal (columns, m), drawn separately for each part, the same in every process."""
    rng = np.random.default_rng([VERSION, list(PARTS).index(name)])
    return rng.standard_normal((columns, PARTS[name].frequencies)).astype(np.float32)
