"""Checkpoints of networks whose backbone starts from the weights of a Python package."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from data.errors import WeightsError
from data.weight_files import Checkpoint
from models.zegformer.backbone import ALL_PARTS, RESNET, Backbone
from models.zegformer.efficientnet import EfficientNetLite

log = logging.getLogger(__name__)

_RECIPE = "backbone"
_PREFIX = "backbone."


def record(backbone: Backbone) -> dict[str, Any]:
    """The entry of a checkpoint's recipe: which packaged weights the backbone started from."""
    if not isinstance(backbone, EfficientNetLite):
        return {}
    return {_RECIPE: {"name": backbone.name, "sha256": backbone.sha256}}


def start(backbone: EfficientNetLite, weights: str) -> None:
    """Fill the backbone from its package where MODEL.WEIGHTS names no checkpoint.

    Raises
    ------
    WeightsError
        MODEL.WEIGHTS names something else, or the package's file is not available.
    """
    if weights:
        raise WeightsError(
            f"{weights}: no such file of weights (MODEL.WEIGHTS); {backbone.name} starts from those"
            " of its package with MODEL.WEIGHTS ''"
        )
    backbone.load_packaged()
    log.info("%s: ImageNet weights of its package; the head is randomly initialised", backbone.name)


def tensors(backbone: Backbone, checkpoint: Checkpoint) -> Mapping[str, Tensor]:
    """The tensors of a checkpoint, with those of the backbone that it only names.

    Raises
    ------
    WeightsError
        The checkpoint belongs to another backbone, or to other packaged weights; or it holds a
        backbone, where the configured one is to stay that of the package.
    """
    recorded = checkpoint.recipe.get(_RECIPE, {})
    name = recorded.get("name", RESNET)
    if name != backbone.name:
        raise WeightsError(
            f"{checkpoint.path}: a network on {name}, but MODEL.BACKBONE.NAME is {backbone.name}; "
            "make them equal"
        )
    found = checkpoint.tensors
    if not isinstance(backbone, EfficientNetLite):
        return found
    if any(key.startswith(_PREFIX) for key in found):
        if backbone.is_frozen:
            raise WeightsError(
                f"{checkpoint.path}: holds a {name} that was trained, but MODEL.BACKBONE.FREEZE_AT "
                f"is {ALL_PARTS}, which keeps that of the package; set it to {ALL_PARTS - 1} or "
                "less"
            )
        backbone.sha256 = recorded["sha256"]
        return found
    backbone.load_packaged()
    if backbone.sha256 != recorded["sha256"]:
        raise WeightsError(
            f"{checkpoint.path}: trained on features of weights with SHA-256 "
            f"{recorded['sha256']}, but those of the package have {backbone.sha256}; install the "
            "package's earlier version, or train again"
        )
    return {**backbone.state_dict(prefix=_PREFIX), **found}
