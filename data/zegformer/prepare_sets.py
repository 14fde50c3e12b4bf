"""Which official files make up COCO-Stuff, VOC and ADE20K-Full, and what is made of each.

| set | wanted under the root | from |
|---|---|---|
| coco-stuff | coco/coco_stuff/images/{train2017,val2017} | COCO 2017 photos |
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
from data.zegformer.prepare import Conversion, Progress, count_check, run, stems, write_class_names

PUBLISHED = {
    "coco-stuff": {"train2017": 118_287, "val2017_all": 5_000},
    "voc": {"train_seen": 10_582, "val_all": 1_449},
    "ade20k-full": {"training_seen": 25_574, "val_all": 2_000},
}
NAMES = tuple(PUBLISHED)
_HOW = "as distributed by its publisher; see the table in docs/zegformer.md"


def prepare(
    name: str, root: Path, *, workers: int | None = None, progress: Progress | None = None
) -> tuple[list[str], list[Finding]]:
    """Convert a set's label maps and write its lists of class names.

    Parameters
    ----------
    name : one of `NAMES`
    root : folder of all data sets
    progress : called with (done, of) after each label map

    Returns
    -------
    (reasons of label maps that could not be read, counts against the published ones)

    Raises
    ------
    DatasetError
        The official files are not there.
    """
    makers = {"coco-stuff": _coco_stuff, "voc": _voc, "ade20k-full": _ade20k_full}
    if name not in makers:
        raise DatasetError(f"{name!r}: choose {', '.join(NAMES)}")
    tasks, made = makers[name](root)
    _, failed = run(tasks, workers=workers, progress=progress)
    counts = PUBLISHED[name].items()
    return failed, [count_check(f"{name} {part}", made / part, n, _HOW) for part, n in counts]


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
            base / "annotations" / split / f"{stem}.png",
            tuple((made / folder / f"{stem}.png", subset) for folder, subset in parts.items()),
            "coco_stuff",
        )
        for split, parts in outputs.items()
        for stem in stems(base / "annotations" / split, ".png", how)
    ]
    names = {part: f"{part}_classnames.json" for part in ("seen", "unseen", "all")}
    write_class_names(builtin("coco_stuff"), base / "split", names)
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
            place = base / "images" / split / f"{stem}.jpg"
            link = (photo, place) if photo is not None else None
            tasks.append(Conversion(source, labels, "voc", link))
    names = {part: f"{part}_classnames.json" for part in ("seen", "unseen", "all")}
    write_class_names(builtin("voc"), base, names)
    return tasks, made


def _voc_sources(root: Path, split: str) -> list[tuple[str, Path, Path | None]]:
    """(stem, mask, photo to link or None) of VOCZERO if it is there, else of VOC2012."""
    raw = root / "VOCZERO" / "annotations" / split
    if raw.is_dir():
        return [(stem, raw / f"{stem}.png", None) for stem in stems(raw, ".png", _HOW)]
    voc = root / "VOC2012"
    listed = voc / "ImageSets" / "Segmentation" / f"{'trainaug' if split == 'train' else split}.txt"
    if not listed.is_file():
        raise DatasetError(
            f"neither {raw} nor {listed} is there; put VOC 2012 with SegmentationClassAug and its "
            "list trainaug.txt there"
        )
    found: list[tuple[str, Path, Path | None]] = []
    for stem in read_ids(listed):
        mask, photo = voc / "SegmentationClassAug" / stem, voc / "JPEGImages" / stem
        found.append((stem, mask.with_name(f"{stem}.png"), photo.with_name(f"{stem}.jpg")))
    return found


def _ade20k_full(root: Path) -> tuple[list[Conversion], Path]:
    base = root / "ADE20K_2021_17_01"
    made = base / "annotations_detectron2_freq"
    tasks = []
    for folder, name in _ade_index(root, base / "index_ade20k.pkl"):
        stem = name.removesuffix(".jpg")
        training = stem.split("_")[1] != "val"
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
                (root / folder / name, base / "images_detectron2_freq" / split / name),
                decode="ade",
            )
        )
    names = {
        "seen": "ADE20K_572_pure_class.json",
        "unseen": "ADE20K_275_pure_class.json",
        "all": "ADE20K_847_pure_class.json",
    }
    write_class_names(builtin("ade20k_full"), base, names)
    return tasks, made


def _ade_index(root: Path, path: Path) -> list[tuple[str, str]]:
    try:
        index = array_pickles.read(path)
        return list(zip(index["folder"], index["filename"], strict=True))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror}); {_HOW}") from error
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{path}: no index of ADE20K: expected a pickle with lists `folder` and `filename`, "
            f"without code ({error})"
        ) from error
