"""Convert official label maps to label maps of class ids for ZegFormer; resumable.

Each source is decoded once, and the missing outputs are written from it, each whole or not at all,
so that an interrupted run resumes. Classes that an output does not have become its ignore value;
values that are neither a class nor void end the run, because the files are from another archive.
Nothing is resampled.
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
from data.progress import progress
from data.text.vocabulary import Vocabulary, builtin
from data.trees.findings import Finding, compared
from data.trees.tree import list_pictures

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conversion:
    """One source label map and its outputs.

    outputs : (path, "seen", "unseen" or "all") of each; in the classes of `vocabulary`
    photo : (official image, its path in the published layout), to be linked; or None
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
    """Write the missing outputs of a conversion; return why that failed, or "".

    Raises
    ------
    DatasetError
        The source has values of another numbering, so it is from another archive.
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
            f"{task.source}: expected {task.archive}; found the values {shown}, neither classes "
            "nor void. The files written by this run were removed"
        )


def _link(photo: Path, link: Path) -> None:
    if not photo.is_file():
        raise ImageError(photo, "no such file")
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.unlink(missing_ok=True)  # a link to a file that was moved
        link.symlink_to(photo.resolve())


def run(tasks: Sequence[Conversion], *, workers: int | None = None) -> tuple[int, list[str]]:
    """Run the conversions that are not done yet.

    Returns
    -------
    (number of sources converted by this call, reasons of those that could not be read)

    Raises
    ------
    DatasetError
        See `convert`. The outputs of this run are removed, since other values of the same archive
        may have passed for classes.
    """
    todo = [task for task in tasks if not task.done]
    log.info("%d label maps, %d of them already converted", len(tasks), len(tasks) - len(todo))
    outputs = [path for task in todo for path, _ in task.missing]
    try:
        failed = _converted(todo, workers)
    except DatasetError:
        for path in outputs:
            path.unlink(missing_ok=True)
        raise
    os.sync()  # the files were not flushed one by one
    return len(todo) - len(failed), failed


def _converted(todo: Sequence[Conversion], workers: int | None) -> list[str]:
    failed = []
    outcomes = ordered_map(convert, todo, workers=workers, chunk=16)
    for reason in progress(outcomes, len(todo), "label maps", unit="map"):
        if reason:
            failed.append(reason)
            log.warning("%s", reason)
    return failed


def count_check(what: str, folder: Path, published: int, how: str) -> Finding:
    """Compare the number of files in `folder` with the published one."""
    count = sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0
    return compared(what, folder, count, published, how)


def pictures(folder: Path, how: str) -> dict[str, Path]:
    """Path by stem of the images in `folder`, sorted; endings may be in any case.

    Raises
    ------
    DatasetError
        The folder or images in it are missing; the message ends with `how`.
    """
    paths = (
        {photo.id: photo.path for photo in list_pictures(folder).photos} if folder.is_dir() else {}
    )
    if not paths:
        raise DatasetError(f"{folder}: expected images, found none; {how}")
    return paths


def write_class_names(vocabulary: Vocabulary, folder: Path, names: dict[str, str]) -> None:
    """Write the published JSON lists of class names, {subset: file name}, that do not exist."""
    for subset, name in names.items():
        path, content = folder / name, list(vocabulary.subset(subset).names)
        if not path.is_file():
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(content))
        elif _read_json(path) != content:
            log.warning("%s: has other names than %s; not overwritten", path, vocabulary.name)


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text("utf-8-sig"))
    except ValueError:
        return None
