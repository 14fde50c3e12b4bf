"""Eigenvectors from the node grid to the pixels of the photo.

Contract: cells of the grid are squares of `patch` pixels laid from the upper left corner. What they
leave uncovered at the lower and right border (the strip lost to whole patches) repeats the nearest
cell; what they cover beyond the border (photos smaller than a patch) is cut off. The output has the
photo's size exactly.
"""

from __future__ import annotations

import cv2
import numpy as np

from data.errors import SettingError

METHODS = ("bilinear", "guided")


def upsample(
    vectors: np.ndarray,
    size: tuple[int, int],
    *,
    patch: int | None = None,
    method: str = "bilinear",
    image: np.ndarray | None = None,
) -> np.ndarray:
    """Bring grid vectors to pixels.

    Parameters
    ----------
    vectors : ndarray, shape (K, h, w)
    size : tuple of int
        (H, W) in pixels.
    patch : int, optional
        Side of a cell in pixels of `size`; None infers it, see `cell_side`.
    method : {"bilinear", "guided"}
        "bilinear" as published (pixel centres, no corner alignment); "guided" follows it by a
        guided filter, which moves the soft borders of the cells to the edges of `image`.
    image : ndarray, shape (H, W, 3), uint8
        The photo; "guided" needs it.

    Returns
    -------
    ndarray, shape (K, H, W), float32

    Raises
    ------
    SettingError
        Vectors that are not (K, h, w), an unknown method, or no image of that size to be guided by.
    """
    if vectors.ndim != 3 or 0 in vectors.shape[1:]:
        raise SettingError(f"vectors: expected shape (K, h, w), found {vectors.shape}")
    if method not in METHODS:
        raise SettingError(f"method: expected one of {', '.join(METHODS)}, found {method!r}")
    pixels = np.empty((len(vectors), *size), np.float32)
    for out, vector in zip(pixels, vectors, strict=True):
        out[:] = _bilinear(np.asarray(vector, np.float32), size, patch)
    if method == "bilinear" or not len(pixels):
        return pixels
    if image is None or image.shape != (*size, 3):
        found = "none" if image is None else f"shape {image.shape}"
        raise SettingError(f"image: guided upsampling needs shape {(*size, 3)}, found {found}")
    side = max(size[0] / vectors.shape[1], size[1] / vectors.shape[2])
    return guided_filter(image, pixels, radius=max(1, round(side)))


def cell_side(size: tuple[int, int], grid: tuple[int, int]) -> int | None:
    """Largest patch side P with grid == (max(1, H // P), max(1, W // P)); None if there is none.

    On a photo of many patches only one side fits. On a small one several may, and the largest
    leaves the narrowest strip uncovered. None means a grid that was laid over the whole photo.
    """
    # A single cell also stands for a photo narrower than a patch, so it sets no upper bound.
    upper = [n // cells for n, cells in zip(size, grid, strict=True) if cells > 1]
    side = min(upper) if upper else max(size)
    fits = side >= 1 and all(
        max(1, n // side) == cells for n, cells in zip(size, grid, strict=True)
    )
    return side if fits else None


def _bilinear(vector: np.ndarray, size: tuple[int, int], patch: int | None) -> np.ndarray:
    height, width = size
    side = patch or cell_side(size, vector.shape)
    rows, columns = (n * side for n in vector.shape) if side else size
    covered = cv2.resize(vector, (columns, rows), interpolation=cv2.INTER_LINEAR)[:height, :width]
    below, right = height - covered.shape[0], width - covered.shape[1]
    return cv2.copyMakeBorder(covered, 0, below, 0, right, cv2.BORDER_REPLICATE)


def guided_filter(
    image: np.ndarray, planes: np.ndarray, *, radius: int, epsilon: float = 1e-3
) -> np.ndarray:
    """Filter planes so that in each window they are an affine function of the photo's colours.

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

    def mean(plane: np.ndarray) -> np.ndarray:
        window = (2 * radius + 1, 2 * radius + 1)
        return cv2.boxFilter(plane, cv2.CV_64F, window, borderType=cv2.BORDER_REPLICATE)

    guide = image.astype(np.float64) / 255
    guide_mean = mean(guide)
    covariance = np.empty((*image.shape[:2], 3, 3))
    for i in range(3):
        for j in range(i, 3):
            product = mean(guide[..., i] * guide[..., j])
            covariance[..., i, j] = product - guide_mean[..., i] * guide_mean[..., j]
            covariance[..., j, i] = covariance[..., i, j]
    inverse = np.linalg.inv(covariance + epsilon * np.eye(3))
    filtered = np.empty_like(planes)
    for out, plane in zip(filtered, planes.astype(np.float64), strict=True):
        plane_mean = mean(plane)
        cross = mean(guide * plane[..., None]) - guide_mean * plane_mean[..., None]
        slope = np.einsum("hwij,hwj->hwi", inverse, cross)
        offset = plane_mean - np.einsum("hwi,hwi->hw", slope, guide_mean)
        out[:] = np.einsum("hwi,hwi->hw", mean(slope), guide) + mean(offset)
    return filtered
