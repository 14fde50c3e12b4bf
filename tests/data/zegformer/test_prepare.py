"""Preparation of the three sets on small trees in the published formats, and on real masks."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.errors import DatasetError
from data.pictures import read_label
from data.text.vocabulary import builtin
from data.zegformer import prepare as engine
from data.zegformer.prepare_sets import prepare
from data.zegformer.sets import SETS, datasets_root, labelled_set

SHARED = Path(__file__).parents[4] / "shared" / "data" / "voc_mini"


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def photo(path: Path) -> None:
    save(path, np.full((4, 6, 3), 90, np.uint8))


@pytest.fixture
def coco(tmp_path):
    # person 0, cow 20 (unseen), bear 22, a value that never occurs 11, unlabelled 255
    label = np.array([[0, 20, 22], [11, 255, 181]], np.uint8)
    for split, names in (("train2017", ["a", "b"]), ("val2017", ["c"])):
        for name in names:
            save(tmp_path / f"coco/coco_stuff/annotations/{split}/{name}.png", label)
            photo(tmp_path / f"coco/coco_stuff/images/{split}/{name}.jpg")
    return tmp_path


def test_coco_stuff_is_numbered_as_published(coco):
    failed, findings = prepare("coco-stuff", coco, workers=1)
    assert failed == []
    assert any("118" in str(finding) for finding in findings)
    made = coco / "coco/coco_stuff/annotations_detectron2"
    bear = builtin("coco_stuff").index("bear")
    assert bear == 20
    seen = read_label(made / "train2017/a.png")
    assert seen.tolist() == [[0, 255, bear], [255, 255, 155]]
    assert read_label(made / "val2017_unseen/c.png").tolist() == [[255, 0, 255], [255, 255, 255]]
    assert read_label(made / "val2017_all/c.png").tolist() == [[0, 156, bear], [255, 255, 155]]
    names = json.loads((coco / "coco/coco_stuff/split/all_classnames.json").read_text())
    assert names[156] == "cow" and len(names) == 171
    pairs = labelled_set("coco_2017_train_stuff_seen_sem_seg").pairs(coco)
    assert [pair.id for pair in pairs] == ["a", "b"]


def test_a_stopped_run_goes_on_and_a_bad_file_is_named(coco, monkeypatch):
    base = coco / "coco/coco_stuff"
    (base / "annotations/train2017/b.png").write_bytes(b"\x89PNG broken")
    failed, _ = prepare("coco-stuff", coco, workers=1)
    assert len(failed) == 1 and "b.png" in failed[0]
    assert not (base / "annotations_detectron2/train2017/b.png").exists()
    save(base / "annotations/train2017/b.png", np.zeros((2, 2), np.uint8))
    converted = []
    convert = engine.convert
    monkeypatch.setattr(engine, "convert", lambda task: converted.append(task) or convert(task))
    assert prepare("coco-stuff", coco, workers=1)[0] == []
    assert [task.source.name for task in converted] == ["b.png"]


def test_voc_from_the_official_tree(tmp_path):
    label = np.array([[0, 1, 16, 255]], np.uint8)
    for name in ("t1", "v1"):
        save(tmp_path / f"VOC2012/SegmentationClassAug/{name}.png", label)
        photo(tmp_path / f"VOC2012/JPEGImages/{name}.jpg")
    lists = tmp_path / "VOC2012/ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "trainaug.txt").write_text("t1\n")
    (lists / "val.txt").write_text("v1\n")
    assert prepare("voc", tmp_path, workers=1)[0] == []
    (pair,) = labelled_set("pascal_voc_train_seen_sem_seg").pairs(tmp_path)
    assert read_label(pair.label).tolist() == [[255, 0, 255, 255]]
    assert pair.image.read_bytes() == (tmp_path / "VOC2012/JPEGImages/t1.jpg").read_bytes()
    (pair,) = labelled_set("pascal_voc_val_unseen_sem_seg").pairs(tmp_path)
    assert read_label(pair.label).tolist() == [[255, 255, 0, 255]]
    (pair,) = labelled_set("pascal_voc_val_all_sem_seg").pairs(tmp_path)
    assert read_label(pair.label).tolist() == [[255, 0, 15, 255]]


def test_voc_from_the_published_arrangement(tmp_path):
    for split in ("train", "val"):
        save(tmp_path / f"VOCZERO/annotations/{split}/x.png", np.array([[3, 20]], np.uint8))
        photo(tmp_path / f"VOCZERO/images/{split}/x.jpg")
    prepare("voc", tmp_path, workers=1)
    made = tmp_path / "VOCZERO/annotations_detectron2"
    assert read_label(made / "val_all/x.png").tolist() == [[2, 19]]


def ade(tmp_path: Path, index: object) -> Path:
    base = tmp_path / "ADE20K_2021_17_01"
    ids = builtin("ade20k_full").label_ids
    objects = np.array([[0, ids[0], ids[846]]])
    pixels = np.stack([objects // 256 * 10, objects % 256, 0 * objects], axis=2).astype(np.uint8)
    for name in ("ADE_train_0001", "ADE_val_0001"):
        save(base / f"images/ADE/{name}_seg.png", pixels)
        photo(base / f"images/ADE/{name}.jpg")
    (base / "index_ade20k.pkl").write_bytes(pickle.dumps(index))
    return base


def test_ade20k_full_is_decoded_and_kept_lossless(tmp_path):
    folder = "ADE20K_2021_17_01/images/ADE"
    index = {"folder": [folder] * 2, "filename": ["ADE_train_0001.jpg", "ADE_val_0001.jpg"]}
    index["objectPresence"] = np.zeros((3, 2))
    base = ade(tmp_path, index)
    assert prepare("ade20k-full", tmp_path, workers=1)[0] == []
    made = base / "annotations_detectron2_freq"
    found = read_label(made / "val_all/ADE_val_0001.tif")
    assert found.dtype == np.uint16
    assert found.tolist() == [[65535, 0, 846]]
    assert read_label(made / "training_seen/ADE_train_0001.tif").tolist() == [[65535, 0, 65535]]
    assert read_label(made / "val_unseen/ADE_val_0001.tif").tolist() == [[65535, 65535, 274]]
    photo_path = base / "images_detectron2_freq/validation/ADE_val_0001.jpg"
    assert photo_path.read_bytes() == (base / "images/ADE/ADE_val_0001.jpg").read_bytes()
    assert len(labelled_set("ade20k_full_sem_seg_freq_val_unseen").pairs(tmp_path)) == 1


class Malicious:
    def __reduce__(self):
        return (os.getcwd, ())


@pytest.mark.parametrize("index", [{"folder": []}, [1, 2], {"folder": Malicious(), "filename": []}])
def test_index_that_is_none_or_wants_code_is_refused(tmp_path, index):
    ade(tmp_path, index)
    with pytest.raises(DatasetError, match=r"index_ade20k\.pkl: no index of ADE20K"):
        prepare("ade20k-full", tmp_path, workers=1)


def test_missing_official_files_say_what_belongs_where(tmp_path):
    for name, hint in (
        ("coco-stuff", "stuffthingmaps_trainval2017"),
        ("voc", "trainaug.txt"),
        ("ade20k-full", "index_ade20k.pkl"),
    ):
        with pytest.raises(DatasetError, match=hint):
            prepare(name, tmp_path)
    with pytest.raises(DatasetError, match="choose coco-stuff"):
        prepare("cityscapes", tmp_path)
    with pytest.raises(DatasetError, match=r"train2017 is missing.*prepare coco-stuff"):
        labelled_set("coco_2017_train_stuff_seen_sem_seg").pairs(tmp_path)


def test_sets_carry_their_vocabularies(monkeypatch):
    sizes = {name: len(entry.classes) for name, entry in SETS.items()}
    assert sizes["coco_2017_train_stuff_seen_sem_seg"] == 156
    assert sizes["coco_2017_val_unseen_stuff_seen_sem_seg"] == 15
    assert sizes["ade20k_full_sem_seg_freq_val_all"] == 847
    assert len(labelled_set("pascal_voc_val_all_sem_seg").classes.unseen) == 5
    with pytest.raises(DatasetError, match="'cityscapes' is not known"):
        labelled_set("cityscapes")
    monkeypatch.setenv("DETECTRON2_DATASETS", "/data")
    assert (datasets_root(), datasets_root("own")) == (Path("/data"), Path("own"))


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/voc_mini")
def test_real_masks(tmp_path):
    (tmp_path / "VOC2012").symlink_to(SHARED / "VOC2012")
    failed, _ = prepare("voc", tmp_path)
    assert failed == []
    pairs = labelled_set("pascal_voc_val_all_sem_seg").pairs(tmp_path)
    assert len(pairs) == 375
    raw = read_label(SHARED / "VOC2012/SegmentationClassAug" / f"{pairs[0].id}.png")
    made = read_label(pairs[0].label)
    known = (raw > 0) & (raw < 255)
    assert np.array_equal(made[known], raw[known] - 1) and (made[~known] == 255).all()
