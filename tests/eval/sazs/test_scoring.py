"""Scoring: one pass gives what counting one by one gives, and labels reach nothing but counts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from data.errors import DatasetError, RunError
from data.pictures import write_png
from data.png import write_mask
from data.sazs.folds import open_fold
from data.sealed import read_json
from eigen.store.maps import EigenFolder
from eval.sazs import scores as sazs_scores
from eval.sazs import scoring
from eval.sazs.fusion import Agreement
from eval.sazs.metrics import count
from eval.sazs.scores import Subject
from eval.sazs.segmenter import SazsSegmenter, segment

H, W, PHOTOS = 120, 160, 24


def write_photo(root: Path, name: str, rng: np.random.Generator, class_id: int) -> None:
    rows, columns = np.mgrid[:H, :W]
    centre, radius = rng.uniform([50, 60], [70, 100]), rng.uniform(38, 46)
    inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
    label = np.where(inside, class_id + 1, 0).astype(np.uint8)
    rim = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < (radius + 2) ** 2
    label[rim & ~inside] = 255
    image = rng.integers(0, 90, (H, W, 3)).astype(np.uint8)
    image[inside] += np.uint8(120)
    voc = root / "VOC2012"
    (voc / "JPEGImages").mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(voc / "JPEGImages" / f"{name}.jpg"), image[..., ::-1])
    write_png(voc / "SegmentationClassAug" / f"{name}.png", label)
    for k in range(2):
        mask = inside if k else ~np.roll(inside, 25, axis=1)
        write_mask(root / "pascal_k5" / f"{name}_k{k}.png", mask)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A tree of discs: each photo shows one class, each class is in train and val."""
    root = tmp_path_factory.mktemp("voc")
    rng = np.random.default_rng(0)
    lists = root / "VOC2012" / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for role, name in (("trainaug", "t"), ("val", "v")):
        names = [f"{name}{number:03d}" for number in range(PHOTOS if role == "val" else 3 * PHOTOS)]
        (lists / f"{role}.txt").write_text("\n".join(names) + "\n")
        for number, photo in enumerate(names):
            write_photo(root, photo, rng, number % 20)
    return root


