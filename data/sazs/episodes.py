"""Test items, (image, class) pairs: the published 1000 episodes, or each pair once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data.errors import DatasetError
from data.sazs.splits import ImageClass, Lists

EPISODES = 1000
PROTOCOLS = ("one_pass", "published")


def episodes(lists: Lists, fold: int, protocol: str = "one_pass") -> list[ImageClass]:
    """Test items of a fold.

    Parameters
    ----------
    protocol
        "one_pass": every pair once. "published": 1000 items; for PASCAL the list repeated, so that
        its beginning weighs more, for COCO 1000 draws with seed 0.

    Raises
    ------
    DatasetError
        There is no such protocol or fold, or the fold has no test pair.
    """
    return episodes_of(lists, lists.benchmark.class_ids(fold, "val"), protocol)


def episodes_of(
    lists: Lists, held_out: Sequence[int], protocol: str = "one_pass"
) -> list[ImageClass]:
    """As `episodes`, with any classes held out."""
    pairs = lists.pairs_of(held_out)
    if protocol not in PROTOCOLS:
        raise DatasetError(f"protocol: expected one of {', '.join(PROTOCOLS)}, found {protocol!r}")
    if not pairs:
        raise DatasetError(
            f"classes {', '.join(map(str, held_out))} of {lists.benchmark.name}: expected test "
            "pairs in the lists, found none"
        )
    if protocol == "one_pass":
        return pairs
    if lists.benchmark.interleaved:
        return draw({c: lists.images["val"][c] for c in held_out})
    return [pairs[i % len(pairs)] for i in range(EPISODES)]


def draw(images: dict[int, list[str]], *, count: int = EPISODES, seed: int = 0) -> list[ImageClass]:
    """Draw a class uniformly, then one of its images uniformly, `count` times.

    The legacy generator and the draws by permutation are those of the published code: another
    generator, or another order of the images in a list, gives other episodes.

    Raises
    ------
    DatasetError
        A class has no image.
    """
    empty = [c for c, names in images.items() if not names]
    if empty:
        raise DatasetError(
            f"class {empty[0]}: expected images to draw, found none ({len(empty)} such classes)"
        )
    rng = np.random.RandomState(seed)
    classes = sorted(images)
    drawn = []
    for _ in range(count):
        class_id = classes[rng.permutation(len(classes))[0]]
        names = images[class_id]
        drawn.append(ImageClass(names[rng.permutation(len(names))[0]], class_id))
    return drawn
