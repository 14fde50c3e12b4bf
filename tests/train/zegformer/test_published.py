"""Every published configuration, trained and scored from official trees; the network is shrunk."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import train_net
from data.text.vocabulary import builtin
from data.zegformer.prepare_sets import prepare
from models.clip.clip import CLIP
from models.zegformer.resnet import ResNet
from tests.train.zegformer.test_train import SMALL

CONFIGS = Path(__file__).parents[3] / "configs"
TRAININGS = sorted(
    path
    for path in CONFIGS.rglob("zegformer_R*_bs32_*.yaml")
    if path.parent.name != "world" and "_gzss_eval" not in path.stem
)


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def scene(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A grey photo and its labels: a grid of the values, one of them without a class."""
    labels = np.kron(values.reshape(2, 3), np.ones((25, 20), values.dtype))
    grey = (labels.astype(np.int64) * 37 % 200).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2), labels


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Two photos to train on and one to score, in the format of each set."""
    root = tmp_path_factory.mktemp("official")
    coco, voc = root / "coco/coco_stuff", root / "VOC2012"
    ade = root / "ADE20K_2021_17_01"
    for split, names in (("train2017", ["t0", "t1"]), ("val2017", ["v0"])):
        for name in names:
            photo, labels = scene(np.array([0, 20, 181, 148, 22, 255], np.uint8))
            write(coco / f"annotations/{split}/{name}.png", labels)
            write(coco / f"images/{split}/{name}.jpg", photo)
    for split, names in (("trainaug", ["t0", "t1"]), ("val", ["v0"])):
        for name in names:
            photo, labels = scene(np.array([0, 1, 16, 15, 20, 255], np.uint8))
            write(voc / f"SegmentationClassAug/{name}.png", labels)
            write(voc / f"JPEGImages/{name}.jpg", photo)
        lists = voc / "ImageSets/Segmentation"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}.txt").write_text("\n".join(names) + "\n")
    ids = builtin("ade20k_full").label_ids
    names = ["ADE_train_0001", "ADE_train_0002", "ADE_val_0001"]
    for name in names:
        photo, objects = scene(np.array([0, *(ids[i] for i in (0, 5, 300, 600, 846))], np.int64))
        pixels = np.stack([objects // 256 * 10, objects % 256, 0 * objects], axis=2)
        write(ade / f"images/ADE/{name}_seg.png", pixels.astype(np.uint8))
        write(ade / f"images/ADE/{name}.jpg", photo)
    folders = ["ADE20K_2021_17_01/images/ADE"] * 3
    index = {"folder": folders, "filename": [f"{name}.jpg" for name in names]}
    (ade / "index_ade20k.pkl").write_bytes(pickle.dumps(index))
    for name in ("coco-stuff", "voc", "ade20k-full"):
        assert prepare(name, root, workers=1)[0] == []
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A folder with torchvision's trunks under detectron2's names, and a CLIP, all untrained."""
    folder = tmp_path_factory.mktemp("weights")
    for depth in (50, 101):
        trunk = {k: v.numpy() for k, v in ResNet(depth, res2=32).state_dict().items()}
        content = {"model": trunk, "__author__": "torchvision", "matching_heuristics": True}
        (folder / f"R-{depth}.pkl").write_bytes(pickle.dumps(content))
    clip = CLIP(image_size=32, patch=16, width=64, layers=1, text_width=64, text_layers=1, dim=512)
    torch.save(clip.state_dict(), folder / "clip.pth")
    return folder


def ran(config: Path, out: Path, *arguments: object) -> None:
    told = SMALL | {"SOLVER.MAX_ITER": 1, "OUTPUT_DIR": out}
    small = [str(part) for pair in told.items() for part in pair]
    command = ["--config-file", str(config), "--debug", *small]
    command += [str(argument) for argument in arguments]
    result = CliRunner().invoke(train_net.main, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("config", TRAININGS, ids=lambda path: path.stem)
def test_trains_and_every_evaluation_of_it_scores(config, root, weights, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(weights))  # of the cache of text embeddings
    given = ["DATASETS.ROOT", root, "MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED", weights / "clip.pth"]
    depth = 101 if "R101" in config.stem else 50
    ran(config, tmp_path, *given, "MODEL.WEIGHTS", weights / f"R-{depth}.pkl")
    final = tmp_path / "model_final.safetensors"
    for evaluation in config.parent.glob(f"{config.stem}_gzss_eval*.yaml"):
        out = tmp_path / evaluation.stem
        ran(evaluation, out, "--eval-only", *given, "MODEL.WEIGHTS", final)
        (scores,) = out.glob("inference/*/scores.json")
        assert json.loads(scores.read_text())["photos"] == 1
