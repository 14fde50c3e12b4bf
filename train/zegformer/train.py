"""Train ZegFormer or the per-pixel baseline from its settings."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from data.errors import SettingError, WeightsError
from data.files import atomic_path
from data.parallel import check_processes
from data.text.embeddings import load_embeddings
from data.zegformer.transforms import Augmentation
from eval.zegformer.build import network
from eval.zegformer.classes import NamedClasses, TrainedClasses, named_classes, text
from models.zegformer import packaged
from models.zegformer.backbone import Backbone
from models.zegformer.config import flat, nested
from models.zegformer.settings import PER_PIXEL, ZegFormerSettings
from train import checkpoint
from train.distributed import World
from train.engine import Settings, Training
from train.schedule import Schedule, poly
from train.unread import Quarantine
from train.zegformer.cached import CachedViews, stacked
from train.zegformer.criterion import Criterion
from train.zegformer.evaluate import (
    evaluate,
    pairs_of,
    selected_figure,
    test_classes,
    weights_facts,
)
from train.zegformer.optimizer import adamw
from train.zegformer.samples import Samples, Source, batches, labelled, targets

log = logging.getLogger(__name__)

# What decides the weights; where and how often things are written does not.
_DECISIVE = (
    "SOLVER.",
    "INPUT.",
    "MODEL.",
    "DATASETS.TRAIN",
    "DATASETS.ONLY_LABELLED",
    "DATALOADER.ASPECT_RATIO_GROUPING",
)
_NOT_DECISIVE = {
    "MODEL.DEVICE",
    "MODEL.WEIGHTS",  # a checkpoint replaces them
    "MODEL.TEXT_EMBEDDINGS",  # compared by content, as are the class names
    "MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON",
    "MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON",
    "SOLVER.CHECKPOINT_PERIOD",
    "INPUT.MIN_SIZE_TEST",
    "INPUT.MAX_SIZE_TEST",
    "INPUT.VIEWS_DIR",
}


def train(
    settings: ZegFormerSettings, world: World, *, resume: bool = False, extend: bool = False
) -> tuple[nn.Module, dict[str, float]]:
    """Train from MODEL.WEIGHTS, or resume; leaves checkpoints and figures in OUTPUT_DIR.

    Parameters
    ----------
    resume : continue from the latest checkpoint in OUTPUT_DIR, if there is one
    extend : allow another SOLVER.MAX_ITER than that checkpoint's; the learning rate continues on
        the schedule of the new one

    Returns
    -------
    The trained network, and its figures as of `evaluate` with `out=OUTPUT_DIR`.

    Raises
    ------
    SettingError, VocabularyError, DatasetError, WeightsError
        Settings that contradict each other, the classes or the data.
    DivergenceError, OutOfMemoryError
    """
    out, seed = Path(settings.OUTPUT_DIR), max(settings.SEED, 0)
    if settings.SEED < 0:
        log.info("SEED %d: using seed 0, so that the run can be repeated", settings.SEED)
    per_process = _images_per_process(settings, world)
    check_processes(settings.DATALOADER.NUM_WORKERS * world.size, "DATALOADER.NUM_WORKERS")
    (set_name,) = settings.DATASETS.TRAIN
    classes = named_classes(settings, set_name, "TRAIN")
    _check_count(settings, classes)
    record = _record(settings, classes)
    _check_tests(settings, record)
    embeddings = text(settings, classes, world.device)
    torch.manual_seed(seed)  # decides the initial weights
    model = network(settings, embeddings.shape[1])
    origin = packaged.record(cast(Backbone, model.backbone))
    samples = _views(settings, _samples(settings, set_name, classes, seed), model, world)
    training = Training(
        model,
        _optimizer(settings, model),
        schedule=_schedule(settings),
        loss=_loss(settings, embeddings, classes.vocabulary.ignore),
        settings=_engine_settings(settings, out, seed, world, record, origin, extend),
        world=world,
    )
    latest = out / checkpoint.LATEST
    if (resume or extend) and latest.is_file():
        _resume(training, latest)
    if world.is_first:  # not before: the file stays that of the run whose checkpoint is refused
        with atomic_path(out / "config.yaml") as temporary:
            temporary.write_text(yaml.safe_dump(nested(settings)))
    quarantine = Quarantine(out, world.rank)

    loader = settings.DATALOADER

    def stream(start: int) -> Iterator[dict[str, Any]]:
        grouped, workers = loader.ASPECT_RATIO_GROUPING, loader.NUM_WORKERS
        own = functools.partial(batches, samples, per_process, world=world, seed=seed, start=start)
        return quarantine.sift(own(grouped=grouped, workers=workers))

    final: dict[str, float] = {}
    facts = weights_facts(out / checkpoint.FINAL, settings.SOLVER.MAX_ITER)

    def figures_of(network: nn.Module) -> dict[str, float]:
        if training.step < settings.SOLVER.MAX_ITER:
            return evaluate(settings, network, world, trained=record)
        final.update(evaluate(settings, network, world, trained=record, out=out, weights=facts))
        return final

    training.run(stream, figures_of if settings.DATASETS.TEST else None)
    quarantine.log_count(world)
    trained = training.eval_model
    # Resuming a run that had ended evaluates nothing.
    return trained, final or evaluate(
        settings, trained, world, trained=record, out=out, weights=facts
    )


def _resume(training: Training, latest: Path) -> None:
    try:
        training.resume(latest)
    except WeightsError as error:
        if "SOLVER.MAX_ITER was" in str(error):
            raise WeightsError(
                f"{error}; --extend continues with another SOLVER.MAX_ITER"
            ) from error
        raise
    if training.step > training.settings.steps:
        raise SettingError(
            f"SOLVER.MAX_ITER: expected at least {training.step}, the iterations that {latest} "
            f"has, found {training.settings.steps}"
        )


def _images_per_process(settings: ZegFormerSettings, world: World) -> int:
    batch = settings.SOLVER.IMS_PER_BATCH
    per_process, rest = divmod(batch, world.size)
    if rest or not per_process:
        raise SettingError(
            f"SOLVER.IMS_PER_BATCH {batch}: expected a multiple of the {world.size} processes"
        )
    return per_process


def _record(settings: ZegFormerSettings, classes: NamedClasses) -> TrainedClasses:
    path = settings.MODEL.TEXT_EMBEDDINGS
    table = load_embeddings(path, classes.full) if path else None
    return TrainedClasses(classes.full, classes.vocabulary.names, table)


def _check_count(settings: ZegFormerSettings, classes: NamedClasses) -> None:
    count = settings.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    if count and count != len(classes.vocabulary):
        raise SettingError(
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {count}, but {classes.vocabulary.name} has "
            f"{len(classes.vocabulary)} classes to train on; an evaluation file is for --eval-only"
        )


def _check_tests(settings: ZegFormerSettings, record: TrainedClasses) -> None:
    """Raise now what would end the first evaluation, perhaps hours later."""
    for name in settings.DATASETS.TEST:
        pairs_of(settings, name)
        test_classes(settings, name, record)


def _samples(
    settings: ZegFormerSettings, set_name: str, classes: NamedClasses, seed: int
) -> Samples:
    pairs, ignore = pairs_of(settings, set_name), classes.vocabulary.ignore
    if settings.DATASETS.ONLY_LABELLED:
        pairs = labelled(pairs, ignore)
    augmentation = Augmentation(
        short_sides=settings.INPUT.MIN_SIZE_TRAIN,
        longest=settings.INPUT.MAX_SIZE_TRAIN,
        crop=settings.INPUT.CROP.SIZE[0],
        max_area=settings.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA,
        colours=settings.INPUT.COLOR_AUG_SSD,
        padded=settings.INPUT.SIZE_DIVISIBILITY,
        ignore=ignore,
    )
    return Samples(pairs, augmentation, classes=len(classes.vocabulary), seed=seed)


def _views(settings: ZegFormerSettings, samples: Samples, model: nn.Module, world: World) -> Source:
    """The samples, or as many views of them with their features as the settings have cached."""
    if not settings.INPUT.CACHED_VIEWS:
        return samples
    folder = Path(settings.INPUT.VIEWS_DIR or Path(settings.OUTPUT_DIR) / "views")
    backbone = cast(Backbone, model.backbone).to(world.device).eval()
    return CachedViews(samples, backbone, settings.INPUT.CACHED_VIEWS, folder)


def _optimizer(settings: ZegFormerSettings, model: nn.Module) -> torch.optim.AdamW:
    solver = settings.SOLVER
    return adamw(
        model,
        rate=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        norm_decay=solver.WEIGHT_DECAY_NORM,
        embedding_decay=solver.WEIGHT_DECAY_EMBED,
        backbone_multiplier=solver.BACKBONE_MULTIPLIER,
    )


def _schedule(settings: ZegFormerSettings) -> Schedule:
    solver = settings.SOLVER
    return poly(
        solver.MAX_ITER,
        power=solver.POLY_LR_POWER,
        warmup=solver.WARMUP_ITERS,
        warmup_factor=solver.WARMUP_FACTOR,
        floor=solver.POLY_LR_CONSTANT_ENDING,
    )


def _engine_settings(
    settings: ZegFormerSettings,
    out: Path,
    seed: int,
    world: World,
    record: TrainedClasses,
    origin: dict[str, Any],
    extend: bool,
) -> Settings:
    solver = settings.SOLVER
    precision = solver.AMP.DTYPE if solver.AMP.ENABLED else "none"
    if precision == "fp16" and world.device.type == "cpu":
        log.info("SOLVER.AMP: float32 on the CPU, which does not train in fp16")
        precision = "none"
    values = flat(settings)
    identity = _identity(values, seed, record) | origin
    if extend:
        del identity["SOLVER.MAX_ITER"]
    return Settings(
        out=out,
        steps=solver.MAX_ITER,
        seed=seed,
        autocast=precision,
        accumulate=solver.ACCUMULATE,
        clip_norm=solver.CLIP_GRADIENTS.CLIP_VALUE,
        save_every=solver.CHECKPOINT_PERIOD,
        evaluate_every=settings.TEST.EVAL_PERIOD,
        select=selected_figure(settings),
        identity=identity,
        recipe={
            "config": values,
            "SOLVER.MAX_ITER": solver.MAX_ITER,
            "prompts": settings.MODEL.PROMPT_ENSEMBLE_TYPE,
            **record.recipe(),
            **origin,
        },
        memory_advice="a smaller SOLVER.IMS_PER_BATCH with more SOLVER.ACCUMULATE, smaller "
        "INPUT.CROP.SIZE and INPUT.SIZE_DIVISIBILITY, or SOLVER.AMP.ENABLED True",
    )


def _identity(values: dict[str, Any], seed: int, record: TrainedClasses) -> dict[str, Any]:
    """What a resumed run must share with the first: every setting that decides the weights."""
    decisive = {
        key: value
        for key, value in values.items()
        if key.startswith(_DECISIVE) and key not in _NOT_DECISIVE
    }
    content = json.dumps(record.content(), sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    return {**decisive, "SEED": seed, "class names and text embeddings": digest}


def _loss(
    settings: ZegFormerSettings, embeddings: Tensor, ignore: int
) -> Callable[..., dict[str, Tensor]]:
    if settings.MODEL.META_ARCHITECTURE == PER_PIXEL:
        return _pixel_loss(embeddings)
    former = settings.MODEL.MASK_FORMER
    criterion = Criterion(
        ignore_unlabelled=former.IGNORE_UNLABELLED, pixel_weight=former.PIXEL_WEIGHT
    )

    def loss(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        images, size = stacked(batch)
        predictions = model(images, embeddings, every_layer=True)
        return criterion(predictions, targets(batch, size))

    return loss


def _pixel_loss(embeddings: Tensor) -> Callable[..., dict[str, Tensor]]:
    def loss(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        images, size = stacked(batch)
        logits = F.interpolate(
            model(images, embeddings).float(), size=size, mode="bilinear", align_corners=False
        )
        truth = torch.stack([_class_map(target) for target in targets(batch, size)])
        # The sum over labelled pixels, so that a batch without any has loss 0 and not NaN.
        total = F.cross_entropy(logits, truth, ignore_index=-1, reduction="sum")
        return {"total": total / (truth >= 0).sum().clamp(min=1)}

    return loss


def _class_map(target: Any) -> Tensor:
    """Target -> (H, W) int64, -1 without a label."""
    classes = torch.full(target.masks.shape[1:], -1, device=target.masks.device)
    for label, mask in zip(target.labels, target.masks, strict=True):
        classes = torch.where(mask, label, classes)
    return classes
