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
        description="Model that names masks. imagenet: a classifier whose weights come in a"
        " Python package; clip: CLIP's image encoder; checkpoint: a trained SAZS or"
        " ZegFormer.",
    )
    classifier: Literal["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"] = Field(
        "efficientnet_lite2",
        description="ImageNet classifier that names masks.",
        json_schema_extra=only_with(namer="imagenet"),
    )
    view: Annotated[str, OneOf(lambda: VIEWS)] = Field(
        "map",
        description="How the ImageNet classifier is applied. map: class probabilities from one"
        " pass over the image, averaged over each mask; crops: two crops of each"
        " mask are classified.",
        json_schema_extra=only_with(namer="imagenet"),
    )
    weights: str | None = Field(
        None,
        description="Weight file of the namer. null: the published ViT-B/16 for clip, the"
        " bundled network for checkpoint.",
        json_schema_extra=only_with(namer=["clip", "checkpoint"]),
    )
    words: str | None = Field(
        None,
        description="Candidate names, separated by commas, or a file of names (.txt, .json);"
        " null: the 20 classes of VOC.",
    )
    object_weight: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Weight w that reduces the scores of segments close to the frame of the"
        " image: they are multiplied by 1 - w + w * (share of the segment far from"
        " the frame). Masks of other origin keep their scores.",
    )
    least_score: float = Field(
        0.15, ge=0, le=1, description="Masks whose best score is lower remain unnamed."
    )
