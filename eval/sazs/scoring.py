"""Score SAZS: three answers, both protocols and both countings in one pass.

| answer | what it is |
|---|---|
| `network` | the network's mask |
| `fused` | network and eigenvectors made into one, without a label |
| `oracle_upper_bound` | the better of network and eigen masks *by the label*: no method, a bound |

Protocols: `one_pass` scores each test item once; `published` weighs it by how often the published
1000 episodes have it. Countings: see `eval.sazs.metrics`. Without eigenvectors there is the
network's answer alone. Items whose image or label cannot be read are left out and named.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from data.errors import DatasetError, ImageError
from data.progress import progress
from data.sazs.folds import Fold, Item
from eigen.store.maps import EigenFolder, EigenMaps
from eval import boundary
from eval.sazs import oracle
from eval.sazs.fusion import Method
from eval.sazs.metrics import Tally, count
from eval.sazs.segmenter import SazsSegmenter

log = logging.getLogger(__name__)

ANSWERS = ("network", "fused", "oracle_upper_bound")


class Photo(NamedTuple):
    """An image of a scoring run: its items (one per class), pixels and eigenvectors."""

    items: list[tuple[int, Item]]
    image: np.ndarray
    maps: EigenMaps | None


def photos(
    items: Sequence[Item],
    eigen: EigenFolder | None,
    *,
    threads: int = 2,
    unread: list[tuple[str, str]] | None = None,
) -> Iterator[Photo]:
    """Read every image of the items once, ahead of its use; items keep their number.

    With `unread`, images that cannot be read are added to it as (id, reason), and left out.
    """
    ordered = sorted(enumerate(items), key=lambda numbered: numbered[1].photo)
    groups = [list(group) for _, group in groupby(ordered, key=lambda numbered: numbered[1].photo)]

    def read(group: list[tuple[int, Item]]) -> Photo | None:
        item = group[0][1]
        try:
            image = item.read_image()
            item.read_truth(image.shape[:2])
        except (ImageError, DatasetError) as error:
            if unread is None:
                raise
            log.warning("%s: left out: %s", item.photo, error)
            unread.append((item.photo, str(error)))
            return None
        known = eigen is not None and item.photo in eigen
        maps = eigen.maps(item.photo, image.shape[:2]) if eigen and known else None
        if maps is not None:
            maps = replace(maps, image=image)
        return Photo(group, image, maps)

    with ThreadPoolExecutor(threads) as pool:
        pending = [pool.submit(read, group) for group in groups[: 2 * threads]]
        for position in range(len(groups)):
            if position + 2 * threads < len(groups):
                pending.append(pool.submit(read, groups[position + 2 * threads]))
            photo = pending[position].result()
            pending[position] = None  # type: ignore[call-overload]
            if photo is not None:
                yield photo


def margins(
    items: Sequence[Item],
    segmenter: SazsSegmenter,
    texts: Tensor,
    eigen: EigenFolder | None = None,
    *,
    threads: int = 2,
    unread: list[tuple[str, str]] | None = None,
) -> Iterator[tuple[int, Item, np.ndarray, EigenMaps | None]]:
    """The network's margin for every item, with the item's number: features once per image."""
    read = photos(items, eigen, threads=threads, unread=unread)
    for photo in progress(read, len({item.photo for item in items}), "scoring"):
        size = photo.image.shape[:2]
        features = segmenter.features(photo.image)
        for number, item in photo.items:
            pair = texts[[0, item.class_id + 1]]
            yield number, item, segmenter.margins(features, pair, size)[0], photo.maps


class Counts:
    """Counts of every item, answer and counting; parts counted by other processes add up.

    Attributes
    ----------
    areas : ndarray, (items, answers, countings, 4), int64
        Intersection and union, background and foreground each.
    outlines : ndarray, (items, answers, 4), int64
    scored : ndarray, (items,), int64
        1 for an item that was counted, 0 for one that was left out.
    answers : the names in `ANSWERS` that were computed
    unread : (id, reason) of images that were left out
    """

    def __init__(self, items: Sequence[Item], *, reference: str, answers: Sequence[str]) -> None:
        self.answers = tuple(answers)
        self.unread: list[tuple[str, str]] = []
        self.scored = np.zeros(len(items), np.int64)
        self.class_ids = np.array([item.class_id for item in items], int)
        self.countings = ("corrected", reference)
        self.areas = np.zeros((len(items), len(ANSWERS), 2, 4), np.int64)
        self.outlines = np.zeros((len(items), len(ANSWERS), 4), np.int64)

    def add(
        self,
        number: int,
        network: np.ndarray,
        fused: np.ndarray,
        masks: np.ndarray,
        truth: np.ndarray,
        void: np.ndarray,
    ) -> None:
        """Count the answers of item `number`; `masks` are the oracle's candidates."""
        self.scored[number] = 1
        for c, counting in enumerate(self.countings):
            index = oracle.choose(network, masks, truth, void, counting=counting)
            bound = network if index < 0 else masks[index]
            for a, mask in enumerate((network, fused, bound)):
                self.areas[number, a, c] = count(mask, truth, void, counting=counting).ravel()
                if c == 0:
                    self.outlines[number, a] = boundary.matches(mask, truth, void)

    def sum_parts(self, add: Callable[[np.ndarray], np.ndarray]) -> None:
        """Make the whole of parts; `add` sums an array over all processes."""
        self.areas, self.outlines = add(self.areas), add(self.outlines)
        self.scored = add(self.scored)

    @property
    def classes(self) -> list[int]:
        """Ids of the classes that were scored."""
        return np.unique(self.class_ids[self.scored > 0]).tolist()

    def item_iou(self, name: str) -> np.ndarray:
        """Foreground IoU of each item under the corrected counting, in [0, 1]."""
        areas = self.areas[:, ANSWERS.index(name), 0]
        return areas[:, 1] / np.maximum(areas[:, 3], 1)

    def tally(self, name: str, counting: str, times: np.ndarray, classes: int) -> Tally:
        """Counts per class, item i taken `times[i]` times."""
        tally, times = Tally(classes), times * self.scored
        a, c = ANSWERS.index(name), self.countings.index(counting)
        both = np.concatenate([self.areas[:, a, c], self.outlines[:, a]], axis=1)
        np.add.at(tally.counts, self.class_ids, both * times[:, None])
        np.add.at(tally.images, self.class_ids, times)
        return tally


