"""Eigenvectors from the node grid to the pixels of the image.

Contract: a cell's value belongs to its centre, as `eigen.pairs.Cells` places it; between centres
values are interpolated. What the cells leave uncovered at the border repeats the nearest cell, and
what they cover beyond it is cut off. The output has the image's size exactly.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from data.errors import SettingError
from eigen.pairs import Cells, Eigenpairs

METHODS = ("bilinear", "guided")
BAND_PIXELS = 2_000_000
"""Pixels that the guided filter holds in memory at a time, with about 300 bytes each."""


def upsample(
    vectors: np.ndarray,
    size: tuple[int, int],
    *,
    cells: Cells | None = None,
    method: str = "bilinear",
    image: np.ndarray | None = None,
) -> np.ndarray:
    """Bring grid vectors to pixels.

    Parameters
    ----------
    vectors : ndarray, shape (K, h, w)
    size : tuple of int
        (H, W) in pixels.
    cells : Cells, optional
        Where the nodes lie, in pixels of `size`; by default the grid covers the image exactly.
    method : {"bilinear", "guided"}
        "bilinear" as published (pixel centres, no corner alignment); "guided" follows it by a
        guided filter, which moves the soft borders of the cells to the edges of `image`.
    image : ndarray, shape (H, W, 3), uint8
        The image; "guided" needs it.

    Returns
    -------
    ndarray, shape (K, H, W), float32

    Raises
    ------
    SettingError
        Vectors that are not (K, h, w), an unknown method, or no image of that size for "guided".
    """
    pixels = np.empty((len(vectors), *size), np.float32)
    planes = upsample_each(vectors, size, cells=cells, method=method, image=image)
    for out, plane in zip(pixels, planes, strict=True):
        out[:] = plane
    return pixels


def upsample_each(
    vectors: np.ndarray,
    size: tuple[int, int],
    *,
    cells: Cells | None = None,
    method: str = "bilinear",
    image: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """As `upsample`, one (H, W) plane at a time: for images whose K planes do not fit in memory.

    A plane holds until the next one is taken, which may be written over it.
    """
    if vectors.ndim != 3 or 0 in vectors.shape[1:]:
        raise SettingError(f"vectors: expected shape (K, h, w), found {vectors.shape}")
    if method not in METHODS:
        raise SettingError(f"method: expected one of {', '.join(METHODS)}, found {method!r}")
    cells = cells or Cells.over(size, (vectors.shape[1], vectors.shape[2]))
    if method == "guided" and (image is None or image.shape != (*size, 3)):
        found = "none" if image is None else f"shape {image.shape}"
        raise SettingError(f"image: guided upsampling needs shape {(*size, 3)}, found {found}")
    radius = max(1, round(max(cells.height, cells.width)))
    guide = _Guide(image, radius) if method == "guided" and image is not None else None
    return _planes(vectors, size, cells, guide)


def _planes(
    vectors: np.ndarray, size: tuple[int, int], cells: Cells, guide: _Guide | None
) -> Iterator[np.ndarray]:
    extent = vectors.shape[1] * cells.height, vectors.shape[2] * cells.width
    whole = cells.top == cells.left == 0 and all(abs(n - round(n)) < 1e-6 for n in extent)
    # Fresh pages for each plane would take longer than the interpolation.
    buffer = np.empty((round(extent[0]), round(extent[1])), np.float32) if whole else None
    for vector in vectors:
        values = np.asarray(vector, np.float32)
        if buffer is None:
            plane = _bilinear(values, size, cells)
        else:
            plane = _bilinear_from_corner(values, size, buffer)
        yield plane if guide is None else guide(plane)


def upsample_pairs(
    pairs: Eigenpairs,
    size: tuple[int, int] | None = None,
    *,
    method: str = "bilinear",
    image: np.ndarray | None = None,
) -> np.ndarray:
    """Bring the vectors of `pairs` to an image of `size` (H, W), by default that of their image.

    `method`, `image`, the result and the errors are those of `upsample`.
    """
    size = size or pairs.size
    cells = pairs.cells.resized(pairs.size, size)
    return upsample(pairs.vectors, size, cells=cells, method=method, image=image)


def _bilinear(vector: np.ndarray, size: tuple[int, int], cells: Cells) -> np.ndarray:
    top, bottom, down = _neighbours(size[0], cells.top, cells.height, vector.shape[0])
    left, right, across = _neighbours(size[1], cells.left, cells.width, vector.shape[1])
    rows = vector[top] + down[:, None] * (vector[bottom] - vector[top])
    return rows[:, left] + across * (rows[:, right] - rows[:, left])


def _bilinear_from_corner(
    vector: np.ndarray, size: tuple[int, int], buffer: np.ndarray
) -> np.ndarray:
    """The published operation: resize to whole pixels, then crop or repeat the border."""
    height, width = size
    cv2.resize(vector, buffer.shape[::-1], dst=buffer, interpolation=cv2.INTER_LINEAR)
    resized = buffer[:height, :width]
    below, right = height - resized.shape[0], width - resized.shape[1]
    if below == right == 0:
        return resized
    return cv2.copyMakeBorder(resized, 0, below, 0, right, cv2.BORDER_REPLICATE)


def _neighbours(
    pixels: int, origin: float, extent: float, cells: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each pixel along an axis: the cells before and after it, and the weight of the latter."""
    position = np.clip((np.arange(pixels) + 0.5 - origin) / extent - 0.5, 0, cells - 1)
    before = np.floor(position).astype(np.intp)
    return before, np.minimum(before + 1, cells - 1), (position - before).astype(np.float32)


