"""The command that trains the head that comes with this software, on small trees."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from data import weight_files
from data.pictures import read_label
from data.synthetic import world as generated
from eval.sazs.words import has_words, texts_of
from models.sazs.load import load
from pipeline.stages import words
from tests.data.trees.test_coco_masks import instances, rectangle
from train.sazs.train import LITE


@pytest.fixture(scope="module")
def trees(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("trees")
    generated.write(root / "world", photos=40, workers=1)
    voc = root / "world" / "VOC2012"
    coco = root / "coco"
    image = next((voc / "JPEGImages").iterdir())
    height, width = cv2.imread(str(image)).shape[:2]
    car = rectangle(13, 4, 4, 50, 60, area=2600.0, iscrowd=0)
    runs = {"size": [height, width], "counts": [height * (width - 3), height * 3]}
    crowd = {"category_id": 11, "segmentation": runs, "area": 1.0, "iscrowd": 1}
    for split in ("train2017", "val2017"):
        (coco / split).mkdir(parents=True)
        shutil.copy(image, coco / split / "000000000001.jpg")
        (coco / "annotations").mkdir(exist_ok=True)
        instances(
            coco / "annotations" / f"instances_{split}.json",
            {"000000000001.jpg": (height, width, [car, crowd])},
        )
    rng = np.random.default_rng(0)
    (root / "texts").mkdir()
    for name, rows in ((words.VOC_TABLE, 20), (words.STUFF_TABLE, 171), (words.ADE_TABLE, 150)):
        np.save(root / "texts" / name, rng.normal(size=(rows, 512)).astype(np.float16))
    return root


def run(trees: Path, work: Path, *more: str, code: int = 0) -> str:
    arguments = [
        "--voc", str(trees / "world" / "VOC2012"), "--coco", str(trees / "coco"),
        "--texts", str(trees / "texts"), "--work", str(work), "--epochs", "1", "--device", "cpu",
    ]  # fmt: skip
    result = CliRunner().invoke(words.main, [*arguments, *more], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_a_head_is_trained_written_and_scored(trees, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(LITE, "crop", 64)
    monkeypatch.setitem(LITE, "batch_size", 4)
    out = tmp_path / "head.safetensors"
    with caplog.at_level("INFO"):
        run(trees, tmp_path / "work", "--hold-out", "cat", "--absent", "0.1", "--out", str(out))
    label = read_label(tmp_path / "work" / "labels" / "train2017_000000000001.png")
    assert label[10, 10] == 7 and label[70, 10] == 0  # VOC's car; background
    assert (label[:, -3:] == 255).all()  # the crowd
    checkpoint = weight_files.read(out)
    assert has_words(checkpoint)
    recipe = checkpoint.recipe
    assert recipe["held_out"] == ["cat"] and "cat" not in recipe["trained"]
    assert len(recipe["trained"]) == 79 and recipe["recipe"]["absent"] == 0.1
    model, _ = load(checkpoint)
    final = load_file(tmp_path / "work" / "run" / "model_final.safetensors")
    state = model.state_dict()
    assert all(np.allclose(state[key], value, rtol=2e-3, atol=1e-3) for key, value in final.items())
    assert texts_of(["cat", "sofa"], checkpoint).shape == (3, 512)
    scored = [line for line in caplog.messages if "mIoU" in line]
    assert [line.split(":")[0] for line in scored] == ["unseen", "seen"]
    assert "'cat'" in scored[0] and "'cat'" not in scored[1]
    caplog.clear()
    with caplog.at_level("INFO"):  # its file: half precision moves a score by little
        run(trees, tmp_path / "work", "--checkpoint", str(out))
    again = [line for line in caplog.messages if "mIoU" in line]
    numbers = [[float(n) for n in re.findall(r"\d+\.\d", line)] for line in (*scored, *again)]
    assert np.allclose(np.concatenate(numbers[:2]), np.concatenate(numbers[2:]), atol=1)
    assert "'cat'" in again[0] and not any("steps" in line for line in caplog.messages)


def test_other_classes_and_other_checkpoints_are_refused(trees, tmp_path):
    assert "expected classes of VOC" in run(trees, tmp_path, "--hold-out", "unicorn", code=1)
    wordless = tmp_path / "wordless.safetensors"
    save_file({"x": torch.zeros(1)}, wordless)
    refusal = run(trees, tmp_path, "--checkpoint", str(wordless), code=1)
    assert f"{wordless}: expected a head with words" in refusal
