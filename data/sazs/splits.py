"""PASCAL-5i and COCO-20i: classes of each fold, and lists of (image, class) pairs from the masks.

The published lists carry no licence, so they are not part of this package: `generate` makes them
from the masks, and `data.sazs.published` reads them where a user has them, and compares.

Class ids count from 0; the value in a mask is the id + 1. `trn` images are for training, `val`
images for test; in each fold the classes of the other three folds are seen.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.datasets import DATASETS
from data.errors import DatasetError, ImageError, reason
from data.parallel import ordered_map
from data.pictures import IGNORE, picture_size, read_label
from data.progress import progress
from data.sazs.benchmark import ROLES, Benchmark
from data.sealed import read_json, write_json
from data.trees.tree import Tree

BENCHMARKS = {d.name: d.benchmark for d in DATASETS.values() if d.benchmark is not None}


class ImageClass(NamedTuple):
    """An image and a class that is present in it. `image` is named as in the published lists."""

    image: str
    class_id: int


def benchmark_of(dataset: str) -> Benchmark:
    """The benchmark of a data set.

    Raises
    ------
    DatasetError
        It has none.
    """
    if dataset not in BENCHMARKS:
        raise DatasetError(f"benchmark: expected one of {', '.join(BENCHMARKS)}, found {dataset!r}")
    return BENCHMARKS[dataset]


@dataclass
class Lists:
    """For each role and class the images that show it, in list order.

    `photos` counts the masks read per role (0 for lists read from files); `problems` are images
    whose classes could not be determined, as (image, reason).
    """

    benchmark: Benchmark
    images: dict[str, dict[int, list[str]]]
    photos: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ROLES, 0))
    problems: list[tuple[str, str]] = field(default_factory=list)

    def train_pairs(self, fold: int) -> list[ImageClass]:
        """Pairs of the seen classes, fold by fold, class by class, in list order."""
        return self.pairs_without(self.benchmark.class_ids(fold, "val"))

    def pairs_without(self, held_out: Collection[int]) -> list[ImageClass]:
        """As `train_pairs`, with any classes held out."""
        seen = [c for c in range(self.benchmark.classes) if c not in held_out]
        seen.sort(key=lambda c: (self.benchmark.fold_of(c), c))
        return [ImageClass(image, c) for c in seen for image in self.images["trn"][c]]

    def test_pairs(self, fold: int) -> list[ImageClass]:
        """Pairs of the held-out classes: by image for PASCAL, class by class for COCO."""
        return self.pairs_of(self.benchmark.class_ids(fold, "val"))

    def pairs_of(self, held_out: Sequence[int]) -> list[ImageClass]:
        """As `test_pairs`, with any classes held out."""
        pairs = [ImageClass(image, c) for c in held_out for image in self.images["val"][c]]
        return pairs if self.benchmark.interleaved else sorted(pairs)

    def save(self, path: str | Path) -> None:
        """Write the lists as JSON."""
        document = {
            "format": "eigenshape lists",
            "version": 2,
            "benchmark": self.benchmark.name,
            "photos": self.photos,
            "problems": self.problems,
            "images": {
                role: {str(c): members for c, members in by_class.items()}
                for role, by_class in self.images.items()
            },
        }
        write_json(path, document)

    @classmethod
    def load(cls, path: str | Path) -> Lists:
        """Read lists that `save` wrote.

        Raises
        ------
        DatasetError
            The file cannot be read, or is not such a list; names it.
        """
        again = "generate them again from the masks"
        try:
            document = read_json(path, DatasetError, remedy=again, unsealed=("version", 1))
            if document["format"] != "eigenshape lists" or document["version"] not in (1, 2):
                raise ValueError("another format or version")
            benchmark = BENCHMARKS[document["benchmark"]]
            images = {
                role: {c: document["images"][role][str(c)] for c in range(benchmark.classes)}
                for role in ROLES
            }
            problems = [(image, reason) for image, reason in document["problems"]]
            return cls(benchmark, images, document["photos"], problems)
        except DatasetError:
            raise
        except OSError as error:
            raise DatasetError(f"cannot read the lists {path}: {reason(error)}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(
                f"{path}: not lists of version 1 or 2 ({error!r}); {again}"
            ) from error


def generate(tree: Tree, *, workers: int | None = None) -> Lists:
    """Make the lists of a PASCAL or COCO tree from its masks.

    An image whose mask is missing, of another size, or of other values goes to `Lists.problems`.

    Raises
    ------
    DatasetError
        The tree is of another kind, has no images, or its lists of images are missing.
    """
    members, benchmark = tree.labelled(), benchmark_of(tree.name)
    lists = Lists(benchmark, {role: {c: [] for c in range(benchmark.classes)} for role in ROLES})
    tasks = [(benchmark, role, *labelled) for role in ROLES for labelled in sorted(members[role])]
    found = ordered_map(_classes_of, tasks, workers=workers, chunk=64)
    for role, image, class_ids, problem in progress(found, len(tasks), "lists", unit="mask"):
        if problem:
            lists.problems.append((image, problem))
        else:
            lists.photos[role] += 1
        for class_id in class_ids:
            lists.images[role][class_id].append(image)
    return lists


def _classes_of(task: tuple[Benchmark, str, str, Path, Path]) -> tuple[str, str, list[int], str]:
    """Role, image, class ids that the image is listed under, and the problem, if any."""
    benchmark, role, image, photo, mask = task
    try:
        labels = read_label(mask)
        if labels.shape != picture_size(photo):
            return role, image, [], f"{mask} is of another size than {photo}"
    except ImageError as error:
        return role, image, [], str(error)
    values = np.unique(labels)
    strange = values[(values > benchmark.classes) & (values != IGNORE)]
    if strange.size:
        allowed = f"0 to {benchmark.classes} and {IGNORE}"
        return role, image, [], f"{mask}: expected values {allowed}, found {strange[0]}"
    sampled = labels[benchmark.start :: benchmark.stride, benchmark.start :: benchmark.stride]
    counts = np.bincount(sampled.ravel(), minlength=benchmark.classes + 1)
    kept = np.flatnonzero(counts[1 : benchmark.classes + 1] >= benchmark.least)
    return role, image, kept.tolist(), ""
