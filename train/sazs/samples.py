"""Training samples of SAZS: crops, and targets at the network's stride.

Crops are cut from augmented images, or from what a frozen backbone made of whole images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from data.errors import ImageError, SettingError
from data.pictures import IGNORE, read_label
from data.sazs.edges import outlines, reference_edges, shrink_edges
from data.sazs.folds import Item
from data.sazs.transforms import augment
from models.sazs.stored import read_stages
from train.distributed import World
from train.loading import make_loader
from train.sampling import BatchSampler, Draw, generator
from train.unread import KEY, check_size, readable

STRIDE = 8  # of the network's output
CELL = 16  # pixels along a cell of the coarsest stage that is stored
_NEITHER = 255  # a cell of the edge map that counts as neither edge nor other


class SazsSamples(Dataset):
    """Draw -> one training sample.

    A sample is a mapping: `image` (S, S, 3) uint8, `target` (S/8, S/8) uint8 with 0 "others", 1
    class, 255 void, `edges` (1, S/8, S/8) uint8, `class_id` int64, `shown` (classes,) bool, the
    classes in the crop. Images that cannot be read are named under `train.unread.KEY`, and others
    taken.

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
        read, unread = readable(self._read, self._number(draw, rng), len(self))
        return {**self._sample(*read, rng), KEY: unread}

    def _number(self, draw: Draw, rng: np.random.Generator) -> int:
        """Number of the item of a draw."""
        if self._by_class:
            return int(rng.choice(self._by_class[rng.integers(len(self._by_class))]))
        return draw.item

    def _sample(
        self, item: Item, image: Any, labels: np.ndarray, rng: np.random.Generator
    ) -> dict[str, Any]:
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
            "shown": shown(labels, self.classes),
        }

    def _read(self, number: int) -> tuple[Item, Any, np.ndarray]:
        item = self.items[number]
        image, labels = item.read_image(), read_label(item.label)
        check_size(image, labels, item.label)
        return item, image, labels


class StoredSamples(SazsSamples):
    """As `SazsSamples`, with `stages` of a frozen backbone, (d, h, w) float32 each, as the image.

    The features are those of the whole image. They are cropped and mirrored as maps: to mirror the
    image instead would change them a little. Nothing is rotated or scaled.

    Parameters
    ----------
    folder : of a `models.sazs.stored.StageStore`
    keys : path of an image -> key of its features; other images count as unreadable
    """

    def __init__(
        self,
        items: Sequence[Item],
        folder: Path,
        keys: Mapping[Path, str],
        **settings: Any,
    ) -> None:
        super().__init__(items, **settings)
        self.folder, self.keys = folder, keys

    def _read(self, number: int) -> tuple[Item, Any, np.ndarray]:
        item = self.items[number]
        if item.image not in self.keys:
            raise ImageError(item.image, "could not be read when the run began")
        return item, read_stages(self.folder, self.keys[item.image]), read_label(item.label)

    def _sample(
        self, item: Item, image: Any, labels: np.ndarray, rng: np.random.Generator
    ) -> dict[str, Any]:
        fine, cells = image[0].shape[1:], self.crop // CELL
        size = (fine[1] * STRIDE, fine[0] * STRIDE)
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
        target, edges = targets(labels, item.class_id, mode=self.mode, classes=self.classes)
        top, left = (int(rng.integers(max(1, side - cells + 1))) for side in image[-1].shape[1:])
        step = -1 if rng.random() < 0.5 else 1

        def cut(maps: np.ndarray, scale: int, **padding: Any) -> Tensor:
            crop = _crop(maps, top * scale, left * scale, cells * scale, **padding)
            return torch.from_numpy(np.ascontiguousarray(crop[..., ::step]))

        scale = CELL // STRIDE
        void = IGNORE if self.mode == "corrected" else 0
        whole = cut(labels[None], CELL, constant_values=IGNORE).numpy()
        return {
            "stages": [
                cut(stage.numpy(), stage.shape[1] * scale // fine[0], mode="edge").float()
                for stage in image
            ],
            "target": cut(target[None], scale, constant_values=void)[0],
            "edges": cut(edges[None], scale, constant_values=_NEITHER),
            "class_id": torch.tensor(item.class_id),
            "shown": shown(whole, self.classes),
        }


def _crop(maps: np.ndarray, top: int, left: int, side: int, **padding: Any) -> np.ndarray:
    """A square of (d, h, w), padded at the right and bottom where it leaves the maps."""
    crop = maps[:, top : top + side, left : left + side]
    below, right = side - crop.shape[1], side - crop.shape[2]
    return np.pad(crop, ((0, 0), (0, below), (0, right)), **padding)


def shown(labels: np.ndarray, classes: int) -> Tensor:
    """Which classes a label map shows, (classes,) bool."""
    return torch.from_numpy(np.bincount(labels.ravel(), minlength=256)[1 : classes + 1] > 0)


def reduced(image: np.ndarray, labels: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Photo and label map at one `factor`-th of their size: areas averaged, labels picked."""
    if factor == 1:
        return image, labels
    first_row, first_column = (min(factor, n) // 2 for n in labels.shape)
    labels = labels[first_row::factor, first_column::factor]
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
    """A batch: stacked tensors, and one list of the images that were skipped."""
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
