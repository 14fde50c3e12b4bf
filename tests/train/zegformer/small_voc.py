"""A handful of images in VOC's layout, one object each, whose colour tells its class."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from data.zegformer.prepare_sets import prepare


def write(
    root: Path,
    labels: Sequence[int],
    lists: Mapping[str, Sequence[int]],
    *,
    upright: Collection[int] = (),
    wider: int = 0,
) -> Path:
    """Write images p0, p1, ... of the given labels, their lists, and a table of text embeddings.

    Parameters
    ----------
    lists : name of a list, trainaug or val -> numbers of its images
    upright : numbers of the images that are higher than wide
    wider : pixels that each object is wider than the one before it
    """
    voc, rng = root / "VOC2012", np.random.default_rng(0)
    for folder in ("JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation"):
        (voc / folder).mkdir(parents=True)
    for i, label in enumerate(labels):
        size = (60, 50) if i in upright else (50, 60)
        mask = np.zeros(size, np.uint8)
        mask[10:40, 5 : 30 + wider * i] = label
        image = rng.integers(0, 60, (*size, 3), dtype=np.uint8)
        image[mask > 0] += np.uint8(7 * label)
        Image.fromarray(mask).save(voc / f"SegmentationClassAug/p{i}.png")
        Image.fromarray(image).save(voc / f"JPEGImages/p{i}.jpg")
    for name, numbers in lists.items():
        text = "".join(f"p{number}\n" for number in numbers)
        (voc / f"ImageSets/Segmentation/{name}.txt").write_text(text)
    prepare("voc", root, workers=1)
    table = np.random.default_rng(1).standard_normal((20, 16)).astype(np.float32)
    np.save(root / "text.npy", table)
    return root
