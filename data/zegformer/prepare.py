"""Official label maps -> label maps of class ids, for ZegFormer: one pass, all cores, resumable.

Every source is decoded once, all its outputs are written from it, each whole or absent. A source
whose outputs are all there is left alone, so a run that was stopped goes on where it was. Values
that belong to no class of an output become its ignore value; nothing is resampled.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data.errors import DatasetError, ImageError
from data.files import atomic_path
from data.parallel import ordered_map
from data.pictures import read_image, read_label
from data.text.vocabulary import Vocabulary, builtin
from data.trees.findings import Finding, compared

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Conversion:
    """One source label map and what is made of it.

    outputs : (path, "seen", "unseen" or "all") each; in the classes of `vocabulary`.
    photo : (official photo, where the published layout has it), linked; or None.
    decode : name of a function in `DECODERS`.
    """

    source: Path
    outputs: tuple[tuple[Path, str], ...]
    vocabulary: str
    photo: tuple[Path, Path] | None = None
    decode: str = "values"

    @property
    def done(self) -> bool:
        made = all(path.is_file() for path, _ in self.outputs)
        return made and (self.photo is None or self.photo[1].exists())


def ade_objects(path: Path) -> np.ndarray:
    """ADE20K's `_seg.png`: object id = floor(R / 10) * 256 + G, (H, W) uint16."""
    pixels = read_image(path).astype(np.uint16)
    return pixels[..., 0] // 10 * 256 + pixels[..., 1]


DECODERS: dict[str, Callable[[Path], np.ndarray]] = {"values": read_label, "ade": ade_objects}


@functools.cache
def _table(vocabulary: str, subset: str) -> np.ndarray:
    return builtin(vocabulary).subset(subset).lookup()


def convert(task: Conversion) -> str:
    """Write what is missing of a conversion; returns why it could not be done, or ""."""
    try:
        labels = DECODERS[task.decode](task.source)
        for path, subset in task.outputs:
            converted = _table(task.vocabulary, subset)[labels]
            with atomic_path(path, durable=False) as temporary:
                Image.fromarray(converted).save(temporary)
        if task.photo is not None:
            _link(*task.photo)
    except ImageError as error:
        return str(error)
    return ""


def _link(photo: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        place.unlink(missing_ok=True)  # a link to a file that was moved
        place.symlink_to(photo.resolve())


def run(
    tasks: Sequence[Conversion], *, workers: int | None = None, progress: Progress | None = None
) -> tuple[int, list[str]]:
    """Do what is not done yet.

    Returns
    -------
    (number of sources converted now, reasons of those that could not be read)
    """
    todo = [task for task in tasks if not task.done]
    log.info("%d label maps, %d of them done before", len(tasks), len(tasks) - len(todo))
    failed = []
    for number, reason in enumerate(ordered_map(convert, todo, workers=workers, chunk=16), 1):
        if reason:
            failed.append(reason)
            log.warning("%s", reason)
        if progress is not None:
            progress(number, len(todo))
    os.sync()  # the files were not flushed one by one
    return len(todo) - len(failed), failed


def count_check(what: str, folder: Path, published: int, how: str) -> Finding:
    """How many files `folder` has against the published number."""
    found = sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0
    return compared(what, folder, found, published, how)


def stems(folder: Path, suffix: str, how: str) -> list[str]:
    """Names without suffix of the files of `folder`, sorted.

    Raises
    ------
    DatasetError
        No such folder, or none of these files; `how` says what belongs there.
    """
    found = sorted(p.name.removesuffix(suffix) for p in folder.glob(f"*{suffix}")) if (
        folder.is_dir()
    ) else []  # fmt: skip
    if not found:
        raise DatasetError(f"{folder}: no *{suffix} there; {how}")
    return found


def write_class_names(vocabulary: Vocabulary, folder: Path, names: dict[str, str]) -> None:
    """The published JSON lists of class names: {subset: file name}."""
    import json

    for subset, name in names.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(json.dumps(list(vocabulary.subset(subset).names)))
