"""Items that SAZS is trained and tested on: an image, its label map, and a class present in it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.datasets import open_tree
from data.errors import DatasetError, ImageError
from data.parallel import ordered_map
from data.pictures import IGNORE, read_image, read_label
from data.sazs.benchmark import Benchmark
from data.sazs.episodes import episodes_of
from data.sazs.published import read_lists
from data.sazs.splits import ImageClass, Lists, benchmark_of, generate
from data.trees.tree import Tree

log = logging.getLogger(__name__)


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
    """The items of a benchmark with one fold of classes, or any others, held out.

    Attributes
    ----------
    number : of the fold; None if classes were chosen by name
    unseen : ids of the classes held out, ascending
    train, validation : items of seen classes, from different images
    test : items of unseen classes, each once
    seen_test : items of seen classes from the test images, each once
    episodes : how often each item of `test` occurs in the published 1000 episodes, (n,) int;
        None for a subset of COCO in which a class has no test image
    problems : images of both roles that cannot be used
    """

    benchmark: Benchmark
    number: int | None
    unseen: Sequence[int]
    train: Sequence[Item]
    validation: Sequence[Item]
    test: Sequence[Item]
    seen_test: Sequence[Item]
    episodes: np.ndarray | None
    problems: Sequence[Problem] = ()

    @property
    def seen(self) -> list[int]:
        return [c for c in range(self.benchmark.classes) if c not in self.unseen]


def first_problem(problems: Sequence[Problem], role: str) -> str:
    """The images of a role that cannot be used, for the end of a message; "" without any."""
    own = [problem for problem in problems if problem.role == role]
    if not own:
        return ""
    return f"; {len(own)} images cannot be used, the first: {own[0].reason}"


def open_fold(
    benchmark: str,
    data_dir: str | Path,
    fold: int,
    *,
    held_out: Sequence[int] = (),
    leave_out_unseen: bool = False,
    lists: str | Path | None = None,
    validation_share: float = 0.1,
) -> Fold:
    """Open a benchmark below `data_dir` with one fold held out.

    Parameters
    ----------
    benchmark : "pascal" or "coco"
    held_out : ids of the classes to hold out instead of those of `fold`
    leave_out_unseen : bool
        Leave out every training image whose label map has a pixel of a class that is held out. As
        published they stay, with these classes as background.
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
    # Raises for a fold that does not exist, before files are read.
    unseen = sorted(held_out) or rules.class_ids(fold, "val")
    tree = open_tree(benchmark, data_dir)
    pairs = _read_lists(rules, tree, lists)
    places = _places(tree)
    train, validation = _split(pairs.pairs_without(unseen), validation_share)
    problems = _problems(tree, pairs)
    once = list(dict.fromkeys(pairs.pairs_of(unseen)))
    seen = [pair for pair in pairs.pairs_of(range(rules.classes)) if pair.class_id not in unseen]
    if not once:
        raise DatasetError(
            f"{tree.root}: expected test images that show the held-out classes, found none"
            f"{first_problem(problems, 'val')}"
        )
    published = _published(pairs, unseen)
    for role, listed in (("trn", [*train, *validation]), ("val", [*once, *seen])):
        problems += _absent(role, listed, places)
    of_train, of_validation = (_items(part, places) for part in (train, validation))
    if leave_out_unseen:
        of_train, of_validation = _without_unseen(of_train, of_validation, unseen)
    return Fold(
        rules,
        None if held_out else fold,
        unseen,
        of_train,
        of_validation,
        _items(once, places),
        _items(dict.fromkeys(seen), places),
        None
        if published is None
        else np.array([published[pair] for pair in once if pair.image in places]),
        problems,
    )


def _published(lists: Lists, unseen: Sequence[int]) -> Counter[ImageClass] | None:
    """How often the published episodes have each pair; None where a class has no test image."""
    without = [c for c in unseen if not lists.images["val"][c]]
    if without and lists.benchmark.interleaved and len(without) < len(unseen):
        log.warning(
            "%d of %d held-out classes have no test image (first: class %d): the published "
            "episodes cannot be drawn, each item is scored once",
            *(len(without), len(unseen), without[0]),
        )
        return None
    return Counter(episodes_of(lists, unseen, "published"))


def _without_unseen(
    train: list[Item], validation: list[Item], unseen: Sequence[int]
) -> tuple[list[Item], list[Item]]:
    """The items whose label maps have no pixel of an unseen class."""
    labels = sorted({item.label for item in [*train, *validation]})
    values = frozenset(c + 1 for c in unseen)
    shows = ordered_map(_shows, [(label, values) for label in labels], chunk=64)
    hidden = {label for label, shown in zip(labels, shows, strict=True) if shown}
    kept = [[item for item in part if item.label not in hidden] for part in (train, validation)]
    if not kept[0]:
        raise DatasetError(
            f"none of {len(train)} training items is left without the images that show a class "
            "that is held out; hold out fewer classes, or keep these images as published"
        )
    return kept[0], kept[1]


def _shows(task: tuple[Path, frozenset[int]]) -> bool:
    """Whether a label map has one of some values; one that cannot be read is left to be met."""
    path, values = task
    try:
        return not values.isdisjoint(np.unique(read_label(path)).tolist())
    except ImageError:
        return False


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
