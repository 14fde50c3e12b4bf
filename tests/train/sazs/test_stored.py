"""Training on the stored features of a frozen backbone, through the command line a user types."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data import weight_files
from data.pictures import read_label
from data.sazs.folds import open_fold
from models.sazs.lite import LiteStages
from models.sazs.networks import build
from models.sazs.stored import StageStore, read_stages
from tests.train.sazs import test_train as sazs_tests
from train import checkpoint, history
from train.sampling import Draw
from train.sazs.samples import StoredSamples
from train.unread import KEY

world = sazs_tests.world
arguments, fails, run = sazs_tests.arguments, sazs_tests.fails, sazs_tests.run

LITE = [
    "--arch", "lite2_frozen", "--crop-size", "64", "--batch_size", "4", "--epochs", "2",
    "--workers", "0", "--device", "cpu", "--validation-share", "0.5",
]  # fmt: skip


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def trained(world, features, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    run("train", *LITE, "--features", str(features), *arguments(world, out))
    return out


def test_the_product_trains_and_tests_on_features_computed_once(
    world,
    features,
    trained,
    tmp_path,
    monkeypatch,
):
    rows = history.read(trained)
    assert {"seg", "edge", "overlap", "total"} <= set(rows[0])
    stored = len(list(features.iterdir()))
    assert stored
    computed = []
    real = StageStore._computed
    monkeypatch.setattr(
        StageStore, "_computed", lambda self, image: computed.append(1) or real(self, image)
    )
    run("train", *LITE, "--features", str(features), *arguments(world, tmp_path / "again"))
    assert not computed and len(list(features.iterdir())) == stored
    one, two = (load_file(out / checkpoint.FINAL) for out in (trained, tmp_path / "again"))
    assert one and all(torch.equal(one[key], two[key]) for key in one)
    words = ["test", "--resume", str(trained / checkpoint.BEST), "--pictures", "1"]
    words += arguments(world, tmp_path / "scored")
    run(*words, "--features", str(features))
    assert computed  # of the test images
    run(*words[:-1], str(tmp_path / "fresh"))
    with_store, without = (
        json.loads((tmp_path / name / "scores.json").read_text())["scores"]["one_pass"]
        for name in ("scored", "fresh")
    )
    pair = [each["corrected"]["network"]["miou"] for each in (with_store, without)]
    assert pair[0] == pytest.approx(pair[1], abs=0.2)


def test_a_run_that_was_killed_resumes_to_the_same_bits(world, features, trained, tmp_path):
    words = [*LITE, "--features", str(features), *arguments(world, tmp_path)]
    words[words.index("--epochs") + 1] = "2"
    (tmp_path / checkpoint.LATEST).write_bytes((trained / checkpoint.LATEST).read_bytes())
    run("train", *words)
    whole, parts = (load_file(out / checkpoint.FINAL) for out in (trained, tmp_path))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_stored_samples_are_crops_of_the_features_and_of_the_label(world, features, trained):
    fold = open_fold("pascal", world, 0, validation_share=0.5)
    item = fold.train[0]
    store = StageStore(features, LiteStages(frozen=True))
    keys = {item.image: store.add(item.read_image())}
    samples = StoredSamples([item], features, keys, seed=0, crop=64)
    whole = read_stages(features, keys[item.image])
    for epoch in range(4):
        sample = samples[Draw(epoch, 0)]
        assert sample.pop(KEY) == []
        assert sample["target"].shape == (8, 8) and sample["edges"].shape == (1, 8, 8)
        fine, coarse = sample["stages"][0], sample["stages"][-1]
        assert fine.shape[1:] == (8, 8) and coarse.shape[1:] == (4, 4)
        # Every crop, mirrored or not, is somewhere in the whole.
        candidates = whole[-1].float().unfold(1, 4, 1).unfold(2, 4, 1).permute(1, 2, 0, 3, 4)
        assert any(
            torch.equal(window, crop)
            for window in candidates.flatten(0, 1)
            for crop in (coarse, coarse.flip(-1))
        )
        target = sample["target"].numpy()
        assert (
            sample["shown"][item.class_id] == bool((target == 1).any()) or not (target == 1).any()
        )


@pytest.mark.parametrize(("mode", "void"), [("corrected", 255), ("reference", 0)])
def test_beyond_the_image_targets_are_void(world, features, mode, void):
    item = open_fold("pascal", world, 0, validation_share=0.5).train[0]
    store = StageStore(features, LiteStages(frozen=True))
    keys = {item.image: store.add(item.read_image())}
    whole = read_stages(features, keys[item.image])[0].float()
    h, w = whole.shape[1:]
    samples = StoredSamples([item], features, keys, seed=0, crop=1024, mode=mode)
    drawn = (samples[Draw(epoch, 0)] for epoch in range(20))
    sample = next(s for s in drawn if torch.equal(s["stages"][0][:, :h, :w], whole))
    outside = np.ones((128, 128), bool)
    outside[:h, :w] = False
    assert (sample["target"].numpy()[outside] == void).all()
    assert (sample["target"].numpy()[~outside] != 255).any()
    assert (sample["edges"].numpy()[0][outside] == 255).all()


def test_held_out_by_name_and_left_out(world, features, tmp_path):
    names = (world / "VOC2012" / "class_names.txt").read_text().split("\n")
    words = [*LITE, "--features", str(features), "--leave-out-unseen", "--epochs", "1"]
    output = fails("train", *words, "--hold-out", "unicorn", *arguments(world, tmp_path))
    assert "--hold-out 'unicorn': expected classes of" in output
    output = fails(
        "train", *words, "--hold-out", names[3], "--fold", "1", *arguments(world, tmp_path)
    )
    assert "not both" in output
    run("train", *words, "--hold-out", names[3], *arguments(world, tmp_path))
    weights = str(tmp_path / checkpoint.FINAL)
    recipe = weight_files.read(weights).recipe
    assert (recipe["held_out"], recipe["fold"], recipe["input_side"]) == ([3], None, 0)
    words = ["test", "--resume", weights, "--pictures", "0", "--features", str(features)]
    words += arguments(world, tmp_path / "scored")
    for wrong in (["--fold", "0"], ["--hold-out", names[4]]):
        assert "held out" in fails(*words, *wrong)
    for right in ([], ["--hold-out", names[3].upper()]):
        run(*words, *right)
        assert json.loads((tmp_path / "scored" / "scores.json").read_text())["unseen"] == [names[3]]


def test_images_that_show_an_unseen_class_are_left_out(world):
    kept = open_fold("pascal", world, 0, held_out=[2, 7], leave_out_unseen=True)
    every = open_fold("pascal", world, 0, held_out=[2, 7])
    assert kept.unseen == every.unseen == [2, 7] and kept.number is None
    shown = [i for i in every.train if {3, 8} & set(np.unique(read_label(i.label)).tolist())]
    assert shown and not {item.label for item in shown} & {item.label for item in kept.train}
    assert len(kept.train) == len(every.train) - len(shown)
    assert {item.class_id for item in kept.test} == {2, 7}


def test_a_trained_backbone_is_trained(world, tmp_path):
    words = ["lite2" if word == "lite2_frozen" else word for word in LITE]
    run("train", *words, "--epochs", "1", *arguments(world, tmp_path))
    state = load_file(tmp_path / checkpoint.FINAL)
    start = build("lite2_frozen").stages.state_dict()
    moved = [key for key, value in start.items() if not torch.equal(state[f"stages.{key}"], value)]
    assert any("conv" in key for key in moved) and not any("running" in key for key in moved)
    run(
        "test", "--resume", str(tmp_path / checkpoint.FINAL), "--pictures", "0",
        *arguments(world, tmp_path / "scored"),
    )  # fmt: skip
