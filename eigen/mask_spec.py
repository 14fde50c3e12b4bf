"""Settings of masks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from data.settings import Spec


class MaskSpec(Spec):
    """How eigenvectors become masks; see `eigen.masks`."""

    method: Literal["zero", "otsu", "kmeans", "components"] = Field(
        "zero",
        description="Method that thresholds an eigenvector into a mask (docs/graphs.md); the"
        " published one is zero (v > 0).",
    )
    upsampling: Literal["bilinear", "guided"] = Field(
        "bilinear", description="Method that upsamples an eigenvector to the size of the image."
    )
