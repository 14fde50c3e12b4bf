"""Official label maps -> label maps of class ids, for ZegFormer: one pass, all cores, resumable.

Every source is decoded once, and the outputs that are missing are written from it, each whole or
not at all, so a run that was stopped continues where it was. Classes that an output does not have
become its ignore value; values that are neither a class nor void of the set end the run, because
the files are of another archive. Nothing is resampled.
"""

from __future__ import annotations

import functools
import json
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
from data.trees.tree import list_pictures

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Conversion:
    """One source label map and what is made of it.

    outputs : (path, "seen", "unseen" or "all") each; in the classes of `vocabulary`
    photo : (official image, where the published layout has it), linked; or None
    decode : name of a function in `DECODERS`
    archive : what the source should be, for the error message
    """

    source: Path
    outputs: tuple[tuple[Path, str], ...]
    vocabulary: str
    archive: str
    photo: tuple[Path, Path] | None = None
    decode: str = "values"

    @property
    def missing(self) -> list[tuple[Path, str]]:
        return [(path, subset) for path, subset in self.outputs if not path.is_file()]

    @property
    def done(self) -> bool:
        return not self.missing and (self.photo is None or self.photo[1].exists())


def ade_objects(path: Path) -> np.ndarray:
    """ADE20K's `_seg.png`: object id = floor(R / 10) * 256 + G, (H, W) uint16."""
    pixels = read_image(path).astype(np.uint16)
    return pixels[..., 0] // 10 * 256 + pixels[..., 1]


VOID: dict[str, Sequence[int]] = {
    "coco_stuff": (255,),
    "voc": (0, 255),
    "ade20k_full": range(3689),  # the objects that are too rare to be classes, and 0
}
"""Values that published label maps may have next to their classes."""

DECODERS: dict[str, Callable[[Path], np.ndarray]] = {"values": read_label, "ade": ade_objects}


@functools.cache
def _table(vocabulary: str, subset: str) -> np.ndarray:
    return builtin(vocabulary).subset(subset).lookup()


@functools.cache
def _is_known(vocabulary: str) -> np.ndarray:
    """(65536,) bool: the values that label maps of a set may have."""
    known = np.zeros(65536, bool)
    known[[*builtin(vocabulary).label_ids, *VOID[vocabulary]]] = True
    return known


def convert(task: Conversion) -> str:
    """Write what is missing of a conversion; returns why it could not be done, or "".

    Raises
    ------
    DatasetError
        The source has values of another numbering: it is of another archive.
    """
    try:
        missing = task.missing
        if missing:
            labels = DECODERS[task.decode](task.source)
            _check_values(task, labels)
        for path, subset in missing:
            converted = _table(task.vocabulary, subset)[labels]
            with atomic_path(path, durable=False) as temporary:
                Image.fromarray(converted).save(temporary)
        if task.photo is not None:
            _link(*task.photo)
    except ImageError as error:
        return str(error)
    return ""


def _check_values(task: Conversion, labels: np.ndarray) -> None:
    values = np.unique(labels)
    strange = values[~_is_known(task.vocabulary)[values]]
    if len(strange):
        shown = ", ".join(map(str, strange[:5])) + (", ..." if len(strange) > 5 else "")
        raise DatasetError(
            f"{task.source}: has the values {shown}, which are neither a class nor void; expected "
            f"{task.archive}. Nothing of this run was kept"
        )


def _link(photo: Path, place: Path) -> None:
    if not photo.is_file():
        raise ImageError(photo, "there is no such file")
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        place.unlink(missing_ok=True)  # a link to a file that was moved
        place.symlink_to(photo.resolve())


def run(
    tasks: Sequence[Conversion], *, workers: int | None = None, progress: Progress | None = None
) -> tuple[int, list[str]]:
    """Convert what is not converted yet.

    Returns
    -------
    (number of sources converted now, reasons of those that could not be read)

    Raises
    ------
    DatasetError
        See `convert`. The outputs of this run are removed: others may have been taken for classes
        that they are not.
    """
    todo = [task for task in tasks if not task.done]
    log.info("%d label maps, %d of them done before", len(tasks), len(tasks) - len(todo))
    outputs = [path for task in todo for path, _ in task.missing]
    try:
        failed = _converted(todo, workers, progress)
    except DatasetError:
        for path in outputs:
            path.unlink(missing_ok=True)
        raise
    os.sync()  # the files were not flushed one by one
    return len(todo) - len(failed), failed


def _converted(
    todo: Sequence[Conversion], workers: int | None, progress: Progress | None
) -> list[str]:
    failed = []
    for number, reason in enumerate(ordered_map(convert, todo, workers=workers, chunk=16), 1):
        if reason:
            failed.append(reason)
            log.warning("%s", reason)
        if progress is not None:
            progress(number, len(todo))
    return failed


def count_check(what: str, folder: Path, published: int, how: str) -> Finding:
    """How many files `folder` has against the published number."""
    found = sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0
    return compared(what, folder, found, published, how)


def pictures(folder: Path, how: str) -> dict[str, Path]:
    """Stem -> path of the pictures of `folder`, whatever the case of their endings, sorted.

    Raises
    ------
    DatasetError
        No such folder, or no picture in it; `how` says what belongs there.
    """
    paths = (
        {photo.id: photo.path for photo in list_pictures(folder).photos} if folder.is_dir() else {}
    )
    if not paths:
        raise DatasetError(f"{folder}: no images there; {how}")
    return paths


def write_class_names(vocabulary: Vocabulary, folder: Path, names: dict[str, str]) -> None:
    """The published JSON lists of class names, {subset: file name}; those there are left alone."""
    for subset, name in names.items():
        path, content = folder / name, list(vocabulary.subset(subset).names)
        if not path.is_file():
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(content))
        elif _read_json(path) != content:
            log.warning("%s: holds other names than %s; left as it is", path, vocabulary.name)


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text("utf-8-sig"))
    except ValueError:
        return None
