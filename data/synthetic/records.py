"""Records of the data sets that need no download."""

from __future__ import annotations

from pathlib import Path

from data.synthetic import samples
from data.trees.dataset import Dataset, Generator
from data.trees.folder import folder_tree
from data.trees.voc import PASCAL


def _write_world(folder: Path, images: int, seed: int) -> None:
    from data.synthetic import world

    world.write(folder, photos=images, seed=seed)


def _world_ids(images: int) -> list[str]:
    from data.synthetic import world

    return world.photo_ids(images)


WORLD = Dataset(
    "world",
    "generated scenes in PASCAL's layout",
    PASCAL.tree,
    generator=Generator(_write_world, _world_ids),
)

SAMPLES = Dataset(
    "samples",
    "scikit-image's sample images",
    folder_tree,
    generator=Generator(
        lambda folder, images, seed: samples.write_photos(folder),
        lambda images: sorted(Path(name).stem for name in samples.PHOTOS),
    ),
)
