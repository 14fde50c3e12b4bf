"""Train SAZS: a recipe, a fold of a benchmark and text embeddings become weights.

The defaults are those of the published instructions; where `mode="corrected"` differs from the
published code is listed in docs/protocols.md.

Liu et al., "Delving into Shape-aware Zero-shot Semantic Segmentation", CVPR 2023.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data.sazs.folds import Fold, readable_items
from data.sazs.options import Recipe, RecipeOptions, Running
from eval.sazs.fusion import method
from eval.sazs.scoring import count_answers
from eval.sazs.segmenter import SazsSegmenter
from models.checkpoints import load_weights
from models.sazs import networks as sazs
from models.sazs.inverseform import load_regressor
from train.checkpoint import BEST
from train.distributed import World
from train.engine import Evaluate, Loss, Settings, Training
from train.sampling import BatchSampler
from train.sazs.losses import JointLoss
from train.sazs.samples import SazsSamples, batches
from train.schedule import poly, step_decay
from train.unread import Quarantine

log = logging.getLogger(__name__)

MEMORY_ADVICE = (
    "a smaller --batch_size with --accumulate, a smaller --crop-size, or --autocast bf16"
)


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
    SettingError, WeightsError, DivergenceError, OutOfMemoryError
    """
    running = running or Running()
    torch.manual_seed(recipe.seed)
    model = start(recipe, fresh=resume is not None)
    samples = _samples(recipe, fold)
    sampler = BatchSampler(len(samples), recipe.batch_size, seed=recipe.seed, size=world.size)
    steps_per_epoch = max(1, sampler.batches_per_epoch // recipe.accumulate)
    steps = recipe.epochs * steps_per_epoch
    log.info(
        "%d samples, %d steps, %d items to validate on", len(samples), steps, len(fold.validation)
    )
    training = Training(
        model,
        _optimizer(recipe, model),
        schedule=poly(steps, hold=steps_per_epoch)
        if recipe.lr_mode == "poly"
        else step_decay(recipe.step * steps_per_epoch),
        loss=_loss(recipe, texts.to(world.device), world),
        settings=_settings(
            recipe, running, fold, out, steps, steps_per_epoch, world, names=names, texts=texts
        ),
        world=world,
    )
    if resume is not None:
        training.resume(resume)

    quarantine = Quarantine(out, world.rank)
    if world.is_first:
        quarantine.note([(p.image, p.reason) for p in fold.problems if p.role == "trn"])

    def stream(first: int) -> Iterator[dict[str, Any]]:
        found = batches(samples, recipe.batch_size, world, workers=running.workers, start=first)
        return quarantine.sift(found)

    training.run(stream, _evaluator(recipe, running, input_side, fold, texts, world, quarantine))
    quarantine.log_count(world)
    return training.eval_model.eval()


def _samples(recipe: Recipe, fold: Fold) -> SazsSamples:
    return SazsSamples(
        fold.train,
        seed=recipe.seed,
        crop=recipe.crop,
        scale=recipe.scale,
        rotate=recipe.rotate,
        reduce=recipe.reduce,
        mode=recipe.mode,
        balanced=fold.benchmark.name == "coco",
        classes=fold.benchmark.classes,
    )


def complete(options: RecipeOptions, benchmark: str, mode: str) -> Recipe:
    """The recipe of `options`, with the published values where none is given."""
    known = sazs.ARCHITECTURES.get(options.arch)
    published = published_defaults(options.arch, benchmark)
    published["init"] = "hub" if known is None or known.hub else "none"
    return options.completed(**published, mode=mode)


def published_defaults(arch: str, benchmark: str) -> dict[str, Any]:
    """Settings of the published instructions that depend on network and benchmark."""
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
    parameters = [p for p in model.parameters() if p.requires_grad]
    lr, decay = recipe.lr, recipe.weight_decay
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr, weight_decay=decay)
    return torch.optim.SGD(parameters, lr, momentum=recipe.momentum, weight_decay=decay)


def _loss(recipe: Recipe, texts: Tensor, world: World) -> Loss:
    regressor = None
    if recipe.shape_loss != "none" and recipe.regressor:
        regressor = load_regressor(recipe.regressor).to(world.device)
    joint = JointLoss(
        mode=recipe.mode, shape=recipe.shape_loss, regressor=regressor, overlap=recipe.overlap
    )

    def loss(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        edge_logits, features = model(sazs.normalised(batch["image"]))
        asked = torch.stack([torch.zeros_like(batch["class_id"]), batch["class_id"] + 1], dim=1)
        log_prob = sazs.log_probabilities(features, texts[asked])
        return joint(log_prob, edge_logits, batch["target"], batch["edges"])

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
    names: Sequence[str],
    texts: Tensor,
) -> Settings:
    identity = {
        **recipe.model_dump(),
        "benchmark": fold.benchmark.name,
        "fold": fold.number,
        "samples": len(fold.train),
        "processes": world.size,
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
        recipe={**identity, "names": list(names), "texts": texts.tolist()},
        memory_advice=MEMORY_ADVICE,
    )


def _evaluator(
    recipe: Recipe,
    running: Running,
    input_side: int | None,
    fold: Fold,
    texts: Tensor,
    world: World,
    quarantine: Quarantine,
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
            SazsSegmenter(model, side=input_side, autocast=running.autocast),
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
