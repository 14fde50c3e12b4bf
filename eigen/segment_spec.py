"""Settings of segments, apart from `eigen.segments` so that they are read without SciPy."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from data.settings import OneOf, Spec

METHODS = ("rotation", "cluster_qr", "kmeans")
FEATURES = ("extractor", "classes")
MOST_SEGMENTS = 255
"""Label maps are 8-bit, and 255 is left for pixels that belong to no segment."""


class SegmentSpec(Spec):
    """How an image is divided into segments."""

    count: int | None = Field(
        None,
        ge=1,
        le=MOST_SEGMENTS,
        description="Segments per image; null determines it from the largest eigengap.",
    )
    features: Annotated[str, OneOf(lambda: FEATURES)] = Field(
        "extractor",
        description="Features stored per segment, for clustering: the mean of the extractor's"
        " features, or the mean class probabilities of the ImageNet classifier"
        " (classes).",
    )
    method: Annotated[str, OneOf(lambda: METHODS)] = Field(
        "rotation", description="Method that divides an image into segments (docs/objects.md)."
    )
