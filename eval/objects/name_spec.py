"""Settings of names, apart from `eval.objects.namers` so that they are read without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from data.settings import OneOf, Spec, only_with

VIEWS = ("map", "crops")
NAMERS = ("imagenet", "clip", "checkpoint")


class NameSpec(Spec):
    """What gives masks their names, and out of which words."""

    namer: Annotated[str, OneOf(lambda: NAMERS)] = Field(
        "imagenet",
        description="imagenet: a classifier whose weights come in a Python package; clip: CLIP's"
        " image tower; checkpoint: a trained SAZS or ZegFormer.",
    )
    classifier: Literal["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"] = Field(
        "efficientnet_lite2",
        description="ImageNet classifier that names masks.",
        json_schema_extra=only_with(namer="imagenet"),
    )
    view: Annotated[str, OneOf(lambda: VIEWS)] = Field(
        "map",
        description="How the ImageNet classifier reads masks: map averages its class probabilities"
        " over them, from one pass over the image; crops runs it on two crops of each.",
        json_schema_extra=only_with(namer="imagenet"),
    )
    weights: str | None = Field(
        None,
        description="File of the namer's weights. null: for clip the published ViT-B/16, for"
        " checkpoint the network that comes with this software.",
        json_schema_extra=only_with(namer=["clip", "checkpoint"]),
    )
    words: str | None = Field(
        None,
        description="Names to choose from, separated by commas, or a file of them (.txt, .json);"
        " null: the 20 classes of VOC.",
    )
    object_weight: float = Field(
        0.5,
        ge=0,
        le=1,
        description="How much less segments score that lie close to the frame of the image: the"
        " score is multiplied by 1 - w + w * (share of the segment far from the frame). Masks of"
        " other origin keep theirs.",
    )
    least_score: float = Field(
        0.15, ge=0, le=1, description="Masks whose best class scores lower stay without a name."
    )