def count_answers(
    items: Sequence[Item],
    segmenter: SazsSegmenter,
    texts: Tensor,
    *,
    reference: str,
    eigen: EigenFolder | None = None,
    fusion: Method,
    part: tuple[int, int] = (0, 1),
    threads: int = 2,
) -> Counts:
    """Count all answers of all items; without `eigen` the network's alone.

    Parameters
    ----------
    texts : Tensor, (1 + classes, 512)
        Row 0 "others", then the classes by id.
    reference : "reference_pascal" or "reference_coco"
        The published counting to report next to the corrected one.
    part : (rank, size)
        This process counts every `size`-th photo; the sum of all parts is the whole.

    Raises
    ------
    DatasetError
        No image of these items can be read.
    ShardError
        Eigenvectors that are damaged; names the file.
    """
    answers = ANSWERS if eigen is not None else ANSWERS[:1]
    counts = Counts(items, reference=reference, answers=answers)
    names = sorted({item.photo for item in items})[part[0] :: part[1]]
    mine = set(names)
    numbers = [number for number, item in enumerate(items) if item.photo in mine]
    chosen = [items[number] for number in numbers]
    for place, item, margin, maps in margins(
        chosen, segmenter, texts, eigen, threads=threads, unread=counts.unread
    ):
        truth, void = item.read_truth(margin.shape)
        network = margin > 0
        fused = network if maps is None else fusion(margin, maps)
        masks = network[None] if maps is None else maps.masks
        counts.add(numbers[place], network, fused, masks, truth, void)
    if chosen and not counts.scored.any():
        raise DatasetError(
            f"none of {len(names)} test images can be read, among them {counts.unread[0][1]}"
        )
    return counts


def figures(counts: Counts, fold: Fold, names: Sequence[str]) -> dict[str, Any]:
    """Scores of a test: protocol -> counting -> answer -> figures, all in percent.

    Without the published episodes there is one protocol.

    Parameters
    ----------
    counts : of the items `fold.test`
    names : class names by id
    """
    times = {"one_pass": np.ones(len(fold.test), np.int64)}
    if fold.episodes is not None:
        times["published"] = fold.episodes
    absent = [names[c] for c in fold.unseen if c not in counts.classes]
    if absent:
        log.warning("no test item shows %s; means are over the other classes", ", ".join(absent))
    return {
        protocol: {
            counting: answer_figures(counts, counting, times[protocol], fold, names)
            for counting in counts.countings
        }
        for protocol in times
    }


def answer_figures(
    counts: Counts, counting: str, times: np.ndarray, fold: Fold, names: Sequence[str]
) -> dict[str, Any]:
    """Answer -> figures, in percent, with item i taken `times[i]` times."""
    scored = counts.classes
    found = {}
    for name in counts.answers:
        tally = counts.tally(name, counting, times, fold.benchmark.classes)
        iou = 100 * tally.class_iou(scored)
        found[name] = {
            "miou": tally.miou(scored),
            "fb_iou": tally.fb_iou(scored),
            "boundary_f": tally.boundary_f(scored),
            "class_iou": {names[c]: float(value) for c, value in zip(scored, iou, strict=True)},
        }
    return found


def bootstrap(counts: Counts, *, draws: int = 1000, seed: int = 0) -> dict[str, float]:
    """Gain in mIoU of `fused` over `network`, by resampling test items with both answers paired.

    Returns
    -------
    gain, low, high : points of mIoU; the bounds hold 95 % of the resampled gains
    share_above_zero : of the resampled gains

    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    rng = np.random.default_rng(seed)
    scored, items = counts.classes, np.flatnonzero(counts.scored)

    def gain(times: np.ndarray) -> float:
        tallies = [
            counts.tally(name, "corrected", times, max(scored) + 1) for name in ("fused", "network")
        ]
        return tallies[0].miou(scored) - tallies[1].miou(scored)

    n, every = len(items), len(counts.scored)
    drawn = np.array(
        [gain(np.bincount(items[rng.integers(n, size=n)], minlength=every)) for _ in range(draws)]
    )
    return {
        "gain": gain(counts.scored),
        "low": float(np.quantile(drawn, 0.025)),
        "high": float(np.quantile(drawn, 0.975)),
        "share_above_zero": float(np.mean(drawn > 0)),
    }
