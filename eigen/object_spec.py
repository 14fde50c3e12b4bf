"""Settings of object discovery, apart from `eigen.objects` so that they are read without SciPy."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from data.settings import OneOf, Spec, only_with

METHODS = ("frame", "fiedler", "tokencut", "lost", "maskcut")
SEVERAL = ("frame", "maskcut")


class ObjectSpec(Spec):
    """How objects are found in an image.

    "frame" takes what is far from the frame of the image in commute time (`eigen.objects.frame`):
    any number of objects from one decomposition. "maskcut" cuts in rounds (`eigen.objects.rounds`).
    The others are the published rules for one object (`eigen.objects.rules`).
    """

    method: Annotated[str, OneOf(lambda: METHODS)] = Field(
        "frame", description="Rule that turns eigenvectors into objects (docs/objects.md)."
    )
    count: int = Field(
        1,
        ge=1,
        description="Largest number of objects per image.",
        json_schema_extra=only_with(method=list(SEVERAL)),
    )
    pairs: int = Field(
        6,
        ge=3,
        description="Number of eigenpairs for the method frame, including the constant one.",
        json_schema_extra=only_with(method="frame"),
    )
    threshold: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="Cosine similarity above which two patches are joined; null means the"
        " published 0.2 (tokencut) or 0.15 (maskcut).",
        json_schema_extra=only_with(method=["tokencut", "maskcut"]),
    )
    least_area: float = Field(
        0.01, ge=0, le=1, description="Smallest object, as a share of the image."
    )
    least_score: float = Field(
        0.05, ge=0, le=1, description="Objects with lower confidence are left out."
    )
    refine: bool = Field(
        True, description="Refine masks to the edges of the image by diffusion on the pixel graph."
    )
