"""The official files of COCO-Stuff, VOC and ADE20K-Full, and the label maps made from them.

| set | wanted under the root | from |
|---|---|---|
| coco-stuff | coco/coco_stuff/images/{train2017,val2017} | COCO 2017 images |
| | coco/coco_stuff/annotations/{train2017,val2017} | stuffthingmaps_trainval2017.zip |
| voc | VOC2012/{JPEGImages,SegmentationClassAug,ImageSets} | VOC 2012, masks joined with SBD |
| | or VOCZERO/{images,annotations}/{train,val} | the arrangement that ZegFormer offers |
| ade20k-full | ADE20K_2021_17_01 with index_ade20k.pkl | by request from ADE20K's site |
"""

from __future__ import annotations

import pickle
from pathlib import Path

from data import array_pickles
from data.errors import DatasetError
from data.text.vocabulary import builtin
from data.trees.findings import Finding
from data.trees.lists import read_ids
from data.trees.voc import PascalTree
from data.zegformer.prepare import (
    Conversion,
    count_check,
    pictures,
    run,
    write_class_names,
)

PUBLISHED = {
    "coco-stuff": {"train2017": 118_287, "val2017_all": 5_000},
    "voc": {"train_seen": 10_582, "val_all": 1_449},
    "ade20k-full": {"training_seen": 25_574, "val_all": 2_000},
}
NAMES = tuple(PUBLISHED)
_LISTS = {part: f"{part}_classnames.json" for part in ("seen", "unseen", "all")}
_ADE_LISTS = {
    part: f"ADE20K_{count}_pure_class.json"
    for part, count in (("seen", 572), ("unseen", 275), ("all", 847))
}
CLASS_NAMES = {
    "coco-stuff": ("coco_stuff", "coco/coco_stuff/split", _LISTS),
    "voc": ("voc", "VOCZERO", _LISTS),
    "ade20k-full": ("ade20k_full", "ADE20K_2021_17_01", _ADE_LISTS),
}
"""Vocabulary, folder and published files of the class names of each set."""

_COCO_ARCHIVE = (
    "stuffthingmaps_trainval2017.zip of the COCO-Stuff project (category id - 1: 0 to 181, 255 "
    "void), not its pixelmaps or label maps of category ids"
)
_VOC_ARCHIVE = "masks of VOC 2012 and SBD (0 to 20, 255 void), as SegmentationClassAug holds them"
_ADE_ARCHIVE = "the _seg.png files of ADE20K_2021_17_01 (objects 0 to 3688 in red and green)"
_HOW = "as distributed by its publisher; see the table in docs/zegformer.md"


def prepare(
    name: str, root: Path, *, workers: int | None = None
) -> tuple[list[str], list[Finding]]:
    """Convert a set's label maps and write its lists of class names.

    Parameters
    ----------
    name : one of `NAMES`
    root : folder of all data sets

    Returns
    -------
    (why label maps could not be read, comparison of counts with the published ones)

    Raises
    ------
    DatasetError
        The official files are missing or from another archive.
    """
    makers = {"coco-stuff": _coco_stuff, "voc": _voc, "ade20k-full": _ade20k_full}
    if name not in makers:
        raise DatasetError(f"data set: expected one of {', '.join(NAMES)}, found {name!r}")
    tasks, outputs = makers[name](root)
    _, failed = run(tasks, workers=workers)
    vocabulary, folder, lists = CLASS_NAMES[name]
    write_class_names(builtin(vocabulary), root / folder, lists)
    counts = PUBLISHED[name].items()
    return failed, [count_check(f"{name} {part}", outputs / part, n, _HOW) for part, n in counts]


