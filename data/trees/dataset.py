"""One record per data set: everything that the pipeline and the benchmarks know about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data.sazs.benchmark import Benchmark
from data.trees.tree import Tree


@dataclass(frozen=True)
class Generator:
    """How the images of a data set without a download are made.

    write : called with (folder, number of images, seed); writes a tree into the folder
    ids : called with the number of images; their ids, sorted, before any is written
    """

    write: Callable[[Path, int, int], object]
    ids: Callable[[int], list[str]]


@dataclass(frozen=True)
class Dataset:
    """A data set by name. `data.datasets` lists them.

    Attributes
    ----------
    name : str
    images : str
        What its images are, for help texts.
    tree : callable
        Makes the tree from its root and from which images are wanted, "all" or "listed".
    root_setting : str or None
        The setting that names its root; None if it lies below `datasets_root` or is generated.
    masks_in_tree : bool
        Whether masks go into the root of the tree, as `{name}_k{K}`, where published code looks
        for them; otherwise among the results.
    benchmark : Benchmark or None
        Classes, folds and the rule of its lists.
    vocabulary : str or None
        Key of the benchmark's class names, see `data.text.vocabulary.builtin`.
    generator : Generator or None
    """

    name: str
    images: str
    tree: Callable[[Path, str], Tree]
    root_setting: str | None = None
    masks_in_tree: bool = False
    benchmark: Benchmark | None = None
    vocabulary: str | None = None
    generator: Generator | None = None

    def open(self, root: str | Path, *, photos: str = "all") -> Tree:
        """Open the tree at `root`; nothing is read yet.

        Raises
        ------
        SettingError
            `photos` is neither "all" nor, for a data set with lists, "listed".
        """
        return self.tree(Path(root), photos)

    @property
    def target(self) -> str:
        """Name of its Snakemake target."""
        return f"{self.name}_k5" if self.masks_in_tree else self.name
