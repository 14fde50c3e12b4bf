"""Items that SAZS is trained and tested on: an image, its label map, and a class present in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.datasets import open_tree
from data.errors import DatasetError, ImageError
from data.pictures import IGNORE, read_image, read_label
from data.sazs.benchmark import Benchmark
from data.sazs.episodes import episodes
from data.sazs.published import read_lists
from data.sazs.splits import ImageClass, Lists, benchmark_of, generate
from data.trees.tree import Tree


class Item(NamedTuple):
    """`photo` is the id of the eigenvectors; `class_id` counts from 0, label values from 1."""

    photo: str
    class_id: int
    image: Path
    label: Path

    def read_image(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return read_image(self.image)

    def read_truth(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of the class and pixels without a label, (H, W) bool each.

        Raises
        ------
        DatasetError
            The label is of another size than the image.
        """
        label = read_label(self.label)
        if label.shape != size:
            raise DatasetError(
                f"{self.label}: expected the size of {self.image}, {size}, found {label.shape}"
            )
        return label == self.class_id + 1, label == IGNORE


def readable_items(items: Sequence[Item]) -> tuple[list[Item], list[tuple[str, str]]]:
    """The items whose image and label can be read, and (image, reason) of the others."""
    readable, unreadable = [], []
    for item in items:
        try:
            item.read_truth(item.read_image().shape[:2])
        except (ImageError, DatasetError) as error:
            unreadable.append((item.photo, str(error)))
        else:
            readable.append(item)
    return readable, unreadable


class Problem(NamedTuple):
    """An image left out. `role` is "trn" or "val"; `missing`: one of its files is absent."""

    role: str
    image: str
    reason: str
    missing: bool


@dataclass(frozen=True)
class Fold:
    """The items of a benchmark with one fold of classes held out.

    Attributes
    ----------
    train, validation : items of seen classes, from different images
    test : items of unseen classes, each once
    seen_test : items of seen classes from the test images, each once
    episodes : how often each item of `test` occurs in the published 1000 episodes, (n,) int
    problems : images of both roles that cannot be used
    """

    benchmark: Benchmark
    number: int
    train: Sequence[Item]
    validation: Sequence[Item]
    test: Sequence[Item]
    seen_test: Sequence[Item]
    episodes: np.ndarray
    problems: Sequence[Problem] = ()

    @property
    def seen(self) -> list[int]:
        return self.benchmark.class_ids(self.number, "trn")

    @property
    def unseen(self) -> list[int]:
        return self.benchmark.class_ids(self.number, "val")


def open_fold(
    benchmark: str,
    data_dir: str | Path,
    fold: int,
    *,
    lists: str | Path | None = None,
    validation_share: float = 0.1,
) -> Fold:
    """Open a benchmark below `data_dir` with one fold held out.

    Parameters
    ----------
    benchmark : "pascal" or "coco"
    lists : path, optional
        Lists of pairs: a JSON file written here, or a folder of published ones. By default they
        are generated from the label maps, which takes a while for COCO.
    validation_share : float
        Share of the training images that is held back to choose weights and parameters.

    Raises
    ------
    DatasetError
        The data or the lists are missing; the fold does not exist.
    """
    rules = benchmark_of(benchmark)
    rules.class_ids(fold, "val")  # raises for a fold that does not exist, before files are read
    tree = open_tree(benchmark, data_dir)
    pairs = _read_lists(rules, tree, lists)
    places = _places(tree)
    train, validation = _split(pairs.train_pairs(fold), validation_share)
    problems = _problems(tree, pairs)
    once = list(dict.fromkeys(pairs.test_pairs(fold)))
    seen = [
        ImageClass(name, c) for c in rules.class_ids(fold, "trn") for name in pairs.images["val"][c]
    ]
    published = Counter(episodes(pairs, fold, "published"))
    for role, listed in (("trn", [*train, *validation]), ("val", [*once, *seen])):
        problems += _absent(role, listed, places)
    return Fold(
        rules,
        fold,
        _items(train, places),
        _items(validation, places),
        _items(once, places),
        _items(dict.fromkeys(seen), places),
        np.array([published[pair] for pair in once if pair.image in places]),
        problems,
    )


def _problems(tree: Tree, lists: Lists) -> list[Problem]:
    """Problems met when the lists were generated from the label maps."""
    if not lists.problems:
        return []
    files = {
        image: (role, photo, mask)
        for role, listed in tree.labelled().items()
        for image, photo, mask in listed
    }
    problems = []
    for image, reason in lists.problems:
        role, *paths = files.get(image, ("trn",))
        problems.append(Problem(role, image, reason, not all(path.is_file() for path in paths)))
    return problems


def _absent(
    role: str, listed: Sequence[ImageClass], places: Mapping[str, tuple[str, Path, Path]]
) -> list[Problem]:
    """Listed images that the tree does not have, or has without a label map."""
    names = list(dict.fromkeys(pair.image for pair in listed))
    absent = [name for name in names if name not in places]
    if names and len(absent) == len(names):
        raise DatasetError(
            f"expected {len(names)} listed images, found none (first: {absent[0]}); check the data "
            "with `python -m pipeline check-data`, or use lists of your images"
        )
    return [
        Problem(role, name, "listed, but its image or label map is missing", True)
        for name in absent
    ]


def _read_lists(rules: Benchmark, tree: Tree, lists: str | Path | None) -> Lists:
    if lists is None:
        return generate(tree)
    if Path(lists).is_dir():
        return read_lists(rules, lists)
    return Lists.load(lists)


def _places(tree: Tree) -> dict[str, tuple[str, Path, Path]]:
    """Name in the lists -> image id, image, label."""
    places = {}
    for photo in tree.photos():
        label = tree.mask_path(photo)
        if label is not None:
            place = (photo.id, photo.path, label)
            places[photo.id] = places[f"{photo.split}/{photo.path.name}"] = place
    return places


def _items(pairs: Iterable[ImageClass], places: Mapping[str, tuple[str, Path, Path]]) -> list[Item]:
    return [
        Item(photo, pair.class_id, image, label)
        for pair in pairs
        if pair.image in places
        for photo, image, label in [places[pair.image]]
    ]


def _split(pairs: Sequence[ImageClass], share: float) -> tuple[list[ImageClass], list[ImageClass]]:
    """Pairs for training and for validation; all pairs of an image stay together."""
    photos = sorted({pair.image for pair in pairs})
    order = np.random.default_rng(0).permutation(len(photos))
    held = {photos[i] for i in order[: round(share * len(photos))]}
    return (
        [pair for pair in pairs if pair.image not in held],
        [pair for pair in pairs if pair.image in held],
    )
