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
    # person 0, cow 20 (unseen), bear 22, unlabelled 255
    label = np.array([[0, 20, 22], [255, 255, 181]], np.uint8)
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


def snapshot(root: Path) -> dict[Path, int]:
    return {p: p.lstat().st_mtime_ns for p in root.rglob("*") if not p.is_dir()}


def test_what_is_there_is_not_written_again(coco):
    prepare("coco-stuff", coco, workers=1)
    base = coco / "coco/coco_stuff"
    names = base / "split/seen_classnames.json"
    names.write_text('["mine"]')
    gone = base / "annotations_detectron2/val2017_seen/c.png"
    gone.unlink()
    before = snapshot(coco)
    prepare("coco-stuff", coco, workers=1)
    after = snapshot(coco)
    assert set(after) - set(before) == {gone}
    assert {path: after[path] for path in before} == before


WRONG = {
    "coco-stuff": [
        np.arange(1, 183, dtype=np.uint8),  # category ids
        np.array([0, 92, 183], np.uint8),  # pixelmaps
        np.array([0, 11], np.uint8),  # a category that COCO does not have
        np.array([0, 300], np.uint16),
    ],
    "voc": [np.array([77], np.uint8), np.array([0, 21], np.uint8), np.array([254], np.uint8)],
}


@pytest.mark.parametrize(("name", "values"), [(n, v) for n, vs in WRONG.items() for v in vs])
def test_labels_of_another_archive_end_the_run_and_leave_nothing(tmp_path, name, values):
    if name == "voc":
        raw, made = "VOCZERO/annotations/{}", "VOCZERO/annotations_detectron2"
        splits = ("train", "val")
    else:
        raw = "coco/coco_stuff/annotations/{}"
        made = "coco/coco_stuff/annotations_detectron2"
        splits = ("train2017", "val2017")
    for split in splits:
        save(tmp_path / raw.format(split) / "a.png", np.ones((1, 3), np.uint8))
    bad = tmp_path / raw.format(splits[0]) / "b.png"
    save(bad, values[None])
    archive = "SegmentationClassAug" if name == "voc" else "stuffthingmaps_trainval2017"
    first = next(str(v) for v in values if v not in _known(name))
    with pytest.raises(DatasetError, match=f"b.png: .*{archive}.*found the values {first},"):
        prepare(name, tmp_path, workers=1)
    assert not [p for p in (tmp_path / made).rglob("*") if p.is_file()]


def _known(name: str) -> set[int]:
    vocabulary = builtin("voc" if name == "voc" else "coco_stuff")
    return {*vocabulary.label_ids, 255, *([0] if name == "voc" else [])}


def test_objects_that_ade20k_does_not_have_are_refused(tmp_path):
    base = ade(
        tmp_path, {"folder": ["ADE20K_2021_17_01/images/ADE"], "filename": ["ADE_val_1.jpg"]}
    )
    pixels = np.full((2, 2, 3), 250, np.uint8)  # object 25 * 256 + 250
    save(base / "images/ADE/ADE_val_1_seg.png", pixels)
    photo(base / "images/ADE/ADE_val_1.jpg")
    with pytest.raises(DatasetError, match=r"val_1_seg\.png: expected .*found the values 6650,"):
        prepare("ade20k-full", tmp_path, workers=1)