class Bright(nn.Module):
    """Stands for a network: its first feature is brightness, coarsely."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(0.3))

    def forward(self, images):
        bright = nn.functional.avg_pool2d(images.mean(1, keepdim=True), 24) - self.level
        features = torch.zeros(len(images), 512, *bright.shape[-2:])
        features[:, :1] = bright
        return bright, features


@pytest.fixture(scope="module")
def tested(root):
    texts = torch.zeros(21, 512)
    texts[1:, 0] = 1.0
    fold = open_fold("pascal", root, 0, validation_share=0.4)
    segmenter = SazsSegmenter(Bright(), side=None)
    names = [f"class {number}" for number in range(20)]
    return Subject(fold, segmenter, names, texts, EigenFolder(root / "pascal_k5"), "agreement")


def scored(tested: Subject, **changes) -> scoring.Counts:
    arguments = {
        "reference": "reference_pascal", "eigen": tested.eigen, "fusion": Agreement(0.3), **changes
    }  # fmt: skip
    return scoring.count_answers(tested.fold.test, tested.segmenter, tested.texts, **arguments)


def test_without_published_episodes_each_item_is_scored_once(tested):
    subset = replace(tested.fold, episodes=None)
    counts = scored(tested)
    names = [str(c) for c in range(20)]
    whole = scoring.figures(counts, tested.fold, names)
    assert scoring.figures(counts, subset, names) == {"one_pass": whole["one_pass"]}


def test_a_subset_of_coco_has_no_published_episodes(tmp_path, caplog):
    """Some held-out classes have no test image there."""
    rng = np.random.default_rng(0)
    for split, images in (("train2017", 4), ("val2017", 2)):
        for number in range(images):
            label = np.zeros((64, 96), np.uint8)
            label[:, :48], label[:, 48:] = number + 1, 5  # class ids 0 to 3, and 4
            image = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
            write_png(tmp_path / "annotations" / split / f"{number}.png", label)
            (tmp_path / split).mkdir(exist_ok=True)
            Image.fromarray(image).save(tmp_path / split / f"{number}.jpg")
    fold = open_fold("coco", tmp_path, 0, validation_share=0)
    assert fold.episodes is None and {item.class_id for item in fold.test} == {0, 4}
    assert "18 of 20 held-out classes have no test image" in caplog.text
    with pytest.raises(DatasetError, match="expected test images that show the held-out classes"):
        open_fold("coco", tmp_path, 3, validation_share=0)


def test_fold_has_seen_classes_to_train_on_and_unseen_to_test_on(tested):
    fold = tested.fold
    assert {item.class_id for item in fold.test} == set(range(5))
    assert {item.class_id for item in [*fold.train, *fold.validation]} == set(range(5, 20))
    assert not {i.photo for i in fold.train} & {i.photo for i in fold.validation}
    assert fold.episodes.sum() == 1000
    assert fold.episodes.max() - fold.episodes.min() <= 1


def test_counts_are_those_of_each_item(tested):
    counts = scored(tested)
    for number, item in enumerate(tested.fold.test):
        image = item.read_image()
        truth, void = item.read_truth(image.shape[:2])
        margin = tested.segmenter.margins(
            tested.segmenter.features(image), tested.texts[:2], image.shape[:2]
        )[0]
        for c, counting in enumerate(counts.countings):
            expected = count(margin > 0, truth, void, counting=counting).ravel()
            assert counts.areas[number, 0, c].tolist() == expected.tolist()
    assert counts.item_iou("fused").mean() > counts.item_iou("network").mean()


def test_parts_add_up_to_the_whole(tested):
    whole, parts = scored(tested), [scored(tested, part=(rank, 3)) for rank in range(3)]
    assert np.array_equal(whole.areas, sum(p.areas for p in parts))
    assert np.array_equal(whole.outlines, sum(p.outlines for p in parts))


def test_published_protocol_weighs_the_first_items_more(tested):
    counts = scored(tested)
    tally = counts.tally("network", "reference_pascal", tested.fold.episodes, 20)
    assert tally.images.sum() == 1000
    once = counts.tally("network", "reference_pascal", np.ones(len(tested.fold.test), int), 20)
    assert once.images.sum() == len(tested.fold.test)


def test_labels_turned_to_noise_leave_every_prediction(tested, root, tmp_path, monkeypatch):
    def predictions():
        for photo in scoring.photos(tested.fold.test, tested.eigen):
            pairs = photo.maps
            features = tested.segmenter.features(photo.image)
            margin = tested.segmenter.margins(features, tested.texts[:2], photo.image.shape[:2])[0]
            yield (
                Agreement(0.3)(margin, pairs),
                segment(photo.image, tested.texts[:3], tested.segmenter),
            )

    before = list(predictions())
    scores_before = scored(tested).areas
    rng = np.random.default_rng(7)
    with monkeypatch.context() as patch:
        noise = rng.integers(0, 6, (H, W)).astype(np.uint8)
        patch.setattr("data.sazs.folds.read_label", lambda path: noise)
        after = list(predictions())
        scores_after = scored(tested).areas
    for one, other in zip(before, after, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert not np.array_equal(scores_before, scores_after)
    # The oracle alone may have changed what it predicts: areas predicted by the others are equal.
    predicted = [s[:, :2, 0].sum(-1) for s in (scores_before, scores_after)]
    assert not np.array_equal(*predicted)


def test_run_writes_scores_table_and_page(tested, tmp_path):
    results = sazs_scores.run(tested, tmp_path, about={"command": "x"}, pictures=2)
    stored = read_json(tmp_path / sazs_scores.SCORES, RunError)
    assert stored == json.loads(json.dumps(results))
    assert set(stored["scores"]) == {"one_pass", "published"}
    corrected = stored["scores"]["one_pass"]["corrected"]
    assert list(corrected) == ["network", "fused", "oracle_upper_bound"]
    miou = {name: corrected[name]["miou"] for name in corrected}
    assert miou["network"] < miou["fused"] <= miou["oracle_upper_bound"]
    assert stored["fusion"]["tuned_on"] >= sazs_scores.FEWEST_TUNED
    assert stored["fused_minus_network"]["low"] > 0
    page = (tmp_path / sazs_scores.PAGE).read_text()
    for words in ("oracle upper bound", "Worst cases", "Most gained by fusion", "class 4"):
        assert words in page
    table = sazs_scores.text_table(stored)
    assert len(table.splitlines()) == 1 + 2 * 2 * 3 + 2


def test_without_eigenvectors_the_three_scores_are_the_network(tested):
    counts = scored(tested, eigen=None)
    assert np.array_equal(counts.areas[:, 0], counts.areas[:, 1])
    assert np.array_equal(counts.areas[:, 0], counts.areas[:, 2])
    assert scoring.bootstrap(counts, draws=20)["gain"] == 0


def test_segment_labels_each_pixel_with_the_class_of_the_largest_margin(tested):
    image = np.full((H, W, 3), 30, np.uint8)
    image[:, 80:] = 220
    texts = torch.zeros(3, 512)
    texts[1, 0], texts[2, 0] = 1.0, 2.0
    labels = segment(image, texts, tested.segmenter)
    assert labels.dtype == np.int32
    assert set(np.unique(labels[:, :64])) == {0}
    assert set(np.unique(labels[:, 96:])) == {2}


@pytest.mark.parametrize("fold", [-1, 4])
def test_fold_that_does_not_exist(root, fold):
    with pytest.raises(DatasetError, match="expected 0 to 3"):
        open_fold("pascal", root, fold)


def test_label_of_another_size_is_an_error(tested):
    with pytest.raises(
        DatasetError, match=r"v000\.png: expected the size of .*\(10, 10\), found \(120, 160\)"
    ):
        tested.fold.test[0].read_truth((10, 10))


def test_listed_photos_that_are_absent_are_named(tested, root, tmp_path):
    from data.datasets import open_tree
    from data.sazs.splits import generate

    lists = generate(open_tree("pascal", root), workers=1)
    lists.images["val"][0].append("2007_999999")
    lists.save(tmp_path / "lists.json")
    fold = open_fold("pascal", root, 0, lists=tmp_path / "lists.json")
    (problem,) = fold.problems
    assert (problem.role, problem.image, problem.missing) == ("val", "2007_999999", True)
    assert len(fold.test) == len(fold.episodes) == len(tested.fold.test)
