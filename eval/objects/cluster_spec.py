"""Settings of clusters, apart from `eval.objects.clusters` so that they are read without torch."""

from __future__ import annotations

from pydantic import Field

from data.settings import Spec


class ClusterSpec(Spec):
    """How the segments of a data set are clustered."""

    count: int = Field(
        21,
        ge=1,
        le=255,
        description="Number of clusters of the segments of a data set, including the"
        " background cluster.",
    )
    dimension: int = Field(
        32,
        ge=0,
        le=4096,
        description="Number of half-whitened principal components that the features of"
        " segments are reduced to; 0 clusters the features themselves.",
    )
    background: bool = Field(
        True,
        description="Put segments closer to the frame of the image than to its objects into"
        " cluster 0, and cluster the others.",
    )
