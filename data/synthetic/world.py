"""The generated world: a small data set in the layout of VOC2012 that needs no download.

Twenty classes, each a texture, a colour and a shape ("striped red disc"), in four folds of five as
in PASCAL-5i. Every word of a held-out class occurs in classes of each other fold, and the text
embedding of a class is the normalised sum of the vectors of its words: what is learned about
the words transfers to the class. Most images show classes of one fold only.

The same seed gives the same bytes, whatever the number of workers.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from data.files import atomic_path
from data.parallel import ordered_map
from data.pictures import write_png
from data.progress import progress
from data.sazs.benchmark import FOLDS
from data.synthetic.scenes import COLOURS, SHAPES, TEXTURES, Thing, draw_scene
from data.text.vocabulary import Vocabulary
from data.trees.voc import PASCAL_5I

CLASSES_PER_FOLD = PASCAL_5I.classes // FOLDS
PHOTO_SIZE = (240, 320)
DIMENSIONS = 512

# Share of images with classes of one fold only, so that in training a held-out class rarely occurs
# as background.
_ONE_FOLD = 0.85


def classes() -> list[Thing]:
    """The twenty classes in class-id order; id 5 f + j is the j-th class of fold f.

    Each fold has every shape and every colour once; no two classes agree in both.
    """
    colours = list(COLOURS)
    return [
        Thing(TEXTURES[(j + 2 * f) % 4 if j < 4 else f], colours[(j + f) % 5], SHAPES[j])
        for f in range(FOLDS)
        for j in range(CLASSES_PER_FOLD)
    ]


def vocabulary(fold: int | None = None) -> Vocabulary:
    """The twenty names with their label values 1 to 20; the classes of `fold` are unseen.

    Raises
    ------
    DatasetError
        There is no such fold.
    """
    names = tuple(thing.name for thing in classes())
    unseen = () if fold is None else PASCAL_5I.class_ids(fold, "val")
    return Vocabulary("world", names, frozenset(unseen), tuple(range(1, len(names) + 1)))


def text_embeddings(texts: Sequence[str]) -> np.ndarray:
    """Unit rows (n, 512) float32: the normalised sum of a fixed random vector per word."""
    rows = np.zeros((len(texts), DIMENSIONS))
    for row, text in zip(rows, texts, strict=True):
        for word in text.lower().split():
            row += np.random.default_rng(zlib.crc32(word.encode())).standard_normal(DIMENSIONS)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def photo_ids(photos: int) -> list[str]:
    """Ids of the images that `write` makes, the training images first."""
    return [f"world_{number:06d}" for number in range(photos)]


def write(
    root: str | Path, *, photos: int = 560, seed: int = 0, workers: int | None = None
) -> Path:
    """Write the world under `{root}/VOC2012`: images, masks, lists, class names and embeddings.

    Next to the published folders there are `class_names.txt`, `text_embeddings.npy` (rows in the
    order of the names) and, written last, `world.json` with the seed and the counts.

    Parameters
    ----------
    photos
        Number of images, two sevenths of them in the list `val`, the others in `trainaug`. The
        images cycle through the classes, so that all occur equally often.
    workers
        Processes; by default one per core.

    Images of a larger world that was written there before are removed.

    Returns
    -------
    Path
        The folder `{root}/VOC2012`.
    """
    base = Path(root) / "VOC2012"
    (base / "world.json").unlink(missing_ok=True)
    ids = photo_ids(photos)
    train = photos - photos * 2 // 7
    for name, listed in (("trainaug", ids[:train]), ("val", ids[train:])):
        _write_text(base / "ImageSets" / "Segmentation" / f"{name}.txt", listed)
    _remove_others(base, ids)
    tasks = [(base, photo_id, number, seed) for number, photo_id in enumerate(ids)]
    written = ordered_map(_write_photo, tasks, workers=workers, chunk=16)
    for _ in progress(written, len(tasks), "generated world"):
        pass

    names = vocabulary().names
    _write_text(base / "class_names.txt", names)
    with atomic_path(base / "text_embeddings.npy") as temporary:
        np.save(temporary, text_embeddings(names))
    facts = {"seed": seed, "trainaug": train, "val": photos - train, "classes": names}
    _write_text(base / "world.json", [json.dumps(facts, indent=1)])
    return base


def _write_text(path: Path, lines: Sequence[str]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def _remove_others(base: Path, ids: Sequence[str]) -> None:
    """Remove images and masks of a larger world that was written here before."""
    for folder, ending in (("JPEGImages", ".jpg"), ("SegmentationClassAug", ".png")):
        for stale in set((base / folder).glob(f"world_*{ending}")):
            if stale.stem not in ids:
                stale.unlink(missing_ok=True)


def _write_photo(task: tuple[Path, str, int, int]) -> None:
    base, photo_id, number, seed = task
    rng = np.random.default_rng([seed, number])
    things = classes()
    fold = number % FOLDS
    first = CLASSES_PER_FOLD * fold + number // FOLDS % CLASSES_PER_FOLD
    if rng.random() < _ONE_FOLD:
        pool = range(CLASSES_PER_FOLD * fold, CLASSES_PER_FOLD * (fold + 1))
    else:
        pool = range(len(things))
    others = [c for c in pool if c != first]
    shown = [first, *rng.choice(others, rng.integers(3), replace=False)]
    size = PHOTO_SIZE if rng.random() < 0.8 else PHOTO_SIZE[::-1]
    image, labels = draw_scene([(int(c) + 1, things[c]) for c in shown[::-1]], size, rng)

    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "JPEG", quality=92)
    with atomic_path(base / "JPEGImages" / f"{photo_id}.jpg", durable=False) as temporary:
        temporary.write_bytes(encoded.getvalue())
    write_png(base / "SegmentationClassAug" / f"{photo_id}.png", labels, durable=False)
