"""Clusters of the segments of a data set: background aside, features whitened, then k-means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import SettingError
from data.files import atomic_path
from eval.objects.cluster_spec import ClusterSpec
from eval.objects.clusters import Clusters, Whitening, cluster, whitening

OBJECT = 0.5
"""Share of a segment's nodes that are far from the frame, from which it is no background."""

SegmentStream = Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]


@dataclass(frozen=True, eq=False)
class SegmentClusters:
    """Fitted clusters.

    Attributes
    ----------
    clusters : Clusters
    whitening : Whitening or None
    background : bool
        Cluster 0 holds the segments of background, and those of `clusters` follow.
    """

    clusters: Clusters
    whitening: Whitening | None
    background: bool

    @property
    def count(self) -> int:
        """Number of clusters, the background's among them."""
        return len(self.clusters.centres) + self.background

    def assign(self, features: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cluster of each segment, (k,), and how far it is from its centre, (k,), to rank them.

        Parameters
        ----------
        features : ndarray, shape (k, d)
        shares : ndarray, shape (k,)
            See `eigen.objects.frame.object_share`.
        """
        rows = features if self.whitening is None else self.whitening(features)
        distances = self.clusters.distances(rows)
        assigned, nearest = distances.argmin(axis=1), distances.min(axis=1)
        if not self.background:
            return assigned, nearest
        is_object = shares >= OBJECT
        return np.where(is_object, assigned + 1, 0), np.where(is_object, nearest, shares)

    def save(self, path: Path) -> None:
        """Write centres, and mean and components of the whitening, as `.npz`."""
        arrays: dict[str, Any] = {
            "centres": self.clusters.centres,
            "background": np.array(self.background),
        }
        if self.whitening is not None:
            arrays |= {"mean": self.whitening.mean, "components": self.whitening.components}
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)


def cluster_segments(stream: SegmentStream, spec: ClusterSpec, *, seed: int = 0) -> SegmentClusters:
    """Cluster the segments of a data set.

    Parameters
    ----------
    stream : callable
        Called once per pass; yields features (k, d) and object shares (k,) of each image.
    spec : ClusterSpec
    seed : int
        Of k-means.

    Raises
    ------
    SettingError
        Fewer segments than clusters, or none that is an object.

    References
    ----------
    Melas-Kyriazi et al., Deep Spectral Methods, CVPR 2022, section 3.4 (segments of all images,
    clustered by their features).
    """
    if spec.background and spec.count < 2:
        raise SettingError(
            "clusters: expected 2 or more with cluster_background, found 1; set "
            "cluster_background to false"
        )

    def objects() -> Iterator[np.ndarray]:
        for features, shares in stream():
            yield features[shares >= OBJECT] if spec.background else features

    fitted = whitening(objects, spec.dimension) if spec.dimension else None

    def rows() -> Iterator[np.ndarray]:
        return objects() if fitted is None else map(fitted, objects())

    clusters = cluster(rows, spec.count - spec.background, seed=seed)
    return SegmentClusters(clusters, fitted, spec.background)