def _coco_stuff(root: Path) -> tuple[list[Conversion], Path]:
    base = root / "coco" / "coco_stuff"
    made = base / "annotations_detectron2"
    how = "unpack stuffthingmaps_trainval2017.zip of the COCO-Stuff project there"
    outputs = {
        "train2017": {"train2017": "seen"},
        "val2017": {"val2017_seen": "seen", "val2017_unseen": "unseen", "val2017_all": "all"},
    }
    tasks = [
        Conversion(
            source,
            tuple((made / folder / f"{stem}.png", subset) for folder, subset in parts.items()),
            "coco_stuff",
            _COCO_ARCHIVE,
        )
        for split, parts in outputs.items()
        for stem, source in pictures(base / "annotations" / split, how).items()
    ]
    return tasks, made


def _voc(root: Path) -> tuple[list[Conversion], Path]:
    base = root / "VOCZERO"
    made = base / "annotations_detectron2"
    outputs = {
        "train": {"train_seen": "seen"},
        "val": {"val_seen": "seen", "val_unseen": "unseen", "val_all": "all"},
    }
    tasks = []
    for split, parts in outputs.items():
        for stem, source, photo in _voc_sources(root, split):
            labels = tuple((made / folder / f"{stem}.png", s) for folder, s in parts.items())
            link = (photo, base / "images" / split / photo.name) if photo is not None else None
            tasks.append(Conversion(source, labels, "voc", _VOC_ARCHIVE, link))
    return tasks, made


def _voc_sources(root: Path, split: str) -> list[tuple[str, Path, Path | None]]:
    """(stem, mask, image to link or None) of VOCZERO if it is there, else of VOC 2012."""
    raw = root / "VOCZERO" / "annotations" / split
    if raw.is_dir():
        return [(stem, path, None) for stem, path in pictures(raw, _HOW).items()]
    voc = PascalTree(root)
    listed = voc.root / "ImageSets" / "Segmentation"
    listed /= f"{'trainaug' if split == 'train' else split}.txt"
    if not listed.is_file():
        raise DatasetError(
            f"expected {raw} or {listed}, found neither; put VOC 2012 with SegmentationClassAug "
            "and its list trainaug.txt there"
        )
    masks, images = pictures(voc.masks, _HOW), pictures(voc.images, _HOW)
    return [
        (stem, masks.get(stem, voc.masks / f"{stem}.png"),
         images.get(stem, voc.images / f"{stem}.jpg"))
        for stem in read_ids(listed)
    ]  # fmt: skip


def _ade20k_full(root: Path) -> tuple[list[Conversion], Path]:
    base = root / "ADE20K_2021_17_01"
    made = base / "annotations_detectron2_freq"
    tasks = []
    for folder, name in _ade_index(root, base / "index_ade20k.pkl"):
        stem = Path(name).stem
        training = stem.split("_")[1:2] != ["val"]
        parts = (
            {"training_seen": "seen"}
            if training
            else {"validation_seen": "seen", "val_unseen": "unseen", "val_all": "all"}
        )
        split = "training" if training else "validation"
        tasks.append(
            Conversion(
                root / folder / f"{stem}_seg.png",
                tuple((made / part / f"{stem}.tif", subset) for part, subset in parts.items()),
                "ade20k_full",
                _ADE_ARCHIVE,
                (root / folder / name, base / "images_detectron2_freq" / split / name),
                decode="ade",
            )
        )
    return tasks, made


def _ade_index(root: Path, path: Path) -> list[tuple[str, str]]:
    try:
        index = array_pickles.read(path)
        entries = list(zip(index["folder"], index["filename"], strict=True))
        if not all(_is_inside(folder, name) for folder, name in entries):
            raise DatasetError(f"{path}: names files outside {root}; use the official index")
        return entries
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); {_HOW}") from error
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{path}: not an index of ADE20K; expected a pickle with lists `folder` and `filename` "
            f"and without code ({error})"
        ) from error


def _is_inside(folder: str, name: str) -> bool:
    path = Path(folder)
    return not path.is_absolute() and ".." not in (*path.parts, name) and Path(name).name == name
