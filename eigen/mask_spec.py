"""Settings of masks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from data.settings import Spec


class MaskSpec(Spec):
    """How eigenvectors become masks; see `eigen.masks`."""

    method: Literal["zero", "otsu", "kmeans", "components"] = Field(
        "zero",
        description="How a mask is cut from an eigenvector, see docs/graphs.md; zero (v > 0) as"
        " published.",
    )
    upsampling: Literal["bilinear", "guided"] = Field(
        "bilinear", description="How an eigenvector is brought to the image's size."
    )