def guided_filter(
    image: np.ndarray, planes: np.ndarray, *, radius: int, epsilon: float = 1e-3
) -> np.ndarray:
    """Filter planes so that in each window they are an affine function of the image's colours.

    He, Sun and Tang, "Guided Image Filtering", PAMI 2013, equations 14 to 16 (colour guide).

    Parameters
    ----------
    image : ndarray, shape (H, W, 3), uint8
    planes : ndarray, shape (K, H, W), float32
    radius : int
        Half side of the window in pixels; about one cell of the grid the planes came from.
    epsilon : float
        Colour variance (colours from 0 to 1) below which a window counts as flat.

    Returns
    -------
    ndarray, shape (K, H, W), float32
    """
    guide = _Guide(image, radius, epsilon)
    return np.stack([guide(plane) for plane in planes]) if len(planes) else np.empty_like(planes)


class _Guide:
    """The part of `guided_filter` that depends on the image alone, in bands of rows.

    A band is filtered with the rows around it that its windows reach, so that memory does not grow
    with the image; where one band covers the image, its statistics are kept for the next plane.
    """

    def __init__(self, image: np.ndarray, radius: int, epsilon: float = 1e-3):
        self._image, self._radius, self._epsilon = image, radius, epsilon
        self._rows = max(1, BAND_PIXELS // image.shape[1])
        self._kept = self._statistics(image) if self._rows >= len(image) else None

    def __call__(self, plane: np.ndarray) -> np.ndarray:
        if self._kept is not None:
            return self._filtered(plane, *self._kept)
        filtered = np.empty_like(plane)
        for start in range(0, len(plane), self._rows):
            stop = min(start + self._rows, len(plane))
            first, last = max(0, start - 2 * self._radius), stop + 2 * self._radius
            statistics = self._statistics(self._image[first:last])
            band = self._filtered(plane[first:last], *statistics)
            filtered[start:stop] = band[start - first : stop - first]
        return filtered

    def _mean(self, plane: np.ndarray) -> np.ndarray:
        window = (2 * self._radius + 1, 2 * self._radius + 1)
        return cv2.boxFilter(plane, cv2.CV_64F, window, borderType=cv2.BORDER_REPLICATE)

    def _statistics(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Guide, its windows' means, and the inverses of their covariances."""
        guide = image.astype(np.float64) / 255
        guide_mean = self._mean(guide)
        covariance = np.empty((*image.shape[:2], 3, 3))
        for i in range(3):
            for j in range(i, 3):
                product = self._mean(guide[..., i] * guide[..., j])
                covariance[..., i, j] = product - guide_mean[..., i] * guide_mean[..., j]
                covariance[..., j, i] = covariance[..., i, j]
        return guide, guide_mean, np.linalg.inv(covariance + self._epsilon * np.eye(3))

    def _filtered(
        self, plane: np.ndarray, guide: np.ndarray, guide_mean: np.ndarray, inverse: np.ndarray
    ) -> np.ndarray:
        plane = plane.astype(np.float64)
        plane_mean = self._mean(plane)
        cross = self._mean(guide * plane[..., None]) - guide_mean * plane_mean[..., None]
        slope = np.einsum("hwij,hwj->hwi", inverse, cross)
        offset = plane_mean - np.einsum("hwi,hwi->hw", slope, guide_mean)
        filtered = np.einsum("hwi,hwi->hw", self._mean(slope), guide) + self._mean(offset)
        return filtered.astype(np.float32)
