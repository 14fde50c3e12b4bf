"""Training samples of ZegFormer: random views, and one mask per class."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.errors import ImageError
from data.pictures import picture_size, read_label
from data.zegformer.sets import Pair, read_pair
from data.zegformer.transforms import Augmentation, class_masks, train_sample
from train.distributed import World
from train.loading import make_loader
from train.sampling import BatchSampler, Draw, generator, grouped_batches
from train.unread import KEY, readable
from train.zegformer.matcher import Target

log = logging.getLogger(__name__)


def labelled(pairs: Sequence[Pair], ignore: int) -> list[Pair]:
    """The pairs whose label map has a class, or cannot be read (`Samples` names those)."""

    def has_class(path: Path) -> bool:
        try:
            return bool((read_label(path) != ignore).any())
        except ImageError:
            return True

    kept = [pair for pair in pairs if has_class(pair.label)]
    log.info("%d of %d images show no class to train on", len(pairs) - len(kept), len(pairs))
    return kept


class Source(Dataset, ABC):
    """What batches are drawn from, one sample per draw of an image and an epoch."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, draw: Draw) -> dict[str, Any]: ...

    @abstractmethod
    def is_wide(self, item: int) -> bool:
        """Whether an image is wider than high, by its header; one that has none counts as high."""


class Samples(Source):
    """Draw -> {"image" (3, H, W) uint8, "labels" (n,) int64, "masks" (n, H, W) bool, "valid"}.

    `valid`, (H, W) bool, marks the labelled pixels. An image that cannot be read is named under
    `train.unread.KEY`, and the next one is used.
    """

    def __init__(
        self, pairs: Sequence[Pair], augmentation: Augmentation, *, classes: int, seed: int
    ) -> None:
        self.pairs, self.augmentation = pairs, augmentation
        self.classes, self.seed = classes, seed

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        image, label, unread = self.view(draw)
        pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return {"image": pixels, **self.truth(label), KEY: unread}

    def view(self, draw: Draw) -> tuple[np.ndarray, np.ndarray, list[Any]]:
        """Image (H, W, 3) uint8 and label map (H, W) of a draw, and what could not be read."""
        (image, label), unread = readable(self._read, draw.item, len(self))
        view = train_sample(image, label, self.augmentation, generator(self.seed, draw))
        return *view, unread

    def truth(self, label: np.ndarray) -> dict[str, Tensor]:
        """The entries of a sample that come from its label map."""
        ignore = self.augmentation.ignore
        labels, masks = class_masks(label, ignore)
        return {
            "labels": torch.from_numpy(labels),
            "masks": torch.from_numpy(masks),
            "valid": torch.from_numpy(label != ignore),
        }

    def is_wide(self, item: int) -> bool:
        try:
            height, width = picture_size(self.pairs[item].image)
        except ImageError:
            return False
        return width > height

    def _read(self, item: int) -> tuple[np.ndarray, np.ndarray]:
        ignore = self.augmentation.ignore
        return read_pair(self.pairs[item], classes=self.classes, ignore=ignore)


def collate(samples: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """A batch: one list per entry, because images have different numbers of masks."""
    unread = [photo for sample in samples for photo in sample.pop(KEY)]
    return {key: [sample[key] for sample in samples] for key in samples[0]} | {KEY: unread}


def targets(batch: dict[str, list[Tensor]], size: tuple[int, int]) -> list[Target]:
    """The batch's targets, padded to `size` (H, W) as the images are."""

    def padded(maps: Tensor) -> Tensor:
        full = maps.new_zeros(*maps.shape[:-2], *size)
        full[..., : maps.shape[-2], : maps.shape[-1]] = maps
        return full

    rows = zip(batch["labels"], batch["masks"], batch["valid"], strict=True)
    return [Target(labels, padded(masks), padded(valid)) for labels, masks, valid in rows]


def batches(
    samples: Source,
    batch_size: int,
    *,
    grouped: bool = False,
    world: World,
    seed: int,
    workers: int,
    start: int,
) -> Iterator[dict[str, Any]]:
    """Endless batches of this process from number `start` on; `grouped`: of one orientation each.

    Since samples are padded to one square, the two differ only in which images meet in a batch.
    """
    place = {"seed": seed, "rank": world.rank, "size": world.size, "start": start}
    draws: Iterable[list[Draw]] = (
        grouped_batches(len(samples), batch_size, group=samples.is_wide, **place)
        if grouped
        else BatchSampler(len(samples), batch_size, **place)
    )
    return make_loader(samples, draws, collate=collate, world=world, workers=workers)
