"""Segments of a whole data set, clustered into pseudo-classes and matched to the true ones.

Features are read an image at a time and k-means takes them in batches of one size, in one order and
from one seed, on one thread: memory does not grow with the data set, and a rerun gives the same
bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from data.errors import DatasetError, SettingError
from eigen.segments.colours import Moments

VOID = 255
BATCH = 1024
START = 8192
"""Segments from which the first centres are drawn."""

RESTARTS = 10
LEAST_VARIANCE = 1e-10
"""Share of the largest variance below which a component is rounding."""

FeatureStream = Callable[[], Iterable[np.ndarray]]


@dataclass(frozen=True, eq=False)
class Whitening:
    """Principal components scaled towards equal variance, and rows of unit length.

    Attributes
    ----------
    mean : ndarray, shape (d,), float64
    components : ndarray, shape (d, m), float64
        Each divided by the root of its standard deviation: at full whitening components of little
        variance, which are noise among few segments, would count as much as the first.
    """

    mean: np.ndarray
    components: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(n, d) features as (n, m) float32."""
        rows = (features.astype(np.float64) - self.mean) @ self.components
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        return (rows / np.where(length > 0, length, 1)).astype(np.float32)


def whitening(stream: FeatureStream, dimension: int) -> Whitening:
    """Fit a whitening to all features, read once; fewer components where they do not vary.

    Raises
    ------
    SettingError
        No features, or all of them equal.
    """
    moments = Moments()
    for rows in stream():
        moments.add(rows)
    if not moments.count:
        raise SettingError(
            "clusters: no segment lies far from the frame of its image; set cluster_background to "
            "false"
        )
    mean, variance, components = moments.components()
    kept = np.flatnonzero(variance > LEAST_VARIANCE * variance.max(initial=0.0))[:dimension]
    if not len(kept):
        raise SettingError("clusters: 0 different segments; compute segments of more images")
    return Whitening(mean, components[:, kept] / variance[kept] ** 0.25)


@dataclass(frozen=True, eq=False)
class Clusters:
    """Centres of the clusters, (c, d) float64."""

    centres: np.ndarray

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Squared distance of each row to each centre, less the row's own square, (n, c)."""
        squares = np.einsum("cd,cd->c", self.centres, self.centres)
        return squares - 2 * features.astype(np.float64) @ self.centres.T

    def assign(self, features: np.ndarray) -> np.ndarray:
        """Nearest centre of each row, (n,); of equal ones the first."""
        return np.argmin(self.distances(features), axis=1)


def cluster(
    stream: FeatureStream, count: int, *, passes: int = 5, seed: int = 0, batch: int = BATCH
) -> Clusters:
    """Mini-batch k-means over the features of all segments.

    Parameters
    ----------
    stream : callable
        Called once per pass; yields the features (k, d) of the segments of each image, in the same
        order every time.
    count : int
        Clusters.
    passes : int
        Times that all features are read.
    seed : int
        Of the first centres.
    batch : int
        Segments per step.

    Raises
    ------
    SettingError
        Fewer segments than clusters.

    References
    ----------
    Sculley, Web-scale k-means clustering, WWW 2010.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    if count < 1 or passes < 1:
        raise SettingError(f"clusters: expected 1 or more, found {count} in {passes} passes")
    first = next(_batches(stream(), max(START, batch)), None)
    distinct = 0 if first is None else len(np.unique(first, axis=0))
    if first is None or distinct < count:
        raise SettingError(
            f"clusters: {count} of {distinct} different segments; ask for fewer clusters, or for "
            "more segments per image"
        )
    with threadpool_limits(1):
        # Few segments are clustered to the end; of many they give the first centres.
        start = KMeans(count, n_init=RESTARTS, random_state=seed).fit(first)
        if len(first) < max(START, batch):
            return Clusters(np.asarray(start.cluster_centers_, np.float64))
        model = MiniBatchKMeans(
            count, init=start.cluster_centers_, n_init=1, random_state=seed, batch_size=batch
        )
        for _ in range(passes):
            for rows in _batches(stream(), max(batch, count)):
                model.partial_fit(rows)
    return Clusters(np.asarray(model.cluster_centers_, np.float64))


def _batches(features: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The rows of all arrays, `size` at a time; the last batch holds the rest."""
    waiting: list[np.ndarray] = []
    held = 0
    for rows in features:
        waiting.append(np.asarray(rows, np.float32))
        held += len(rows)
        if held >= size:
            whole = np.concatenate(waiting)
            yield whole[:size]
            waiting, held = [whole[size:]], held - size
    if held:
        yield np.concatenate(waiting)


class Confusion:
    """Pixels of each true class (rows) in each cluster (columns); `add` image by image."""

    def __init__(self, classes: int, clusters: int) -> None:
        self.table = np.zeros((classes, clusters), np.int64)

    def add(self, labels: np.ndarray, clusters: np.ndarray) -> None:
        """Count one image in: two maps of one size; void (255) pixels of `labels` are left out.

        Raises
        ------
        DatasetError
            Maps of different sizes, or classes beyond the table.
        """
        if labels.shape != clusters.shape:
            raise DatasetError(
                f"expected maps of one size, found {labels.shape} and {clusters.shape} pixels"
            )
        counted = labels != VOID
        rows, columns = labels[counted].astype(np.int64), clusters[counted].astype(np.int64)
        if rows.size and (
            rows.max() >= self.table.shape[0] or columns.max() >= self.table.shape[1]
        ):
            raise DatasetError(
                f"found class {rows.max()} and cluster {columns.max()}: expected at most "
                f"{self.table.shape[0] - 1} and {self.table.shape[1] - 1}"
            )
        flat = np.bincount(rows * self.table.shape[1] + columns, minlength=self.table.size)
        self.table += flat.reshape(self.table.shape)


def hungarian(table: np.ndarray) -> np.ndarray:
    """One cluster per class, the assignment of largest summed IoU; others get -1. (clusters,)."""
    from scipy.optimize import linear_sum_assignment

    area = table.sum(axis=1)[:, None] + table.sum(axis=0) - table
    iou = table / np.maximum(area, 1)
    classes, clusters = linear_sum_assignment(iou, maximize=True)
    names = np.full(table.shape[1], -1)
    names[clusters] = classes
    return names


def majority(table: np.ndarray) -> np.ndarray:
    """The class that most pixels of each cluster belong to, (clusters,); of equal ones the first.

    Many clusters may share a class: the figure grows with their number, and is no test of them.
    """
    return np.argmax(table, axis=0)


def class_iou(table: np.ndarray, names: np.ndarray) -> np.ndarray:
    """IoU of each class after clusters are named, (classes,); NaN for a class without pixels."""
    classes = len(table)
    merged = np.zeros((classes, classes + 1), np.int64)
    for cluster_, name in enumerate(names):
        merged[:, name] += table[:, cluster_]  # -1 is the last column: no class
    hits = np.diag(merged[:, :classes])
    union = merged.sum(axis=1) + merged[:, :classes].sum(axis=0) - hits
    present = merged.sum(axis=1) > 0
    return np.where(present, hits / np.maximum(union, 1), np.nan)
