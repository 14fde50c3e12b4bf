"""Settings of the graph of an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field

from data.errors import SettingError
from data.settings import Spec, only_with


class PixelSpec(Spec):
    """Settings of the pixel graph."""

    step: int = Field(
        1, ge=1, description="Pixel graph: side of a node in pixels; 2 has a quarter of the nodes."
    )
    max_nodes: int = Field(
        500_000,
        ge=1,
        description="Pixel graph: largest number of nodes; for larger images the step is"
        " increased.",
    )
    colour_width: float = Field(
        5.0,
        gt=0,
        description="Pixel graph: colour difference in CIELAB units at which a weight falls to"
        " exp(-1/2); smaller values cut at fainter edges. 2.3 units are a just"
        " noticeable difference.",
    )
    feature_power: float = Field(
        2.0,
        ge=0,
        description="Pixel graph: exponent of the cosine similarity of features; 0 ignores"
        " features.",
    )
    links: int = Field(
        30,
        ge=0,
        description="Pixel graph: number of blocks that each block is linked to; 0 joins"
        " neighbours only.",
    )


class GraphSpec(Spec):
    """Which graph to build.

    >>> GraphSpec(kind="pixel", pixels=PixelSpec(step=2)).pixels.links
    30
    """

    kind: Literal["patch", "pixel"] = Field(
        "patch", description="Nodes of the graph: the extractor's patches, or pixels."
    )
    neighbours: int | None = Field(
        None,
        ge=2,
        description="Patch graph: number of largest similarities kept per row, including that"
        " of the node itself; null keeps all.",
        json_schema_extra=only_with(kind="patch"),
    )
    colour: Literal["none", "knn", "random_walk"] = Field(
        "none",
        description="Patch graph: colour affinity to add, weighted by colour_weight.",
        json_schema_extra=only_with(kind="patch"),
    )
    colour_weight: float = Field(
        0.0,
        ge=0,
        description="Patch graph: weight (lambda) of the colour affinity, which must be above"
        " 0 if there is one; the largest feature similarity is 1.",
        json_schema_extra=only_with(colour=["knn", "random_walk"]),
    )
    pixels: PixelSpec = Field(PixelSpec(), json_schema_extra=only_with(kind="pixel"))

    def check(self, name: Callable[[str], str]) -> None:
        """Refuse a colour affinity of weight 0."""
        if self.colour != "none" and self.colour_weight == 0:
            raise SettingError(
                f"{name('colour')}: {self.colour!r} has no effect with {name('colour_weight')}=0;"
                f" set {name('colour_weight')} (10 is the published choice)"
            )
