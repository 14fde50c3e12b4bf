"""Settings of an extractor."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from data.errors import SettingError
from data.settings import Spec

_AUTOCAST = {"bfloat16": "bf16", "float16": "fp16", None: "none"}


def _short(name: Any) -> Any:
    return _AUTOCAST.get(name, name) if isinstance(name, str | None) else name


Autocast = Annotated[Literal["none", "bf16", "fp16"], BeforeValidator(_short)]
"""Precision of a network's products; torch's names, "bfloat16" and "float16", are accepted too."""

MAX_PATCHES = 10_000
"""The dense graph of this many patches takes 400 MB, and seconds to solve."""

DEVICE = r"^(auto|cpu|cuda(:\d+)?)$"


def _path(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _joined(stages: Any) -> Any:
    return ",".join(map(str, stages)) if isinstance(stages, list | tuple) else stages


class ExtractorSpec(Spec):
    """Which extractor to make: everything that decides its features. A device only rounds them.

    >>> ExtractorSpec(name="dino_vits8", facet="query").block
    -1
    """

    name: str = Field(
        "dino_vits16",
        description="Feature extractor (docs/extractors.md); `lowlevel` needs no weights.",
    )
    weights: Annotated[str | None, BeforeValidator(_path)] = Field(
        None,
        description="Weight file of the extractor (.pth, .safetensors), or random:SEED for"
        " randomly initialised weights; null uses the published weights, from the"
        " hub or a Python package.",
    )
    facet: Literal["key", "query", "value", "token"] = Field(
        "key",
        description="Vision transformer: feature taken from the attention block; token is the"
        " output of the block.",
    )
    block: int = Field(
        -1,
        description="Vision transformer: block that features are taken from; negative numbers"
        " count from the last.",
    )
    stages: Annotated[str | None, BeforeValidator(_joined)] = Field(
        None,
        description="Convolutional network: modules whose outputs are the features, such as"
        " layer3,layer4; null uses the default of the extractor, or the last stage.",
    )
    patch: int | None = Field(
        None,
        ge=1,
        description="Convolutional network: side in pixels of the cells that its outputs are"
        " resampled to; null means 16.",
    )
    enlargement: float | None = Field(
        None,
        gt=0,
        le=16,
        description="Convolutional network: factor by which the image is first enlarged; null"
        " enlarges until a cell of the coarsest stage covers one patch.",
    )
    centring: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Convolutional network: share of the image's mean that is subtracted from"
        " the rows of each stage; null means 0.99.",
    )
    autocast: Autocast = Field(
        "none",
        description="Precision of the network's products; features are always float32."
        " bfloat16 and float16 are accepted for bf16 and fp16.",
    )


def random_seed(weights: str | None) -> int | None:
    """The seed in "random:SEED"; None for weights that are read from a file."""
    if weights is None or not weights.startswith("random:"):
        return None
    match = re.fullmatch(r"random:(\d+)", weights)
    if match is None:
        raise SettingError(f"weights: expected random:SEED with a whole number; found {weights!r}")
    return int(match[1])
