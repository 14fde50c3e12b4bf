"""The data sets by name. To add one, write a file with its tree and record, and list it here."""

from __future__ import annotations

import re
from pathlib import Path

from data.errors import DatasetError
from data.synthetic.records import SAMPLES, WORLD
from data.trees.coco import COCO
from data.trees.dataset import Dataset
from data.trees.folder import FOLDER
from data.trees.tree import Tree
from data.trees.voc import PASCAL

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset for dataset in (PASCAL, COCO, FOLDER, WORLD, SAMPLES)
}


def dataset(name: str) -> Dataset:
    """The data set of that name.

    Raises
    ------
    DatasetError
        There is none; the message lists the known ones.
    """
    if name not in DATASETS:
        raise DatasetError(f"data set: expected one of {', '.join(DATASETS)}, found {name!r}")
    return DATASETS[name]


def open_tree(name: str, root: str | Path, *, photos: str = "all") -> Tree:
    """Open the images of a data set; nothing is read yet.

    Parameters
    ----------
    name
        A key of `DATASETS`.
    root
        The folder that holds the data sets, or the data set itself.
    photos
        "all", or for "pascal" also "listed": only images that a list names or that have a mask.

    Raises
    ------
    DatasetError
        There is no such data set.
    SettingError
        It cannot tell which images are listed.
    """
    return dataset(name).open(root, photos=photos)


def downloaded() -> list[str]:
    """Names of the data sets that belong below `datasets_root`."""
    return [d.name for d in DATASETS.values() if d.root_setting is None and d.generator is None]


def generated() -> list[str]:
    """Names of the data sets that the pipeline generates."""
    return [d.name for d in DATASETS.values() if d.generator is not None]


def mask_folder(path: str | Path) -> Path:
    """The folder of masks meant by a path such as `datasets/pascal_k5`.

    Published commands name `datasets/pascal_k5`, while the masks are written to
    `datasets/VOC2012/pascal_k5`; each name finds the other folder. If neither exists, the path is
    returned unchanged.
    """
    path = Path(path)
    name = re.fullmatch(r"(.+)_k\d+", path.name)
    if path.exists() or name is None or name[1] not in DATASETS:
        return path
    for root in (path.parent, *path.parent.parents[:2]):
        for place in (dataset(name[1]).open(root).root, root):
            if (place / path.name).is_dir():
                return place / path.name
    return path