@pytest.mark.parametrize("ending", [".JPG", ".jpeg", ".JPEG", ".Jpg", ".png", ".PNG"])
def test_endings_in_any_case_are_found(tmp_path, ending):
    voc = tmp_path / "VOC2012"
    lists = voc / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for name, list_name in (("t1", "trainaug"), ("v1", "val")):
        save(voc / f"SegmentationClassAug/{name}.PNG", np.array([[0, 1, 16, 255]], np.uint8))
        image = voc / f"JPEGImages/{name}{ending}"
        image.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 1)).save(image, "PNG" if "png" in ending.lower() else "JPEG")
        (lists / f"{list_name}.txt").write_text(f"{name}\n")
    assert prepare("voc", tmp_path, workers=1)[0] == []
    (pair,) = labelled_set("pascal_voc_val_all_sem_seg").pairs(tmp_path)
    assert pair.image.suffix == ending
    before = snapshot(tmp_path)
    assert prepare("voc", tmp_path, workers=1)[0] == []
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("where", ["VOC2012", "VOCdevkit/VOC2012", "."])
def test_voc_is_found_wherever_its_tree_may_lie(tmp_path, where):
    voc = tmp_path / where
    lists = voc / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    save(voc / "SegmentationClassAug/a.png", np.array([[1, 255]], np.uint8))
    photo(voc / "JPEGImages/a.jpg")
    for name in ("trainaug", "val"):
        (lists / f"{name}.txt").write_text("a\n")
    assert prepare("voc", tmp_path, workers=1)[0] == []
    assert len(labelled_set("pascal_voc_val_all_sem_seg").pairs(tmp_path)) == 1


def test_a_listed_image_that_is_missing_is_named(tmp_path):
    voc = tmp_path / "VOC2012"
    lists = voc / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for name in ("a", "b"):
        save(voc / f"SegmentationClassAug/{name}.png", np.array([[1]], np.uint8))
    photo(voc / "JPEGImages/a.jpg")
    for name in ("trainaug", "val"):
        (lists / f"{name}.txt").write_text("a\nb\n")
    failed, _ = prepare("voc", tmp_path, workers=1)
    assert len(failed) == 2 and all("b.jpg: no such file" in reason for reason in failed)


@pytest.mark.parametrize(
    ("folder", "name"),
    [("../x", "a.jpg"), ("/x", "a.jpg"), ("x", "../a.jpg"), ("x", "/a.jpg"), ("x", "..")],
)
def test_an_index_that_names_files_elsewhere_is_refused(tmp_path, folder, name):
    ade(tmp_path, {"folder": [folder], "filename": [name]})
    with pytest.raises(DatasetError, match="names files outside"):
        prepare("ade20k-full", tmp_path, workers=1)


class Malicious:
    def __reduce__(self):
        return (os.getcwd, ())


@pytest.mark.parametrize("index", [{"folder": []}, [1, 2], {"folder": Malicious(), "filename": []}])
def test_index_that_is_none_or_wants_code_is_refused(tmp_path, index):
    ade(tmp_path, index)
    with pytest.raises(DatasetError, match=r"index_ade20k\.pkl: not an index of ADE20K"):
        prepare("ade20k-full", tmp_path, workers=1)


def test_missing_official_files_say_what_belongs_where(tmp_path):
    for name, hint in (
        ("coco-stuff", "stuffthingmaps_trainval2017"),
        ("voc", "trainaug.txt"),
        ("ade20k-full", "index_ade20k.pkl"),
    ):
        with pytest.raises(DatasetError, match=hint):
            prepare(name, tmp_path)
    with pytest.raises(DatasetError, match="expected one of coco-stuff"):
        prepare("cityscapes", tmp_path)
    with pytest.raises(DatasetError, match=r"train2017 is missing.*prepare coco-stuff"):
        labelled_set("coco_2017_train_stuff_seen_sem_seg").pairs(tmp_path)


def test_sets_carry_their_vocabularies(monkeypatch):
    sizes = {name: len(entry.classes) for name, entry in SETS.items()}
    assert sizes["coco_2017_train_stuff_seen_sem_seg"] == 156
    assert sizes["coco_2017_val_unseen_stuff_seen_sem_seg"] == 15
    assert sizes["ade20k_full_sem_seg_freq_val_all"] == 847
    assert len(labelled_set("pascal_voc_val_all_sem_seg").classes.unseen) == 5
    with pytest.raises(DatasetError, match="found 'cityscapes'"):
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
