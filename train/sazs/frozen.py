"""Train the head of a frozen backbone on stored features, with all classes of an image at once.

The features of an image are computed once and stored; a step then costs a small part of what it
costs with the backbone. Each class that is in an image is told from everything else there, as in
SAZS, by binary cross-entropy and the overlap (Dice) loss on its inner product with the features;
`absent` adds classes that are not in the image, as those that must not be found.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from data.errors import SettingError
from data.files import atomic_path
from data.pictures import read_image
from data.sazs.splits import IGNORE
from models.sazs.frozen import STAGES, FrozenHead, FrozenStages
from models.sazs.networks import normalised

log = logging.getLogger(__name__)

_FINE = 2  # cells of the finest stage along a cell of the others


@dataclass(frozen=True)
class Example:
    """An image and what reads its label map: (H, W) uint8, 0 background, class id + 1, 255 void."""

    name: str
    image: Path
    label: Callable[[], np.ndarray]


@dataclass(frozen=True)
class HeadRecipe:
    """How a head is trained.

    Attributes
    ----------
    steps, batch_size, lr, weight_decay, seed
        AdamW under a one-cycle schedule whose peak is `lr`.
    cells : side of the square crop, in cells of 16 pixels
    absent : weight of classes that are not in the image; SAZS has 0, and what is above it makes
        the network deny classes that it was not trained on
    drop_rate : channel dropout
    """

    steps: int = 160
    batch_size: int = 12
    lr: float = 3e-3
    weight_decay: float = 0.01
    seed: int = 0
    cells: int = 20
    absent: float = 0.0
    drop_rate: float = 0.1

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "cells"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name}: expected 1 or more, found {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class Stored:
    """Features of one image and its label map on the finest grid.

    Attributes
    ----------
    stages : list of (d, h, w) float16
    label : (h, w) uint8
    classes : ids of the classes in the whole label map
    """

    stages: list[np.ndarray]
    label: np.ndarray
    classes: frozenset[int]


def store(examples: Sequence[Example], folder: Path) -> list[Stored]:
    """Features of every image, computed once and kept in `folder` as float16.

    A file is named by the image and the backbone's weights, so that it is never taken for another.
    """
    folder.mkdir(parents=True, exist_ok=True)
    backbone: list[FrozenStages] = []
    return [_stored(example, folder, backbone) for example in tqdm(examples, desc="features")]


def _stored(example: Example, folder: Path, backbone: list[FrozenStages]) -> Stored:
    identity = hashlib.sha256(example.image.read_bytes()).hexdigest()[:16]
    path = folder / f"{example.name}-{identity}.npz"
    if not path.is_file():
        if not backbone:
            backbone.append(FrozenStages())
        pixels = normalised(torch.from_numpy(read_image(example.image))[None])
        # Half the time, and no coarser than what is stored.
        with torch.autocast("cpu", torch.bfloat16):
            maps = [stage[0].float().half().numpy() for stage in backbone[0](pixels)]
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, *maps)
    with np.load(path) as file:
        stages = [file[name] for name in file.files]
    whole = example.label()
    size = stages[0].shape[:0:-1]
    label = cv2.resize(whole, size, interpolation=cv2.INTER_NEAREST)
    present = frozenset(int(value) - 1 for value in np.unique(whole) if value not in (0, IGNORE))
    return Stored(stages, label, present)


def train_head(
    stored: Iterable[Stored], texts: Tensor, recipe: HeadRecipe, *, held_out: Sequence[int] = ()
) -> FrozenHead:
    """Train a head from randomly initialised weights.

    Parameters
    ----------
    texts : Tensor, (classes, 512), float32
        Text embeddings by class id.
    held_out : sequence of int
        Classes that must stay unseen: images that show one of them are left out altogether.

    Raises
    ------
    SettingError
        Fewer images than a batch remain.
    """
    hidden_classes = frozenset(held_out)
    pool = [item for item in stored if item.classes and not item.classes & hidden_classes]
    if len(pool) < recipe.batch_size:
        raise SettingError(
            f"batch_size: expected at most the {len(pool)} images that show seen classes alone, "
            f"found {recipe.batch_size}"
        )
    log.info("%d images show seen classes alone", len(pool))
    seen = torch.tensor([c for c in range(len(texts)) if c not in hidden_classes])
    rng = np.random.default_rng(recipe.seed)
    torch.manual_seed(recipe.seed)
    head = FrozenHead(drop_rate=recipe.drop_rate).train()
    optimizer = torch.optim.AdamW(head.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.lr, total_steps=recipe.steps, pct_start=0.1
    )
    for step in range(1, recipe.steps + 1):
        chosen = rng.choice(len(pool), recipe.batch_size, replace=False)
        stages, labels = _batch([pool[i] for i in chosen], recipe.cells, rng)
        value = loss(head.scores(head.hidden(stages), texts[seen]), labels, seen, recipe.absent)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            log.info("step %d of %d: loss %.3f", step, recipe.steps, value.item())
    return head.eval()


def loss(scores: Tensor, labels: Tensor, classes: Tensor, absent: float) -> Tensor:
    """Binary cross-entropy and Dice loss of the classes in each image, and `absent` of the others.

    Parameters
    ----------
    scores : Tensor, (B, N, h, w)
        Log-odds of each class against everything else.
    labels : Tensor, (B, h, w), int64
        As `Example.label`.
    classes : Tensor, (N,), int64
        Class ids of the N scores.
    """
    target = (labels[:, None] == (classes + 1)[None, :, None, None]).float()
    valid = (labels != IGNORE)[:, None].float()
    present = target.flatten(2).any(2)
    entropy = F.binary_cross_entropy_with_logits(scores, target, reduction="none") * valid
    entropy = entropy.flatten(2).sum(2) / valid.flatten(2).sum(2).clamp_min(1)
    probability = scores.sigmoid() * valid
    common = (probability * target).flatten(2).sum(2)
    both = probability.flatten(2).sum(2) + target.flatten(2).sum(2)
    dice = 1 - (2 * common + 1) / (both + 1)
    total = scores.sum() * 0
    if present.any():
        total = total + entropy[present].mean() + dice[present].mean()
    if absent and not present.all():
        total = total + absent * entropy[~present].mean()
    return total


def _batch(
    items: Sequence[Stored], cells: int, rng: np.random.Generator
) -> tuple[list[Tensor], Tensor]:
    """Random square crops, half of them mirrored; outside the image labels are void."""
    stages: list[list[np.ndarray]] = [[] for _ in STAGES]
    labels = []
    for item in items:
        height, width = item.stages[-1].shape[1:]
        top, left = (int(rng.integers(max(1, side - cells + 1))) for side in (height, width))
        step = -1 if rng.random() < 0.5 else 1
        for kept, stage in zip(stages, item.stages, strict=True):
            scale = _FINE if stage is item.stages[0] else 1
            crop = _crop(stage, top * scale, left * scale, cells * scale, mode="edge")
            kept.append(crop[..., ::step].astype(np.float32))
        side = cells * _FINE
        label = _crop(item.label[None], top * _FINE, left * _FINE, side, constant_values=IGNORE)
        labels.append(label[0, :, ::step].astype(np.int64))
    return (
        [torch.from_numpy(np.ascontiguousarray(np.stack(kept))) for kept in stages],
        torch.from_numpy(np.stack(labels)),
    )


def _crop(maps: np.ndarray, top: int, left: int, side: int, **padding: object) -> np.ndarray:
    crop = maps[:, top : top + side, left : left + side]
    below, right = side - crop.shape[1], side - crop.shape[2]
    return np.pad(crop, ((0, 0), (0, below), (0, right)), **padding)  # type: ignore[call-overload]
