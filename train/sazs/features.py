"""The features of a frozen backbone for a training run: computed once per image, by all processes.

A step on stored features costs a small part of what it costs with the backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data.errors import DatasetError, ImageError
from data.progress import progress
from data.sazs.folds import Item
from models.sazs.stored import StageStore
from train.distributed import World


def keys_of(items: Sequence[Item], store: StageStore, world: World) -> dict[Path, str]:
    """Store the features of all images of the items; return their keys by path.

    Images that cannot be read, or whose label map is of another size, have none.
    """
    by_image = {item.image: item for item in items}
    own = sorted(by_image)[world.rank :: world.size]
    keys: list[tuple[Path, str]] = []
    for path in progress(own, len(own), "features"):
        item = by_image[path]
        try:
            image = item.read_image()
            item.read_truth((image.shape[0], image.shape[1]))
        except (ImageError, DatasetError):
            continue  # named when a sample is drawn from it
        keys.append((path, store.add(image)))
    return dict(world.gather(keys))
