"""Training samples of SAZS: augmented crops, and targets at the network's stride."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

from data.errors import SettingError
from data.pictures import IGNORE, read_label
from data.sazs.edges import outlines, reference_edges, shrink_edges
from data.sazs.folds import Item
from data.sazs.transforms import augment
from train.distributed import World
from train.loading import make_loader
from train.sampling import BatchSampler, Draw, generator
from train.unread import KEY, check_size, readable

STRIDE = 8  # of the network's output


class SazsSamples(Dataset):
    """Draw -> one training sample.

    A sample is a mapping: `image` (S, S, 3) uint8, `target` (S/8, S/8) uint8 with 0 "others", 1
    class, 255 void, `edges` (1, S/8, S/8) uint8, `class_id` int64. Photos that cannot be read are
    named under `train.unread.KEY`, and others taken.

    Parameters
    ----------
    items : items of seen classes
    seed : decides, with the draw, how a sample looks
    crop, scale, rotate : see `data.sazs.transforms.augment`
    reduce : photos are made smaller by this factor first; training on small machines
    mode : "corrected" or "reference", see `targets`
    classes : number of classes of the benchmark
    balanced : bool
        Draw a class evenly, then one of its items, instead of the item of that number (published
        for COCO).

    Raises
    ------
    SettingError
        The crop is no multiple of 16.
    """

    def __init__(
        self,
        items: Sequence[Item],
        *,
        seed: int,
        crop: int = 512,
        scale: float = 2.0,
        rotate: int = 10,
        reduce: int = 1,
        mode: str = "corrected",
        classes: int = 20,
        balanced: bool = False,
    ) -> None:
        if crop % 16 or crop < 16:
            raise SettingError(
                f"crop size {crop}: expected a multiple of 16, so that the output of every network "
                "is an eighth of it"
            )
        self.items, self.seed, self.mode, self.classes = items, seed, mode, classes
        self.crop, self.scale, self.rotate, self.reduce = crop, scale, rotate, reduce
        self._by_class: list[list[int]] = []
        if balanced:
            ids = sorted({item.class_id for item in items})
            self._by_class = [
                [n for n, item in enumerate(items) if item.class_id == class_id] for class_id in ids
            ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        rng = generator(self.seed, draw)
        number = draw.item
        if self._by_class:
            number = int(rng.choice(self._by_class[rng.integers(len(self._by_class))]))
        (item, image, labels), unread = readable(self._read, number, len(self))
        image, labels = reduced(image, labels, self.reduce)
        image, labels = augment(
            image,
            labels,
            rng,
            rotate=self.rotate,
            scale=self.scale,
            crop=self.crop,
        )
        target, edges = targets(labels, item.class_id, mode=self.mode, classes=self.classes)
        return {
            "image": torch.from_numpy(image),
            "target": torch.from_numpy(target),
            "edges": torch.from_numpy(edges)[None],
            "class_id": torch.tensor(item.class_id),
            KEY: unread,
        }

    def _read(self, number: int) -> tuple[Item, np.ndarray, np.ndarray]:
        item = self.items[number]
        image, labels = item.read_image(), read_label(item.label)
        check_size(image, labels, item.label)
        return item, image, labels


def reduced(image: np.ndarray, labels: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Photo and label map at one `factor`-th of their size: areas averaged, labels picked."""
    if factor == 1:
        return image, labels
    labels = labels[factor // 2 :: factor, factor // 2 :: factor]
    return cv2.resize(image, labels.shape[::-1], interpolation=cv2.INTER_AREA), labels


def targets(
    labels: np.ndarray, class_id: int, *, mode: str, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Target and edge map of a crop, at an eighth of its size.

    As published ("reference"), void counts as "others", edges are those of every class and of the
    frame, and each 8 x 8 cell is represented by its upper left pixel. "corrected": void stays void,
    edges are those of the class asked for, a cell with any edge pixel is edge, and the target is
    taken next to the centre of the cell, where the feature lies.

    Parameters
    ----------
    labels : ndarray, (S, S), uint8
        0 background, class id + 1, 255 void.

    Returns
    -------
    target, edges : ndarray, (S/8, S/8), uint8
    """
    target = (labels == class_id + 1).astype(np.uint8)
    if mode == "reference":
        edges = shrink_edges(reference_edges(labels, classes), STRIDE, reference=True)
        return target[::STRIDE, ::STRIDE].copy(), edges.copy()
    edges = shrink_edges(outlines(labels, [class_id + 1]), STRIDE)
    target[labels == IGNORE] = IGNORE
    return target[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].copy(), edges


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch: stacked tensors, and one list of the photos that were passed over."""
    unread = [photo for sample in samples for photo in sample.pop(KEY)]
    return default_collate(samples) | {KEY: unread}


def batches(
    samples: SazsSamples, batch_size: int, world: World, *, workers: int, start: int
) -> Iterator[dict[str, Any]]:
    """Endless batches from number `start` on; which samples they hold depends on the seed alone."""
    draws = BatchSampler(
        len(samples),
        batch_size,
        seed=samples.seed,
        rank=world.rank,
        size=world.size,
        start=start,
    )
    return make_loader(samples, draws, collate=collate, world=world, workers=workers)
