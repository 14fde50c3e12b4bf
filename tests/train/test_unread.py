"""Training photos that cannot be read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data.errors import DatasetError, ImageError
from data.sealed import read_table
from train.distributed import World
from train.unread import COLUMNS, KEY, Quarantine, check_size, readable

WORLD = World(0, 1, torch.device("cpu"))


def reader(bad):
    def read(item):
        if item in bad:
            raise ImageError(f"folder/p{item}.jpg", "truncated")
        return item * 10

    return read


def test_the_next_photo_takes_the_place():
    assert readable(reader({}), 3, 5) == (30, [])
    found, unread = readable(reader({3, 4}), 3, 5)
    assert found == 0
    assert unread == [("p3", "folder/p3.jpg: truncated"), ("p4", "folder/p4.jpg: truncated")]


@pytest.mark.parametrize("count", [4, 10**6])
def test_when_none_can_be_read_the_training_ends(count):
    with pytest.raises(DatasetError, match=r"in a row cannot be read, among them folder/p1\.jpg"):
        readable(reader(set(range(200))), 1, count)


def test_a_label_of_another_size_is_unread(tmp_path):
    check_size(np.zeros((4, 5, 3)), np.zeros((4, 5)), tmp_path)
    with pytest.raises(ImageError, match=r"is \(5, 4\), but the image is \(4, 5\)"):
        check_size(np.zeros((4, 5, 3)), np.zeros((5, 4)), tmp_path)


def rows(path):
    return read_table(path, COLUMNS, DatasetError)


def test_quarantine_names_each_photo_once_over_resumed_trainings(tmp_path, caplog):
    photo, other = ("a", "a.jpg: bad"), ("b", "b.jpg: bad, with, commas")
    stream = [{"x": 1, KEY: [photo]}, {"x": 2, KEY: []}, {"x": 3, KEY: [photo, other]}]
    quarantine = Quarantine(tmp_path)
    assert list(quarantine.sift(iter(stream))) == [{"x": 1}, {"x": 2}, {"x": 3}]
    again = Quarantine(tmp_path)
    list(again.sift(iter([{KEY: [photo]}])))
    assert rows(tmp_path / "quarantine.csv") == [
        {"id": "a", "stage": "train", "reason": "a.jpg: bad"},
        {"id": "b", "stage": "train", "reason": "b.jpg: bad, with, commas"},
    ]
    assert caplog.text.count("left out of the training: a.jpg: bad") == 1
    again.log_count(WORLD)
    assert "training images that could not be read: 2" in caplog.text
    assert Quarantine(tmp_path, rank=1).path.name == "quarantine_1.csv"


def test_a_damaged_quarantine_is_reported_and_written_again(tmp_path, caplog):
    path = tmp_path / "quarantine.csv"
    Quarantine(tmp_path).note([("a", "a.jpg: bad")])
    path.write_text(path.read_text().replace("a.jpg", "b.jpg"))
    again = Quarantine(tmp_path)
    assert "quarantine.csv: expected a last line with the number and digest" in caplog.text
    again.note([("a", "a.jpg: bad")])
    assert [row["reason"] for row in rows(path)] == ["a.jpg: bad"]


def test_no_bad_photo_no_file(tmp_path):
    quarantine = Quarantine(tmp_path)
    list(quarantine.sift(iter([{KEY: []}])))
    quarantine.log_count(WORLD)
    assert not list(tmp_path.iterdir())


def test_samples_of_both_systems_pass_over_bad_photos(tmp_path):
    from PIL import Image

    from data.sazs.folds import Item
    from data.zegformer.sets import Pair
    from data.zegformer.transforms import Augmentation
    from train.sampling import Draw
    from train.sazs import samples as sazs_data
    from train.zegformer import samples as zegformer_data

    for name in ("good", "bad"):
        Image.new("RGB", (40, 40), (200, 0, 0)).save(tmp_path / f"{name}.jpg")
        Image.fromarray(np.full((40, 40), 3, np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "bad.jpg").write_bytes((tmp_path / "bad.jpg").read_bytes()[:200])
    paths = [(tmp_path / f"{name}.jpg", tmp_path / f"{name}.png") for name in ("bad", "good")]
    items = [Item(p[0].stem, 2, *p) for p in paths]
    pairs = [Pair(p[0].stem, *p) for p in paths]
    view = Augmentation(short_sides=(40,), longest=80, crop=32, padded=32)
    for samples, collate in (
        (sazs_data.SazsSamples(items, seed=0, crop=32), sazs_data.collate),
        (zegformer_data.Samples(pairs, view, classes=4, seed=0), zegformer_data.collate),
    ):
        batch = collate([samples[Draw(0, 0)], samples[Draw(0, 1)]])
        assert [photo for photo, _ in batch[KEY]] == ["bad"]
        assert len(batch["image"]) == 2
        assert torch.equal(samples[Draw(0, 0)]["image"], batch["image"][0])


def test_labels_of_another_vocabulary_end_a_training_in_one_line(tmp_path):
    """With a worker process, whose errors come with its traceback."""
    from PIL import Image

    from data.zegformer.sets import Pair
    from data.zegformer.transforms import Augmentation
    from train.zegformer import samples as zegformer_data

    Image.new("RGB", (40, 40)).save(tmp_path / "a.jpg")
    Image.fromarray(np.full((40, 40), 9, np.uint8)).save(tmp_path / "a.png")
    view = Augmentation(short_sides=(40,), longest=80, crop=32, padded=32)
    pairs = [Pair("a", tmp_path / "a.jpg", tmp_path / "a.png")]
    samples = zegformer_data.Samples(pairs, view, classes=9, seed=0)
    stream = zegformer_data.batches(samples, 1, world=WORLD, seed=0, workers=1, start=0)
    with pytest.raises(DatasetError, match=r"a\.png: has class 9, expected 0 to 8") as error:
        next(Quarantine(tmp_path).sift(stream))
    assert "\n" not in str(error.value) and str(error.value).startswith(str(tmp_path))


def test_items_to_validate_on_are_checked_before_the_first_epoch(tmp_path):
    from PIL import Image

    from data.sazs.folds import Item, readable_items

    for name, side in (("good", 40), ("small", 30), ("bad", 40)):
        Image.new("RGB", (40, 40)).save(tmp_path / f"{name}.jpg")
        Image.fromarray(np.ones((side, side), np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "bad.jpg").write_bytes(b"")
    names = ("bad", "good", "small")
    items = [Item(n, 0, tmp_path / f"{n}.jpg", tmp_path / f"{n}.png") for n in names]
    good, unread = readable_items(items)
    assert good == items[1:2]
    assert [photo for photo, _ in unread] == ["bad", "small"]
    assert "small.jpg, (40, 40), found (30, 30)" in unread[1][1]
