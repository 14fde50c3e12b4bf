"""ZegFormer from its settings: the network, how it scores, and the segmenter."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn

from data.weight_files import Checkpoint
from eval.zegformer.classes import NamedClasses, TrainedClasses, clip_source, clip_text, text
from eval.zegformer.per_pixel import PixelSegmenter
from eval.zegformer.segmenter import Classes, Scoring, Segmenter
from models.clip.clip import CLIP
from models.clip.prompts import templates
from models.clip.weights import to_half
from models.zegformer import weights as zegformer_weights
from models.zegformer.backbone import RESNET, Backbone
from models.zegformer.config import flat, replaced
from models.zegformer.efficientnet import EfficientNetLite
from models.zegformer.network import PIXEL_MEAN, PIXEL_STD, ZegFormer
from models.zegformer.per_pixel import PerPixelBaseline
from models.zegformer.settings import PER_PIXEL, Model, ZegFormerSettings

log = logging.getLogger(__name__)

IMAGES_PER_GPU = 4  # published: 32 on 8 GPUs


def fit_gpus(settings: ZegFormerSettings, gpus: int) -> ZegFormerSettings:
    """Settings for fewer GPUs, by a rule of thumb.

    4 images per GPU, the learning rate in proportion to the batch, and iterations and periods in
    inverse proportion, so that as many images are used for training. Every change is logged.
    """
    share = min(1.0, IMAGES_PER_GPU * gpus / settings.SOLVER.IMS_PER_BATCH)
    before = flat(settings)
    changes: dict[str, Any] = {
        "SOLVER.IMS_PER_BATCH": round(settings.SOLVER.IMS_PER_BATCH * share),
        "SOLVER.BASE_LR": settings.SOLVER.BASE_LR * share,
    }
    for key in ("SOLVER.MAX_ITER", "SOLVER.CHECKPOINT_PERIOD", "TEST.EVAL_PERIOD"):
        changes[key] = round(before[key] / share)
    for key, value in changes.items():
        log.info("for %d GPUs: %s %s -> %s", gpus, key, before[key], value)
    return replaced(settings, changes)


def network(
    settings: ZegFormerSettings,
    text_dim: int,
    *,
    trained: bool = False,
    checkpoint: Checkpoint | None = None,
) -> nn.Module:
    """The configured network with its configured weights, on the CPU.

    Parameters
    ----------
    text_dim : dimension of the text embeddings
    trained : refuse weights that hold the backbone alone
    checkpoint : what MODEL.WEIGHTS holds, where the caller has read it already

    Raises
    ------
    WeightsError
        See `models.zegformer.weights.load`.
    """
    model, head, former = settings.MODEL, settings.MODEL.SEM_SEG_HEAD, settings.MODEL.MASK_FORMER
    shared: dict[str, Any] = {
        "text_dim": text_dim,
        "temperature": head.TEMPERATURE,
        "width": head.CONVS_DIM,
        "backbone": _backbone(model),
        "depth": model.RESNETS.DEPTH,
        "norm": model.RESNETS.NORM,
        "res2": model.RESNETS.RES2_OUT_CHANNELS,
        "res5_dilation": model.RESNETS.RES5_DILATION,
    }
    if model.META_ARCHITECTURE == PER_PIXEL:
        built: nn.Module = PerPixelBaseline(**shared)
    else:
        built = ZegFormer(
            queries=former.NUM_OBJECT_QUERIES,
            dim=former.HIDDEN_DIM,
            mask_dim=head.MASK_DIM,
            heads=former.NHEADS,
            layers=former.DEC_LAYERS,
            feedforward=former.DIM_FEEDFORWARD,
            dropout=former.DROPOUT,
            unit_no_object=head.NO_OBJECT_UNIT,
            segments=former.CLASS_EMBEDDING == "segment",
            **shared,
        )
    built.backbone.freeze(model.BACKBONE.FREEZE_AT)  # type: ignore[union-attr,operator]
    recipe = zegformer_weights.load(built, checkpoint or model.WEIGHTS, whole=trained)
    prompts = recipe.get("prompts")
    if prompts not in (None, model.PROMPT_ENSEMBLE_TYPE):
        log.warning(
            "%s was trained with the prompts %r, MODEL.PROMPT_ENSEMBLE_TYPE is %r",
            model.WEIGHTS,
            prompts,
            model.PROMPT_ENSEMBLE_TYPE,
        )
    return built


def _backbone(model: Model) -> Backbone | None:
    """The configured backbone; None for a ResNet, which the networks build themselves."""
    name = model.BACKBONE.NAME
    if name == RESNET:
        return None
    dilation = model.RESNETS.RES5_DILATION
    return EfficientNetLite(name, mean=PIXEL_MEAN, std=PIXEL_STD, res5_dilation=dilation)


def scoring(settings: ZegFormerSettings) -> Scoring:
    """How the settings combine queries and crops into scores."""
    former = settings.MODEL.MASK_FORMER
    mode = "image"
    if not settings.MODEL.SEM_SEG_HEAD.CLIP_CLASSIFICATION:
        mode = "query"
    elif former.ENSEMBLING_ALL_CLS:
        mode = "ensemble_all"
    elif former.ENSEMBLING:
        mode = "ensemble"
    return Scoring(
        mode=mode,
        lam=former.ENSEMBLING_LAMBDA,
        gamma=former.GZERO_CALIBRATE,
        style=settings.MODEL.CLIP_CLS_STYLE,
        geometry=settings.MODEL.CLIP_CROP_GEOMETRY,
        most_no_object=former.MOST_NO_OBJECT,
    )


def segmenter(
    settings: ZegFormerSettings,
    model: nn.Module,
    classes: NamedClasses,
    *,
    trained: TrainedClasses | None = None,
    clip: CLIP | None = None,
) -> Segmenter | PixelSegmenter:
    """A segmenter of images into the given classes.

    Parameters
    ----------
    trained : what the checkpoint of `model` records about its classes, if anything
    clip : the configured CLIP, if it is loaded already
    """
    device = next(model.parameters()).device
    vocabulary = classes.vocabulary
    unseen = torch.from_numpy(~vocabulary.seen_flags)
    embeddings = text(settings, classes, device, trained)
    if isinstance(model, PerPixelBaseline):
        gamma = settings.MODEL.SEM_SEG_HEAD.GZERO_CALIBRATE
        return PixelSegmenter(model, embeddings, ~unseen, gamma=gamma)
    how, crop_text = scoring(settings), None
    if how.mode == "query":
        clip = None
    else:
        clip = clip or _clip(settings, device)
        crop_text = clip_text(settings, vocabulary.names, templates("crops"), device)
    return Segmenter(model, Classes(embeddings, unseen, crop_text), clip=clip, scoring=how)


def _clip(settings: ZegFormerSettings, device: torch.device) -> CLIP:
    """CLIP for crops. CPUs have instructions for bfloat16, but rarely for float16."""
    half, on_cpu = settings.MODEL.CLIP_HALF, device.type == "cpu"
    clip = clip_source(settings).load(device, half=half and not on_cpu)
    if half and on_cpu:
        to_half(clip.visual, torch.bfloat16)
    return clip
