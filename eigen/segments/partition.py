"""k-way partitions of one image: label maps at pixels, and what each segment is like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data.arguments import check_type
from data.errors import SettingError
from eigen.leading import leading
from eigen.pairs import Eigenpairs
from eigen.segment_spec import MOST_SEGMENTS
from eigen.segments.discretise import discretise
from eigen.upsample import upsample


@dataclass(frozen=True, eq=False)
class Segments:
    """A partition of an image into segments 0 to k - 1.

    Segment 0 holds most of the frame of the image; the others follow by falling area.

    Attributes
    ----------
    labels : ndarray, shape (H, W), uint8
    nodes : ndarray, shape (h, w), uint8
        The same on the node grid. A segment of few nodes may have no pixel, or the reverse.
    k : int
    """

    labels: np.ndarray
    nodes: np.ndarray
    k: int


def segments(
    pairs: Eigenpairs,
    k: int | None = None,
    method: str = "rotation",
    *,
    upsampling: str = "bilinear",
    image: np.ndarray | None = None,
    seed: int = 0,
) -> Segments:
    """Partition an image by its first eigenvectors.

    Parameters
    ----------
    pairs : Eigenpairs
        The constant one among them.
    k : int, optional
        Segments; None takes the largest eigengap that the pairs show, see `by_eigengap`.
    method : {"rotation", "cluster_qr", "kmeans"}
        See `eigen.segments.discretise.discretise`.
    upsampling, image
        As `method` and `image` of `eigen.upsample.upsample`.
    seed : int
        Of k-means.

    Raises
    ------
    SettingError
        More segments than nodes or eigenpairs, or an unknown method.
    """
    check_type("pairs", pairs, Eigenpairs, "Eigenpairs")
    k = number_of_segments(pairs, k)
    vectors = leading(pairs, k).vectors.reshape(k, -1).T
    shares = discretise(vectors, method, seed=seed)
    planes = pixel_shares(shares, pairs, upsampling=upsampling, image=image)
    nodes, labels = shares.argmax(axis=1).reshape(pairs.grid), planes.argmax(axis=0)
    order = canonical_order([labels], k)
    return Segments(order[labels], order[nodes], k)


def number_of_segments(pairs: Eigenpairs, k: int | None) -> int:
    """`k`, or the number by the eigengap where it is None.

    Raises
    ------
    SettingError
        `k` is out of range for these pairs.
    """
    nodes = pairs.grid[0] * pairs.grid[1]
    if k is None:
        return by_eigengap(leading(pairs, pairs.k, least=1).eigenvalues)
    check_type("k", k, (int, np.integer), "a whole number")
    if not 1 <= k <= MOST_SEGMENTS:
        raise SettingError(f"k: expected 1 to {MOST_SEGMENTS} segments, found {k}")
    if k > nodes:
        raise SettingError(f"k: {k} segments of {nodes} nodes; ask for fewer, or use a finer grid")
    return k


def by_eigengap(eigenvalues: np.ndarray) -> int:
    """Number of groups with the largest gap behind it; at least 2 where the values allow.

    Parameters
    ----------
    eigenvalues : ndarray, shape (K,), ascending
        The last one only bounds a gap, so K - 1 groups are the most.

    References
    ----------
    von Luxburg, A tutorial on spectral clustering, Statistics and Computing 17(4), 2007, sec. 8.3.
    """
    if len(eigenvalues) < 3:
        return 1
    return int(np.argmax(np.diff(eigenvalues)[1:])) + 2


def pixel_shares(
    shares: np.ndarray,
    pairs: Eigenpairs,
    *,
    upsampling: str = "bilinear",
    image: np.ndarray | None = None,
) -> np.ndarray:
    """Shares (n, k) of the nodes of `pairs`, at the pixels of its image: (k, H, W) float32."""
    planes = shares.T.reshape(-1, *pairs.grid)
    finite = np.where(np.isfinite(planes), planes, np.min(planes[np.isfinite(planes)]) - 1)
    return upsample(finite, pairs.size, cells=pairs.cells, method=upsampling, image=image)


def canonical_order(labels: list[np.ndarray], k: int) -> np.ndarray:
    """New number of each group, (k,) uint8: most of the frame first, then by falling area.

    Parameters
    ----------
    labels : list of ndarray, shape (H, W)
        Label maps that share their groups.
    """
    frames = [np.concatenate([m[0], m[-1], m[1:-1, 0], m[1:-1, -1]]) for m in labels]
    area = np.bincount(np.concatenate([m.ravel() for m in labels]), minlength=k)
    frame = np.bincount(np.concatenate(frames), minlength=k)
    area[int(np.argmax(frame))] = area.sum() + 1
    order = np.empty(k, np.uint8)
    order[np.argsort(-area, kind="stable")] = np.arange(k)
    return order


def segment_features(features: np.ndarray, found: Segments) -> np.ndarray:
    """Mean feature of each segment's nodes at unit length, (k, d) float32; zeros where it has none.

    Parameters
    ----------
    features : ndarray, shape (h*w, d), unit rows on the grid of the segments
    """
    sums = np.zeros((found.k, features.shape[1]))
    np.add.at(sums, found.nodes.ravel(), features)
    length = np.linalg.norm(sums, axis=1, keepdims=True)
    return (sums / np.where(length > 0, length, 1)).astype(np.float32)


def adjacency(found: Segments) -> np.ndarray:
    """Length of the common border of each two segments in pixel edges, (k, k) int64, symmetric."""
    result = np.zeros((found.k, found.k), np.int64)
    m = found.labels
    for first, second in ((m[:-1], m[1:]), (m[:, :-1], m[:, 1:])):
        border = first != second
        np.add.at(result, (first[border], second[border]), 1)
    return result + result.T
