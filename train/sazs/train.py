"""Train SAZS: a recipe, a fold of a benchmark and text embeddings become weights.

The defaults are those of the published instructions; where `mode="corrected"` differs from the
published code is listed in docs/protocols.md.

Liu et al., "Delving into Shape-aware Zero-shot Semantic Segmentation", CVPR 2023.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data.errors import DatasetError, SettingError
from data.parallel import check_processes
from data.sazs.folds import Fold, first_problem, readable_items
from data.sazs.options import Recipe, RecipeOptions, Running
from eval.sazs.fusion import method
from eval.sazs.scoring import count_answers
from eval.sazs.segmenter import SazsSegmenter
from models.checkpoints import load_weights
from models.sazs import networks as sazs
from models.sazs.inverseform import load_regressor
from models.sazs.stored import StageStore, open_store
from train.checkpoint import BEST
from train.distributed import World
from train.engine import Evaluate, Loss, Settings, Training
from train.sampling import BatchSampler
from train.sazs.features import keys_of
from train.sazs.losses import JointLoss, absent_loss
from train.sazs.samples import SazsSamples, StoredSamples, batches
from train.schedule import Schedule, poly, step_decay
from train.unread import Quarantine

log = logging.getLogger(__name__)

MEMORY_ADVICE = (
    "a smaller --batch_size with --accumulate, a smaller --crop-size, or --autocast bf16"
)


LITE = {
    "epochs": 5,
    "lr": 0.003,
    "batch_size": 12,
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "crop": 320,
    "overlap": 1.0,
    "drop_rate": 0.1,
}
"""Our settings for the networks on EfficientNet-Lite2, which suit a few hundred images."""


def train(
    recipe: Recipe,
    fold: Fold,
    texts: Tensor,
    out: Path,
    world: World,
    *,
    names: Sequence[str] = (),
    running: Running | None = None,
    input_side: int | None = 512,
    resume: Path | None = None,
) -> nn.Module:
    """Train a network; its checkpoints, history and curves lie in `out`.

    Parameters
    ----------
    texts : Tensor, (1 + classes, 512), float32
        Row 0 "others", then the classes by id; rows of unseen classes are not looked at.
    names : class names by id; kept in the checkpoints with `texts`
    input_side : side of the square that validation images are squashed to; None keeps their size
    resume : path of a checkpoint to resume from

    Returns
    -------
    nn.Module
        The trained network (its average, where one was kept), in evaluation mode.

    Raises
    ------
    SettingError, DatasetError, WeightsError, DivergenceError, OutOfMemoryError
    """
    running = running or Running()
    torch.manual_seed(recipe.seed)
    share = _share(recipe, world)
    check_processes(running.workers * world.size, "--workers")
    if not fold.train:
        raise DatasetError(
            "expected training images that show seen classes, found none"
            f"{first_problem(fold.problems, 'trn')}"
        )
    model = start(recipe, fresh=resume is not None).to(world.device)
    store = open_store(model, running.features or out / "features", side=input_side)
    samples = _samples(recipe, fold, store, world)
    sampler = BatchSampler(len(samples), share, seed=recipe.seed, size=world.size)
    steps_per_epoch = max(1, sampler.batches_per_epoch // recipe.accumulate)
    steps = recipe.epochs * steps_per_epoch
    log.info(
        "%d samples, %d steps, %d items to validate on", len(samples), steps, len(fold.validation)
    )
    training = Training(
        model,
        _optimizer(recipe, model),
        schedule=_schedule(recipe, steps, steps_per_epoch),
        loss=_loss(recipe, fold.seen, texts.to(world.device), world),
        settings=_settings(
            recipe,
            running,
            fold,
            out,
            steps,
            steps_per_epoch,
            world,
            about={"names": list(names), "texts": texts.tolist(), "input_side": input_side or 0},
        ),
        world=world,
    )
    if resume is not None:
        training.resume(resume)

    quarantine = Quarantine(out, world.rank)
    if world.is_first:
        quarantine.note([(p.image, p.reason) for p in fold.problems if p.role == "trn"])

    def stream(first: int) -> Iterator[dict[str, Any]]:
        found = batches(samples, share, world, workers=running.workers, start=first)
        return quarantine.sift(found)

    training.run(
        stream, _evaluator(recipe, running, input_side, fold, texts, world, quarantine, store)
    )
    quarantine.log_count(world)
    return training.eval_model.eval()


def _share(recipe: Recipe, world: World) -> int:
    """Samples per process of a batch."""
    share = world.share(recipe.batch_size)
    if share < 2 and recipe.arch.startswith("drn") and world.device.type != "cuda":
        raise SettingError(
            f"--batch_size {recipe.batch_size}: the batch norm of DRN needs at least 2 samples per "
            f"process in training; there are {world.size} processes"
        )
    return share


def _samples(recipe: Recipe, fold: Fold, store: StageStore | None, world: World) -> SazsSamples:
    settings: dict[str, Any] = {
        "seed": recipe.seed,
        "crop": recipe.crop,
        "mode": recipe.mode,
        "balanced": fold.benchmark.name == "coco",
        "classes": fold.benchmark.classes,
    }
    if store is not None:
        keys = keys_of([*fold.train, *fold.validation], store, world)
        return StoredSamples(fold.train, store.folder, keys, **settings)
    return SazsSamples(
        fold.train, scale=recipe.scale, rotate=recipe.rotate, reduce=recipe.reduce, **settings
    )


def complete(options: RecipeOptions, benchmark: str, mode: str) -> Recipe:
    """The recipe of `options`, with the published values where none is given."""
    known = sazs.ARCHITECTURES.get(options.arch)
    published = published_defaults(options.arch, benchmark)
    published["init"] = "hub" if known is None or known.hub else "none"
    return options.completed(**published, mode=mode)


def published_defaults(arch: str, benchmark: str) -> dict[str, Any]:
    """Settings of the published instructions that depend on network and benchmark."""
    if arch.startswith("lite2"):
        return {**LITE, "backbone_rate": 1.0 if arch == "lite2_frozen" else 0.1}
    if arch.startswith("drn"):
        epochs, drop_rate = (40, 0.95) if benchmark == "pascal" else (10, 0.9)
        return {"lr": 0.001, "epochs": epochs, "drop_rate": drop_rate}
    return {"lr": 0.001 if benchmark == "pascal" else 0.0002, "epochs": 20}


def start(recipe: Recipe, *, fresh: bool = False) -> nn.Module:
    """The network before its first step.

    Parameters
    ----------
    fresh : leave out the published start, for weights that will be loaded anyway
    """
    model = sazs.build(recipe.arch, drop_rate=recipe.drop_rate)
    if fresh:
        return model
    if recipe.pretrained:
        load_weights(model, recipe.pretrained)
    elif recipe.init != "none":
        sazs.load_initial(model, recipe.arch, recipe.init)
    return model


def _optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    lr, decay = recipe.lr, recipe.weight_decay
    groups: Any = [p for p in model.parameters() if p.requires_grad]
    if recipe.backbone_rate != 1:
        stages = getattr(model, "stages", None)
        if stages is None:
            raise SettingError(
                f"--backbone-rate {recipe.backbone_rate}: expected 1 for {recipe.arch}, whose "
                "backbone has no separate rate"
            )
        backbone = list(stages.parameters())
        known = {id(p) for p in backbone}
        head = [p for p in groups if id(p) not in known]
        groups = [{"params": head}, {"params": backbone, "lr": lr * recipe.backbone_rate}]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr, weight_decay=decay)
    return torch.optim.SGD(groups, lr, momentum=recipe.momentum, weight_decay=decay)


def _schedule(recipe: Recipe, steps: int, steps_per_epoch: int) -> Schedule:
    if recipe.lr_mode == "step":
        return step_decay(recipe.step * steps_per_epoch)
    # Published: one rate for each of many epochs. Ours are few.
    return poly(steps, hold=1 if recipe.arch.startswith("lite2") else steps_per_epoch)


def _loss(recipe: Recipe, seen: list[int], texts: Tensor, world: World) -> Loss:
    regressor = None
    if recipe.shape_loss != "none" and recipe.regressor:
        regressor = load_regressor(recipe.regressor).to(world.device)
    joint = JointLoss(
        mode=recipe.mode, shape=recipe.shape_loss, regressor=regressor, overlap=recipe.overlap
    )

    def loss(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        stages = batch.get("stages")
        inputs = sazs.normalised(batch["image"]) if stages is None else stages
        edge_logits, features = model(inputs)
        asked = torch.stack([torch.zeros_like(batch["class_id"]), batch["class_id"] + 1], dim=1)
        log_prob = sazs.log_probabilities(features, texts[asked])
        # As with the published data-parallel wrapper, the loss is that of the whole batch.
        parts = (log_prob, edge_logits.float(), batch["target"], batch["edges"])
        terms = joint(*map(world.whole, parts))
        if recipe.absent:
            scores = sazs.class_scores(features, texts[[0, *(c + 1 for c in seen)]]).float()
            margins = scores[:, 1:] - scores[:, :1]
            own = absent_loss(margins, batch["shown"][:, seen], batch["target"])
            terms["absent"] = world.whole(own).mean()
            terms["total"] = terms["total"] + recipe.absent * terms["absent"]
        return terms

    return loss


def _settings(
    recipe: Recipe,
    running: Running,
    fold: Fold,
    out: Path,
    steps: int,
    steps_per_epoch: int,
    world: World,
    *,
    about: Mapping[str, Any],
) -> Settings:
    identity = {
        **recipe.model_dump(),
        "benchmark": fold.benchmark.name,
        "fold": fold.number,
        "held_out": list(fold.unseen),
        "samples": len(fold.train),
        "processes": world.size,
        "list of samples": _digest([[item.photo, item.class_id] for item in fold.train]),
        "class names and text embeddings": _digest([about["names"], about["texts"]]),
    }
    return Settings(
        out=out,
        steps=steps,
        seed=recipe.seed,
        autocast=running.autocast,
        accumulate=recipe.accumulate,
        ema=running.ema,
        channels_last=running.channels_last,
        compile=running.compile,
        save_every=running.save_every or steps_per_epoch,
        evaluate_every=steps_per_epoch,
        select="validation_miou",
        identity=identity,
        recipe={**identity, **about},
        memory_advice=MEMORY_ADVICE,
    )


def _digest(content: Any) -> str:
    """A short name of plain values, equal for equal ones."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def _evaluator(
    recipe: Recipe,
    running: Running,
    input_side: int | None,
    fold: Fold,
    texts: Tensor,
    world: World,
    quarantine: Quarantine,
    store: StageStore | None,
) -> Evaluate | None:
    """Score after an epoch: seen classes on images kept for it; as published, the test classes.

    Items that cannot be read are found and left out now, not when the first epoch ends.
    """
    items = fold.test if recipe.mode == "reference" else fold.validation
    if len(items) > running.validation_items:
        even = np.linspace(0, len(items) - 1, running.validation_items).round().astype(int)
        items = [items[i] for i in even]
    items, unread = readable_items(items)
    quarantine.note(unread)
    if not items:
        log.warning("no items to validate on: there will be no %s", BEST)
        return None
    part = (world.rank, world.size)
    reference = f"reference_{fold.benchmark.name}"

    def evaluate(model: nn.Module) -> dict[str, float]:
        counts = count_answers(
            items,
            SazsSegmenter(model, side=input_side, autocast=running.autocast, store=store),
            texts,
            reference=reference,
            fusion=method("agreement"),
            part=part,
        )
        counts.sum_parts(world.sum)
        once = np.ones(len(items), np.int64)
        tally = counts.tally("network", "corrected", once, fold.benchmark.classes)
        return {"validation_miou": tally.miou(sorted({item.class_id for item in items}))}

    return evaluate
