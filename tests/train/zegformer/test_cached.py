"""Views whose features are computed once: the same as computed each time, and shared safely."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import eigenshape as es
from data import weight_files
from data.zegformer.sets import Pair
from data.zegformer.transforms import Augmentation
from models.zegformer.backbone import STAGES
from models.zegformer.config import load
from models.zegformer.efficientnet import EfficientNetLite
from models.zegformer.network import PIXEL_MEAN, PIXEL_STD, normalised_batch
from tests.train.zegformer import small_voc
from train.distributed import World
from train.sampling import Draw
from train.unread import KEY
from train.zegformer import train as zegformer
from train.zegformer.cached import CachedViews, stacked
from train.zegformer.samples import Samples, collate

CONFIG = Path(__file__).parents[3] / "configs" / "packaged" / "zegformer_lite2_voc.yaml"
WORLD = World(0, 1, torch.device("cpu"))
AUGMENTATION = Augmentation(short_sides=(64, 80), crop=64, padded=64)


@pytest.fixture(scope="module")
def backbone() -> EfficientNetLite:
    made = EfficientNetLite("efficientnet_lite0", mean=PIXEL_MEAN, std=PIXEL_STD)
    made.load_packaged()
    return made.freeze(5).eval()


@pytest.fixture
def pairs(tmp_path) -> list[Pair]:
    rng, pairs = np.random.default_rng(0), []
    for name in "ab":
        pair = Pair(name, tmp_path / f"{name}.jpg", tmp_path / f"{name}.png")
        Image.fromarray(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)).save(pair.image)
        Image.fromarray((np.indices((90, 120)).sum(0) // 60).astype(np.uint8)).save(pair.label)
        pairs.append(pair)
    return pairs


def views(pairs, backbone, folder: Path, count: int = 2, seed: int = 3, **changes) -> CachedViews:
    augmentation = dataclasses.replace(AUGMENTATION, **changes)
    samples = Samples(pairs, augmentation, classes=4, seed=seed)
    return CachedViews(samples, backbone, count, folder)


def test_cached_features_are_those_of_the_view(pairs, backbone, tmp_path):
    cached = views(pairs, backbone, tmp_path / "views")
    for draw in (Draw(0, 1), Draw(1, 1), Draw(0, 1)):
        sample, plain = cached[draw], cached.samples[draw]
        with torch.no_grad():
            direct = backbone(normalised_batch([plain["image"]]))
        for stage in STAGES:
            assert torch.equal(sample["features"][stage], direct[stage][0].half())
        for key in ("labels", "masks", "valid"):
            assert torch.equal(sample[key], plain[key])
    batch = collate([cached[Draw(0, 0)], cached[Draw(0, 1)]])
    features, size = stacked(batch)
    assert size == (64, 64) and features["res5"].shape == (2, 320, 2, 2)


def test_a_view_is_computed_once(pairs, backbone, tmp_path, monkeypatch):
    cached = views(pairs, backbone, tmp_path / "views")
    first = [cached[Draw(epoch, 0)] for epoch in range(2)]
    assert not torch.equal(first[0]["features"]["res2"], first[1]["features"]["res2"])
    again = views(pairs, backbone, tmp_path / "views")
    monkeypatch.setattr(Samples, "view", lambda *_: pytest.fail("computed again"))
    for one in (cached, again):
        for epoch in range(4):
            found, known = one[Draw(epoch, 0)]["features"], first[epoch % 2]["features"]
            assert all(torch.equal(found[stage], known[stage]) for stage in STAGES)


def test_views_of_something_else_are_others(pairs, backbone, tmp_path):
    folder = tmp_path / "views"
    kinds = [
        views(pairs, backbone, folder),
        views(pairs, backbone, folder, seed=4),
        views(pairs, backbone, folder, short_sides=(96,)),
        views(pairs, backbone, folder, colours=False),
    ]
    assert len({kind._path(Draw(0, 0)) for kind in kinds}) == len(kinds)
    Image.fromarray(np.zeros((90, 120), np.uint8)).save(pairs[0].label)
    assert views(pairs, backbone, folder)._path(Draw(0, 0)) != kinds[0]._path(Draw(0, 0))


@pytest.mark.parametrize("damage", [lambda b: b[:-30], lambda b: b"", lambda b: b"x" * len(b)])
def test_a_damaged_file_is_computed_again(pairs, backbone, tmp_path, caplog, damage):
    cached = views(pairs, backbone, tmp_path / "views")
    known = cached[Draw(0, 0)]["features"]["res3"]
    (path,) = (tmp_path / "views").iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert torch.equal(cached[Draw(0, 0)]["features"]["res3"], known)
    assert str(path) in caplog.text
    assert torch.equal(cached[Draw(0, 0)]["features"]["res3"], known)


def test_an_unread_image_is_named_by_every_run(pairs, backbone, tmp_path):
    pairs[0].image.write_bytes(b"")
    for _ in range(2):
        cached = views(pairs, backbone, tmp_path / "views")
        assert len(cached[Draw(0, 0)][KEY]) == 1
        assert cached[Draw(0, 1)][KEY] == []


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return small_voc.write(
        tmp_path_factory.mktemp("datasets"),
        (1, 5, 16, 3),
        {"trainaug": (0, 1, 3), "val": (2, 3)},
        wider=5,
    )


def configured(root: Path, out: Path, **changes):
    own = {
        "DATASETS.ROOT": root, "MODEL.TEXT_EMBEDDINGS": root / "text.npy", "OUTPUT_DIR": out,
        "MODEL.DEVICE": "cpu", "MODEL.BACKBONE.NAME": "efficientnet_lite0",
        "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32, "MODEL.SEM_SEG_HEAD.MASK_DIM": 32,
        "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 4, "MODEL.MASK_FORMER.HIDDEN_DIM": 32,
        "MODEL.MASK_FORMER.DIM_FEEDFORWARD": 32, "MODEL.MASK_FORMER.DEC_LAYERS": 2,
        "INPUT.MIN_SIZE_TRAIN": "[64, 72]", "INPUT.MIN_SIZE_TEST": 64,
        "INPUT.CROP.SIZE": "[64, 64]",
        "INPUT.SIZE_DIVISIBILITY": 64, "SOLVER.IMS_PER_BATCH": 2, "SOLVER.MAX_ITER": 4,
        "SOLVER.WARMUP_ITERS": 1, "SOLVER.CHECKPOINT_PERIOD": 2,
    }  # fmt: skip
    own |= {key.replace("__", "."): value for key, value in changes.items()}
    return load(CONFIG, [str(part) for pair in own.items() for part in pair])


def test_a_killed_run_on_cached_views_ends_with_the_same_weights(root, tmp_path, monkeypatch):
    whole, _ = zegformer.train(configured(root, tmp_path / "a"), WORLD)
    config = configured(root, tmp_path / "b")
    criterion, calls = zegformer.Criterion.__call__, []

    def killed(self, *arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return criterion(self, *arguments)

    monkeypatch.setattr(zegformer.Criterion, "__call__", killed)
    with pytest.raises(KeyboardInterrupt):
        zegformer.train(config, WORLD)
    monkeypatch.undo()
    resumed, _ = zegformer.train(config, WORLD, resume=True)
    assert whole.state_dict().keys() == resumed.state_dict().keys()
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_a_head_is_trained_alone_and_opens_by_its_file(root, tmp_path):
    model, figures = zegformer.train(configured(root, tmp_path), WORLD)
    reference = EfficientNetLite("efficientnet_lite0", mean=PIXEL_MEAN, std=PIXEL_STD)
    reference.load_packaged()
    for key, value in reference.network.state_dict().items():
        assert torch.equal(model.backbone.network.state_dict()[key], value), key
    assert figures["pACC"] >= 0
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert rows[0]["loss_pixel"] > 0
    path = tmp_path / "model_final.safetensors"
    file = weight_files.read(path)
    assert file.recipe["backbone"] == {"name": reference.name, "sha256": reference.sha256}
    labels = es.segment(np.zeros((70, 90, 3), np.uint8), ["cat", "sheep"], es.load(str(path)))
    assert labels.shape == (70, 90)


@pytest.mark.parametrize("freeze", [0, 3])
def test_a_backbone_is_fine_tuned_from_there(root, tmp_path, freeze, caplog):
    caplog.set_level(logging.INFO)
    model, _ = zegformer.train(
        configured(
            root, tmp_path, MODEL__BACKBONE__FREEZE_AT=freeze, INPUT__CACHED_VIEWS=0,
            SOLVER__MAX_ITER=1,
        ),
        WORLD,
    )  # fmt: skip
    reference = EfficientNetLite("efficientnet_lite0", mean=PIXEL_MEAN, std=PIXEL_STD)
    reference.load_packaged()
    own, start = model.backbone.network.state_dict(), reference.network.state_dict()
    changed = {key.split(".bn")[0] for key in own if not torch.equal(own[key], start[key])}
    assert ("conv_stem.weight" in changed) == (freeze == 0)
    assert any(key.startswith("blocks.6") for key in changed)
    assert not any("running_" in key for key in changed)


def test_the_baseline_trains_on_cached_views_too(root, tmp_path):
    config = configured(
        root, tmp_path, MODEL__META_ARCHITECTURE="SemanticSegmentorGzero", SOLVER__MAX_ITER=2
    )
    model, _ = zegformer.train(config, WORLD)
    assert "backbone.network.conv_stem.weight" not in model.state_dict()
