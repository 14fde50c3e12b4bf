"""ZegFormer trained and scored from its configuration.

The configuration is the flat mapping of `models.zegformer.config`, with the keys of
`models/zegformer/keys.yaml`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from data.errors import SettingError
from data.files import atomic_path
from data.text.vocabulary import Vocabulary
from data.zegformer.sets import Pair, datasets_root, labelled_set
from data.zegformer.transforms import Augmentation
from eval.zegformer import page as gzs_page
from eval.zegformer.build import BASELINE, NamedClasses, named_classes, network, segmenter, text
from eval.zegformer.metrics import class_figures, without_nan
from eval.zegformer.page import Examples
from eval.zegformer.scoring import Predicts, Score, join_predictions, score
from eval.zegformer.segmenter import Segmenter
from eval.zegformer.tta import Augmented
from models.zegformer import config as detectron_config
from models.zegformer.config import Config
from models.zegformer.network import normalised_batch
from train import checkpoint
from train.distributed import World
from train.engine import Settings, Training
from train.schedule import Schedule, poly
from train.unread import Quarantine
from train.zegformer.criterion import Criterion
from train.zegformer.optimizer import adamw
from train.zegformer.samples import Samples, batches, labelled, targets

log = logging.getLogger(__name__)

_PREDICTIONS = "sem_seg_predictions.json"


def evaluate(
    config: Config, model: nn.Module, world: World, *, out: Path | None = None
) -> dict[str, float]:
    """Score every configured test set, photos dealt out among the processes.

    Parameters
    ----------
    out : folder for `scores.json`, `report.html` and the predictions; with TEST.AUG also those of
        augmented tests

    Returns
    -------
    Figures in percent; with several test sets, each key after "{set}/".
    """
    found: dict[str, float] = {}
    for name in config["DATASETS.TEST"]:
        classes = named_classes(config, name, "TEST")
        own = segmenter(config, model, classes)
        parts: dict[str, Predicts] = {"": own}
        if config["TEST.AUG.ENABLED"] and out is not None and isinstance(own, Segmenter):
            parts["_TTA"] = Augmented(
                own,
                shorts=config["TEST.AUG.MIN_SIZES"],
                longest=config["TEST.AUG.MAX_SIZE"],
                flip=config["TEST.AUG.FLIP"],
            )
        elif config["TEST.AUG.ENABLED"] and out is not None:
            log.warning("TEST.AUG has no effect on the per-pixel baseline")
        for suffix, predicts in parts.items():
            folder = None if out is None else out / f"inference{suffix}" / name
            figures = _scored(config, predicts, name, classes.vocabulary, world, folder)
            prefix = f"{name}{suffix}/" if len(config["DATASETS.TEST"]) > 1 or suffix else ""
            found |= {prefix + key: value for key, value in figures.items()}
    return found


def _scored(
    config: Config,
    model: Predicts,
    name: str,
    vocabulary: Vocabulary,
    world: World,
    folder: Path | None,
) -> dict[str, float]:
    pairs = _pairs(config, name)
    first, last = (len(pairs) * (world.rank + n) // world.size for n in (0, 1))
    parts = [_PREDICTIONS.replace(".", f"_{rank}.") for rank in range(world.size)]
    examples = Examples(vocabulary)
    own = score(
        model,
        pairs[first:last],
        vocabulary,
        short=config["INPUT.MIN_SIZE_TEST"],
        longest=config["INPUT.MAX_SIZE_TEST"],
        boundaries=folder is not None,
        predictions=None if folder is None else folder / parts[world.rank],
        on_photo=None if folder is None else examples,
    )
    whole = Score(world.sum(own.confusion), world.sum(own.outlines))
    whole.photos = int(world.sum(np.array([own.photos]))[0])
    whole.unread = world.gather(own.unread)
    figures = whole.figures(vocabulary)
    if folder is not None and world.is_first:
        join_predictions([folder / part for part in parts], folder / _PREDICTIONS)
        _write_scores(folder, whole, figures, vocabulary)
        page = folder / "report.html"
        answers = {"ZegFormer": figures}
        gzs_page.write(page, name, answers, whole.confusion, vocabulary, examples, config)
    if whole.unread:
        log.warning("%s: %d photos could not be read and are left out", name, len(whole.unread))
    return figures


def _write_scores(
    folder: Path, found: Score, figures: dict[str, float], vocabulary: Vocabulary
) -> None:
    iou, accuracy = class_figures(found.confusion)
    content = {
        "photos": found.photos,
        "unread": [{"id": id, "reason": reason} for id, reason in found.unread],
        "figures": without_nan(figures),
        "classes": [
            {
                "name": n,
                "unseen": c in vocabulary.unseen,
                **without_nan({"IoU": iou[c], "ACC": accuracy[c]}),
            }
            for c, n in enumerate(vocabulary.names)
        ],
    }
    with atomic_path(folder / "scores.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1))


def train(
    config: Config, world: World, *, resume: bool = False
) -> tuple[nn.Module, dict[str, float]]:
    """Train from MODEL.WEIGHTS, or go on; leaves checkpoints and figures in OUTPUT_DIR.

    Returns
    -------
    The trained network, and its figures as of `evaluate` with `out=OUTPUT_DIR`.
    """
    out, seed = Path(config["OUTPUT_DIR"]), max(config["SEED"], 0)
    if config["SEED"] < 0:
        log.info("SEED %d: seed 0 is used, so that the training can be repeated", config["SEED"])
    per_process, rest = divmod(config["SOLVER.IMS_PER_BATCH"], world.size)
    if rest or not per_process:
        raise SettingError(
            f"SOLVER.IMS_PER_BATCH {config['SOLVER.IMS_PER_BATCH']}: expected a multiple of the "
            f"{world.size} processes"
        )
    if world.is_first:
        with atomic_path(out / "config.yaml") as temporary:
            temporary.write_text(yaml.safe_dump(detectron_config.nested(config)))
    (set_name,) = config["DATASETS.TRAIN"]
    classes = named_classes(config, set_name, "TRAIN")
    _check_classes(config, classes)
    _check_tests(config)
    embeddings = text(config, classes, world.device)
    torch.manual_seed(seed)  # fresh weights are part of what the seed decides
    model = network(config, embeddings.shape[1])
    samples = _samples(config, set_name, classes, seed)
    training = Training(
        model,
        _optimizer(config, model),
        schedule=_schedule(config),
        loss=_loss(config, embeddings, classes.vocabulary.ignore),
        settings=_settings(config, out, seed, world),
        world=world,
    )
    latest = out / checkpoint.LATEST
    if resume and latest.is_file():
        training.resume(latest)

    quarantine = Quarantine(out, world.rank)

    def stream(start: int) -> Iterator[dict[str, Any]]:
        found = batches(
            samples,
            per_process,
            grouped=config["DATALOADER.ASPECT_RATIO_GROUPING"],
            world=world,
            seed=seed,
            workers=config["DATALOADER.NUM_WORKERS"],
            start=start,
        )
        return quarantine.sift(found)

    final: dict[str, float] = {}

    def evaluated(judged: nn.Module) -> dict[str, float]:
        if training.step < config["SOLVER.MAX_ITER"]:
            return evaluate(config, judged, world)
        final.update(evaluate(config, judged, world, out=out))
        return final

    training.run(stream, evaluated)
    quarantine.log_count(world)
    # A training that had ended before was resumed: nothing was evaluated.
    return training.eval_model, final or evaluate(config, training.eval_model, world, out=out)


def _samples(config: Config, set_name: str, classes: NamedClasses, seed: int) -> Samples:
    pairs, ignore = _pairs(config, set_name), classes.vocabulary.ignore
    if config["DATASETS.ONLY_LABELLED"]:
        pairs = labelled(pairs, ignore)
    augmentation = _augmentation(config, ignore)
    return Samples(pairs, augmentation, classes=len(classes.vocabulary), seed=seed)


def _optimizer(config: Config, model: nn.Module) -> torch.optim.AdamW:
    return adamw(
        model,
        rate=config["SOLVER.BASE_LR"],
        weight_decay=config["SOLVER.WEIGHT_DECAY"],
        norm_decay=config["SOLVER.WEIGHT_DECAY_NORM"],
        embedding_decay=config["SOLVER.WEIGHT_DECAY_EMBED"],
        backbone_multiplier=config["SOLVER.BACKBONE_MULTIPLIER"],
    )


def _schedule(config: Config) -> Schedule:
    return poly(
        config["SOLVER.MAX_ITER"],
        power=config["SOLVER.POLY_LR_POWER"],
        warmup=config["SOLVER.WARMUP_ITERS"],
        warmup_factor=config["SOLVER.WARMUP_FACTOR"],
        floor=config["SOLVER.POLY_LR_CONSTANT_ENDING"],
    )


def _pairs(config: Config, set_name: str) -> list[Pair]:
    return labelled_set(set_name).pairs(datasets_root(config["DATASETS.ROOT"]))


def _check_classes(config: Config, classes: NamedClasses) -> None:
    told = config["MODEL.SEM_SEG_HEAD.NUM_CLASSES"]
    if told and told != len(classes.vocabulary):
        raise SettingError(
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {told}, but {classes.vocabulary.name} has "
            f"{len(classes.vocabulary)} classes to train on; an evaluation file is for --eval-only"
        )


def _check_tests(config: Config) -> None:
    """Raise now what would end the first evaluation, perhaps hours later."""
    for name in config["DATASETS.TEST"]:
        _pairs(config, name)
        named_classes(config, name, "TEST")


def _augmentation(config: Config, ignore: int) -> Augmentation:
    return Augmentation(
        short_sides=tuple(config["INPUT.MIN_SIZE_TRAIN"]),
        longest=config["INPUT.MAX_SIZE_TRAIN"],
        crop=config["INPUT.CROP.SIZE"][0],
        max_area=config["INPUT.CROP.SINGLE_CATEGORY_MAX_AREA"],
        colours=config["INPUT.COLOR_AUG_SSD"],
        padded=config["INPUT.SIZE_DIVISIBILITY"],
        ignore=ignore,
    )


def _settings(config: Config, out: Path, seed: int, world: World) -> Settings:
    half = config["SOLVER.AMP.DTYPE"] if config["SOLVER.AMP.ENABLED"] else "none"
    if half == "fp16" and world.device.type == "cpu":
        log.info("SOLVER.AMP: float32 on the CPU, which does not train in fp16")
        half = "none"
    # What decides the weights; where and how often things are written does not.
    decisive = (
        "SOLVER.",
        "INPUT.",
        "MODEL.",
        "DATASETS.ONLY_LABELLED",
        "DATALOADER.ASPECT_RATIO_GROUPING",
    )
    told = {
        key: value
        for key, value in config.items()
        if key.startswith(decisive) and key != "MODEL.DEVICE"
    }
    return Settings(
        out=out,
        steps=config["SOLVER.MAX_ITER"],
        seed=seed,
        autocast=half,
        accumulate=config["SOLVER.ACCUMULATE"],
        clip_norm=config["SOLVER.CLIP_GRADIENTS.CLIP_VALUE"],
        save_every=config["SOLVER.CHECKPOINT_PERIOD"],
        evaluate_every=config["TEST.EVAL_PERIOD"],
        select="mIoU",
        identity={"config": told, "seed": seed},
        recipe={"config": config, "prompts": config["MODEL.PROMPT_ENSEMBLE_TYPE"]},
        memory_advice="a smaller SOLVER.IMS_PER_BATCH with more SOLVER.ACCUMULATE, smaller "
        "INPUT.CROP.SIZE and INPUT.SIZE_DIVISIBILITY, or SOLVER.AMP.ENABLED True",
    )


def _loss(config: Config, embeddings: Tensor, ignore: int) -> Callable[..., dict[str, Tensor]]:
    if config["MODEL.META_ARCHITECTURE"] == BASELINE:
        return _pixel_loss(embeddings)
    criterion = Criterion(ignore_unlabelled=config["MODEL.MASK_FORMER.IGNORE_UNLABELLED"])

    def loss(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        images = normalised_batch(batch["image"])
        predictions = model(images, embeddings, every_layer=True)
        return criterion(predictions, targets(batch, (images.shape[2], images.shape[3])))

    return loss


def _pixel_loss(embeddings: Tensor) -> Callable[..., dict[str, Tensor]]:
    def loss(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        images = normalised_batch(batch["image"])
        size = (images.shape[2], images.shape[3])
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
    found = torch.full(target.masks.shape[1:], -1, device=target.masks.device)
    for label, mask in zip(target.labels, target.masks, strict=True):
        found[mask] = label
    return found
