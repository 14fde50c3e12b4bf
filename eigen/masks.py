"""Binary masks from eigenvectors.

Contract: a mask has the image's size exactly, and the same pairs give the same masks on any
machine load. Vectors are upsampled first and thresholded afterwards, so borders are smooth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np

from data.errors import SettingError
from eigen.pairs import Eigenpairs
from eigen.upsample import upsample_each

STRIP_BYTES = 1 << 28
"""Bytes that `kmeans` may use for the planes of a strip of rows, and again for its distances."""


def masks(
    pairs: Eigenpairs,
    size: tuple[int, int] | None = None,
    method: str = "zero",
    *,
    upsampling: str = "bilinear",
    image: np.ndarray | None = None,
) -> np.ndarray:
    """One mask for each eigenvector.

    Parameters
    ----------
    pairs : Eigenpairs
    size : tuple of int, optional
        (H, W) of the masks; the size of the image by default.
    method : {"zero", "otsu", "kmeans", "components"}
        "zero": vector > 0, as published. "otsu": above the threshold that best separates the
        vector's values into two groups. "components": largest 4-connected piece of the "zero" mask.
        "kmeans": K groups of pixels by all vectors but the constant one, so the masks are a
        partition; the group with most of the frame comes first, the others by falling size.
    upsampling, image
        As `method` and `image` of `eigen.upsample.upsample`.

    Returns
    -------
    ndarray, shape (K, H, W), bool

    Raises
    ------
    SettingError
        `method` or `upsampling` is unknown, or guided upsampling has no image of that size.
    """
    return np.stack(list(each_mask(pairs, size, method, upsampling=upsampling, image=image)))


def each_mask(
    pairs: Eigenpairs,
    size: tuple[int, int] | None = None,
    method: str = "zero",
    *,
    upsampling: str = "bilinear",
    image: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """As `masks`, one (H, W) mask at a time, in memory that does not grow with K."""
    if method not in _METHODS:
        raise SettingError(f"method: expected one of {', '.join(_METHODS)}, found {method!r}")
    size = size or pairs.size
    cells = pairs.cells.resized(pairs.size, size)

    def planes(vectors: np.ndarray) -> Iterator[np.ndarray]:
        return upsample_each(vectors, size, cells=cells, method=upsampling, image=image)

    return _METHODS[method](pairs, size, planes)


Planes = Callable[[np.ndarray], Iterator[np.ndarray]]
"""From vectors (K, h, w) to their planes (H, W), one by one."""


def _zero(pairs: Eigenpairs, size: tuple[int, int], planes: Planes) -> Iterator[np.ndarray]:
    return (plane > 0 for plane in planes(pairs.vectors))


def _otsu(pairs: Eigenpairs, size: tuple[int, int], planes: Planes) -> Iterator[np.ndarray]:
    return (plane > otsu_threshold(plane) for plane in planes(pairs.vectors))


def _components(pairs: Eigenpairs, size: tuple[int, int], planes: Planes) -> Iterator[np.ndarray]:
    return (largest_component(plane > 0) for plane in planes(pairs.vectors))


def otsu_threshold(values: np.ndarray) -> float:
    """Otsu's threshold (IEEE SMC 1979), exact: over all values instead of a histogram's bins.

    Returns the largest value of the lower group, so `values > threshold` is the upper group. It is
    empty only if all values are equal.
    """
    ordered = np.sort(values, axis=None).astype(np.float64)
    below = np.arange(1, len(ordered))
    total = np.cumsum(ordered)
    mean_gap = (total[-1] - total[:-1]) / (len(ordered) - below) - total[:-1] / below
    between = below * (len(ordered) - below) * mean_gap**2
    between[np.diff(ordered) == 0] = -1.0  # equal values cannot be separated
    if not len(between) or between.max() < 0:
        return float(ordered[-1])
    return float(ordered[np.argmax(between)])


def largest_component(mask: np.ndarray) -> np.ndarray:
    """Largest 4-connected component of a (H, W) bool mask; of equal ones the first in row order."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    areas = statistics[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    first = np.isin(labels, np.flatnonzero(areas == areas.max())).argmax()
    return mask & (labels == labels.flat[first])


def _kmeans(pairs: Eigenpairs, size: tuple[int, int], planes: Planes) -> Iterator[np.ndarray]:
    flat = 1e-4 * np.abs(pairs.vectors).max()  # the constant vector is constant up to rounding
    informative = [k for k in range(pairs.k) if np.ptp(pairs.vectors[k]) > flat]
    if not informative:
        return (np.full(size, k == 0) for k in range(pairs.k))
    vectors = pairs.vectors[informative]
    nodes = np.moveaxis(vectors, 0, -1).reshape(-1, len(informative)).astype(np.float64)
    group = _nearest_centre(vectors, size, planes, _kmeans_centres(nodes, pairs.k))
    frame = np.concatenate([group[0], group[-1], group[1:-1, 0], group[1:-1, -1]])
    area = np.bincount(group.ravel(), minlength=pairs.k)
    background = np.bincount(frame, minlength=pairs.k).argmax()
    area[background] = group.size + 1
    order = np.argsort(-area, kind="stable")
    return (group == k for k in order)


def _nearest_centre(
    vectors: np.ndarray, size: tuple[int, int], planes: Planes, centres: np.ndarray
) -> np.ndarray:
    """Group (H, W) of each pixel, in strips of rows whose planes fit in memory together."""
    group = np.empty(size, np.int16)
    row_bytes = size[1] * len(vectors) * 4
    strip = max(1, STRIP_BYTES // row_bytes)
    step = max(1, STRIP_BYTES // (2 * row_bytes * len(centres)))
    for start in range(0, size[0], strip):
        stop = min(start + strip, size[0])
        pixels = np.stack([plane[start:stop].copy() for plane in planes(vectors)], axis=-1)
        for first in range(0, stop - start, step):
            difference = pixels[first : first + step, :, None] - centres
            rows = slice(start + first, min(start + first + step, stop))
            group[rows] = (difference**2).sum(-1).argmin(-1)
    return group


def _kmeans_centres(nodes: np.ndarray, k: int) -> np.ndarray:
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    distinct = len(np.unique(nodes, axis=0))
    # One thread: another order of summation could move a node that lies between two centres.
    with threadpool_limits(1):
        return KMeans(min(k, distinct), n_init=10, random_state=0).fit(nodes).cluster_centers_


_METHODS: dict[str, Callable[[Eigenpairs, tuple[int, int], Planes], Iterator[np.ndarray]]] = {
    "zero": _zero,
    "otsu": _otsu,
    "kmeans": _kmeans,
    "components": _components,
}
