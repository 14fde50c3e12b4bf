"""ZegFormer from its configuration to scores, small: training, resuming, scoring, bad input."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import ExifTags, Image

import train_net
from data import weight_files
from data.errors import DatasetError, SettingError, VocabularyError, WeightsError
from data.pictures import read_label
from data.text.vocabulary import builtin, from_names
from data.zegformer.sets import Pair
from data.zegformer.transforms import Augmentation
from eval.zegformer import build as zegformer_build
from eval.zegformer.classes import NamedClasses, TrainedClasses, honest_split, named_classes
from eval.zegformer.page import text_table
from eval.zegformer.scoring import outline_matches
from models.zegformer.config import load
from models.zegformer.network import ZegFormer
from tests.train.zegformer import small_voc
from train import checkpoint
from train.distributed import World
from train.zegformer import evaluate as evaluation
from train.zegformer import samples as zegformer_data
from train.zegformer import train as zegformer

ROOT = Path(__file__).parents[3]
BASE = ROOT / "configs" / "pascal_voc" / "zegformer_R50_bs32_10k_vit16_voc.yaml"
WORLD = World(0, 1, torch.device("cpu"))
UPRIGHT = (1, 5)
SMALL = {
    "MODEL.WEIGHTS": "''",
    "MODEL.DEVICE": "cpu",
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 32,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "MODEL.SEM_SEG_HEAD.MASK_DIM": 32,
    "MODEL.MASK_FORMER.HIDDEN_DIM": 32,
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 4,
    "MODEL.MASK_FORMER.NHEADS": 2,
    "MODEL.MASK_FORMER.DIM_FEEDFORWARD": 32,
    "MODEL.MASK_FORMER.DEC_LAYERS": 2,
    "INPUT.MIN_SIZE_TRAIN": "[40, 56]",
    "INPUT.MIN_SIZE_TEST": 48,
    "INPUT.CROP.SIZE": "[48, 48]",
    "INPUT.SIZE_DIVISIBILITY": 64,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 3,
    "SOLVER.CHECKPOINT_PERIOD": 2,
    "TEST.EVAL_PERIOD": 0,
    "DATALOADER.NUM_WORKERS": 0,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Six images, two of the four to train on upright."""
    return small_voc.write(
        tmp_path_factory.mktemp("datasets"),
        (1, 5, 9, 16, 20, 3),
        {"trainaug": (0, 1, 2, 5), "val": (3, 4, 2)},
        upright=UPRIGHT,
        wider=4,
    )


def options(root: Path, out: Path, **changes) -> list[str]:
    own = SMALL | {
        "DATASETS.ROOT": root,
        "MODEL.TEXT_EMBEDDINGS": root / "text.npy",
        "OUTPUT_DIR": out,
    }
    own |= {key.replace("__", "."): value for key, value in changes.items()}
    return [str(part) for pair in own.items() for part in pair]


def configured(root: Path, out: Path, **changes):
    return load(BASE, options(root, out, **changes))


def test_a_killed_training_ends_with_the_same_weights(root, tmp_path, monkeypatch):
    whole, _ = zegformer.train(configured(root, tmp_path / "a"), WORLD)
    config = configured(root, tmp_path / "b")
    criterion = zegformer.Criterion.__call__
    calls = []

    def killed(self, *arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return criterion(self, *arguments)

    monkeypatch.setattr(zegformer.Criterion, "__call__", killed)
    with pytest.raises(KeyboardInterrupt):
        zegformer.train(config, WORLD)
    monkeypatch.undo()
    resumed, _ = zegformer.train(config, WORLD, resume=True)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_batches_hold_photos_of_one_orientation(root, tmp_path, monkeypatch):
    drawn = []
    read = zegformer_data.Samples._read
    monkeypatch.setattr(
        zegformer_data.Samples,
        "_read",
        lambda self, item: drawn.append(self.pairs[item].id) or read(self, item),
    )
    for grouped in (True, False):
        changes = {"DATALOADER__ASPECT_RATIO_GROUPING": grouped, "SOLVER__MAX_ITER": 6}
        zegformer.train(configured(root, tmp_path / str(grouped), **changes), WORLD)
        upright = [int(name[1:]) in UPRIGHT for name in drawn]
        mixed = [len(set(pair)) > 1 for pair in zip(upright[::2], upright[1::2], strict=True)]
        assert len(mixed) == 6 and any(mixed) != grouped
        drawn.clear()


def test_orientation_is_as_a_viewer_shows_it(tmp_path):
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    wide, exif = tmp_path / "wide.jpg", tmp_path / "turned.jpg"
    Image.new("RGB", (60, 50)).save(wide)
    Image.new("RGB", (60, 50)).save(exif, exif=turned)
    paths = [wide, exif, tmp_path / "gone.jpg"]
    pairs = [Pair(path.stem, path, path) for path in paths]
    samples = zegformer_data.Samples(pairs, Augmentation(), classes=1, seed=0)
    assert [samples.is_wide(item) for item in range(3)] == [True, False, False]


def test_train_then_score_from_the_command_line(root, tmp_path):
    run = CliRunner().invoke
    arguments = ["--config-file", str(BASE), "--debug"]
    result = run(train_net.main, [*arguments, *options(root, tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    scores = tmp_path / "inference" / "pascal_voc_test_seen_sem_seg" / "scores.json"
    assert json.loads(scores.read_text())["photos"] == 3
    page = (scores.parent / "report.html").read_text()
    assert "IoU of seen classes" not in page and "pixel accuracy" in page and "p3" in page
    weights = tmp_path / "model_final.safetensors"
    changed = options(
        root,
        tmp_path / "eval",
        MODEL__WEIGHTS=weights,
        DATASETS__TEST="('pascal_voc_val_all_sem_seg',)",
        TEST__AUG__ENABLED=True,
        TEST__AUG__MIN_SIZES="[40, 56]",
    )
    result = run(train_net.main, [*arguments, "--eval-only", *changed], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    names, values = result.stdout.strip().splitlines()[-2:]
    assert "hIoU" in names.split(",") and len(names.split(",")) == len(values.split(","))
    folder = tmp_path / "eval" / "inference" / "pascal_voc_val_all_sem_seg"
    codes = json.loads((folder / "sem_seg_predictions.json").read_text())
    assert {entry["category_id"] for entry in codes} <= set(builtin("voc").label_ids)
    from pycocotools import mask as run_lengths

    own = [entry for entry in codes if entry["file_name"].endswith("p3.jpg")]
    assert sum(run_lengths.area(entry["segmentation"]) for entry in own) == 50 * 60
    assert (tmp_path / "eval/inference_TTA/pascal_voc_val_all_sem_seg/scores.json").is_file()


@pytest.mark.parametrize("norm", ["FrozenBN", "BN"])
def test_two_processes_train_and_give_the_scores_of_one(root, tmp_path, norm):
    """By the command a user types; with a training image that cannot be read."""
    own = tmp_path / "datasets"
    shutil.copytree(root, own)
    bad = own / "VOCZERO" / "images" / "train" / "p2.jpg"
    content = bad.read_bytes()
    bad.unlink()  # it may be a link to the photo
    bad.write_bytes(content[:200])
    command = [sys.executable, "train_net.py", "--num-gpus", "2", "--config-file", str(BASE)]
    command += options(own, tmp_path / "two", SOLVER__MAX_ITER=4, MODEL__RESNETS__NORM=norm)
    ran = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "training images that could not be read: 1" in ran.stderr
    assert any("p2,train," in path.read_text() for path in (tmp_path / "two").glob("quar*.csv"))

    weights = tmp_path / "two" / "model_final.safetensors"
    config = configured(own, tmp_path / "one", MODEL__WEIGHTS=weights, MODEL__RESNETS__NORM=norm)
    evaluation.evaluate(config, zegformer_build.network(config, 16), WORLD, out=tmp_path / "one")
    made = "inference/pascal_voc_test_seen_sem_seg"
    for name in ("scores.json", "sem_seg_predictions.json"):
        two, one = (tmp_path / processes / made / name for processes in ("two", "one"))
        assert two.read_text() == one.read_text()
    assert not list((tmp_path / "two" / made).glob("sem_seg_predictions_*"))


def test_baseline_trains_and_predicts(root, tmp_path):
    config = configured(
        root, tmp_path, MODEL__META_ARCHITECTURE="SemanticSegmentorGzero", SOLVER__MAX_ITER=1
    )
    model, _ = zegformer.train(config, WORLD)
    assert evaluation.evaluate(config, model, WORLD)["pACC"] >= 0


def test_the_end_of_a_training_is_scored_once(root, tmp_path, monkeypatch):
    scored, folders = evaluation._scored, []
    monkeypatch.setattr(
        evaluation, "_scored", lambda *args: folders.append(args[-1]) or scored(*args)
    )
    config = configured(root, tmp_path, TEST__EVAL_PERIOD=2)
    _, figures = zegformer.train(config, WORLD)
    made = tmp_path / "inference" / "pascal_voc_test_seen_sem_seg"
    assert folders == [None, made]
    told = json.loads((made / "scores.json").read_text())["figures"]
    assert told["mIoU"] == pytest.approx(figures["mIoU"])
    last = json.loads((tmp_path / "history.jsonl").read_text().splitlines()[-1])
    assert (last["step"], last["mIoU"]) == (3, figures["mIoU"])
    assert zegformer.train(config, WORLD, resume=True)[1] == figures
    assert folders[2:] == [made]


def test_training_learns(root, tmp_path):
    """The loss on the same few photos falls well below that of the first step."""
    config = configured(
        root, tmp_path, SOLVER__MAX_ITER=24, SOLVER__BASE_LR=1e-3, INPUT__COLOR_AUG_SSD=False,
        SOLVER__BACKBONE_MULTIPLIER=1.0, SOLVER__CLIP_GRADIENTS__CLIP_VALUE=1.0,
        MODEL__MASK_FORMER__DROPOUT=0.0,
    )  # fmt: skip
    zegformer.train(config, WORLD)
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    totals = [row["total"] for row in rows if "total" in row]
    assert np.median(totals[-10:]) < 0.7 * totals[0]


def test_photos_of_unseen_classes_alone_are_left_out_on_request(root, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    config = configured(
        root, tmp_path, SOLVER__MAX_ITER=1, SOLVER__IMS_PER_BATCH=1, DATASETS__ONLY_LABELLED=True,
        DATASETS__TRAIN="['pascal_voc_test_seen_sem_seg']",
    )  # fmt: skip
    zegformer.train(config, WORLD)
    assert "2 of 3 images show no class to train on" in caplog.text


def test_fewer_gpus_follow_the_rule_and_say_so(root, tmp_path, caplog):
    config = load(BASE)
    with caplog.at_level(logging.INFO):
        fitted = zegformer_build.fit_gpus(config, 2)
    assert fitted.SOLVER.IMS_PER_BATCH == 8
    assert pytest.approx(2.5e-5) == fitted.SOLVER.BASE_LR
    assert fitted.SOLVER.MAX_ITER == 40_000
    assert "for 2 GPUs: SOLVER.IMS_PER_BATCH 32 -> 8" in caplog.text
    assert zegformer_build.fit_gpus(config, 16) == config


def test_bad_input_is_one_clear_line(root, tmp_path):
    few = tmp_path / "few.json"
    few.write_text(json.dumps(["cat", "dog"]))
    cases = [
        ({"MODEL__SEM_SEG_HEAD__TRAIN_CLASS_JSON": tmp_path / "gone.json"},
         VocabularyError, r"gone\.json"),
        ({"MODEL__SEM_SEG_HEAD__TRAIN_CLASS_JSON": few},
         VocabularyError, r"few\.json.*expected 20 classes.*found 2"),
        ({"MODEL__SEM_SEG_HEAD__TEST_CLASS_JSON": tmp_path / "gone.json"},
         VocabularyError, r"gone\.json"),
        ({"DATASETS__TEST": "['voc']"}, DatasetError, "data set: expected one of coco_2017"),
        ({"MODEL__SEM_SEG_HEAD__NUM_CLASSES": 20}, SettingError, "NUM_CLASSES is 20, but voc"),
        ({"MODEL__WEIGHTS": "gone.pth"}, WeightsError, r"gone\.pth: no such file"),
        ({"INPUT__SIZE_DIVISIBILITY": 40}, SettingError, "exceeds INPUT.SIZE_DIVISIBILITY 40"),
        ({"SOLVER__IMS_PER_BATCH": 0}, SettingError, "IMS_PER_BATCH: expected at least 1, found 0"),
        ({"MODEL__RESNETS__NORM": "GN"}, SettingError, "NORM: choose 'FrozenBN' or 'BN', found"),
        ({"MODEL__RESNETS__RES5_DILATION": 0}, SettingError, "DILATION: choose 1 or 2, found 0"),
    ]  # fmt: skip
    for changes, kind, message in cases:
        with pytest.raises(kind, match=message) as error:
            zegformer.train(configured(root, tmp_path, **changes), WORLD)
        assert "\n" not in str(error.value)
    with torch.device("meta"):
        weights = ZegFormer(depth=101).state_dict()
    weights = {k: torch.zeros(1) for k in weights}
    torch.save({"model": weights}, tmp_path / "deep.pth")
    with pytest.raises(WeightsError, match="weights of ResNet-101"):
        zegformer.train(configured(root, tmp_path, MODEL__WEIGHTS=tmp_path / "deep.pth"), WORLD)


def test_every_size_of_the_configuration_is_the_network_s(root, tmp_path):
    config = configured(
        root, tmp_path, MODEL__SEM_SEG_HEAD__CONVS_DIM=64, MODEL__SEM_SEG_HEAD__MASK_DIM=24,
    )  # fmt: skip
    head = zegformer_build.network(config, 16).sem_seg_head
    assert head.pixel_decoder.layer_1.weight.shape == (64, 64, 3, 3)
    assert head.pixel_decoder.mask_features.weight.shape == (24, 64, 3, 3)
    assert head.predictor.input_proj.weight.shape[0] == 32


def test_scoring_the_start_of_a_training_is_refused(root, tmp_path):
    arguments = ["--config-file", str(BASE), "--eval-only", *options(root, tmp_path)]
    result = CliRunner().invoke(train_net.main, [*arguments, "MODEL.WEIGHTS", "R-50.pkl"])
    assert result.exit_code == 1
    assert "Error: R-50.pkl: a backbone to start a training run from" in result.output


def test_a_training_starts_from_a_pickle_of_arrays(root, tmp_path):
    trunk = zegformer_build.network(configured(root, tmp_path), 16).backbone.state_dict()
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"model": {key: value.numpy() for key, value in trunk.items()}}))
    config = configured(root, tmp_path, MODEL__WEIGHTS=path)
    found = zegformer_build.network(config, 16).backbone.state_dict()
    assert all(torch.equal(found[key], value) for key, value in trunk.items())


def test_another_prompt_set_than_in_training_is_said(root, tmp_path, caplog):
    zegformer.train(configured(root, tmp_path, SOLVER__MAX_ITER=1), WORLD)
    config = configured(
        root, tmp_path, MODEL__WEIGHTS=tmp_path / "model_final.safetensors",
        MODEL__PROMPT_ENSEMBLE_TYPE="imagenet_select",
    )  # fmt: skip
    with caplog.at_level(logging.WARNING):
        zegformer_build.network(config, 16)
    assert "was trained with the prompts 'single'" in caplog.text


def test_outlines_of_all_classes_are_counted():
    label = np.zeros((40, 40), np.uint8)
    label[10:30, 10:30] = 3
    same = outline_matches(label.astype(int), label, 255)
    assert same[0] == same[1] == same[2] == same[3] > 0
    other = outline_matches(np.zeros((40, 40), int), label, 255)
    assert other[0] == 0 and other[3] == same[3]


def test_published_list_names_mean_the_built_in_classes(root, tmp_path):
    config = configured(
        root, tmp_path,
        MODEL__SEM_SEG_HEAD__TRAIN_CLASS_JSON="datasets/VOCZERO/seen_classnames.json",
    )  # fmt: skip
    found = named_classes(config, "pascal_voc_train_seen_sem_seg", "TRAIN")
    assert found.vocabulary.names == builtin("voc").subset("seen").names
    label = read_label(root / "VOCZERO/annotations_detectron2/train_seen/p0.png")
    assert set(np.unique(label)) == {0, 255}


def test_resuming_with_other_settings_names_those_that_differ(root, tmp_path):
    zegformer.train(configured(root, tmp_path), WORLD)
    changes = {"SOLVER__BASE_LR": 5e-4, "INPUT__MIN_SIZE_TRAIN": "[40, 48]", "SEED": 7}
    with pytest.raises(WeightsError) as error:
        zegformer.train(configured(root, tmp_path, **changes), WORLD, resume=True)
    message = str(error.value)
    assert "SOLVER.BASE_LR was 0.0001, is 0.0005" in message
    assert "INPUT.MIN_SIZE_TRAIN was [40, 56], is [40, 48]" in message
    assert "SEED was 0, is 7" in message and message.count(" was ") == 3
    # Where and how often things are written decides nothing.
    moved = root / "moved.npy"
    shutil.copy(root / "text.npy", moved)
    free = {"SOLVER__CHECKPOINT_PERIOD": 1, "MODEL__TEXT_EMBEDDINGS": moved}
    zegformer.train(configured(root, tmp_path, **free), WORLD, resume=True)


def test_extending_a_run_is_an_option(root, tmp_path):
    zegformer.train(configured(root, tmp_path), WORLD)
    longer = configured(root, tmp_path, SOLVER__MAX_ITER=5)
    with pytest.raises(WeightsError, match=r"MAX_ITER was 3, is 5.*--extend continues with"):
        zegformer.train(longer, WORLD, resume=True)
    zegformer.train(longer, WORLD, extend=True)
    rows = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "total" in row] == [1, 2, 3, 4, 5]
    zegformer.train(longer, WORLD, resume=True)
    with pytest.raises(SettingError, match=r"MAX_ITER: expected at least 5.*found 2"):
        zegformer.train(configured(root, tmp_path, SOLVER__MAX_ITER=2), WORLD, extend=True)


def test_of_several_test_sets_the_first_selects_the_best_weights(root, tmp_path, caplog):
    tests = "('pascal_voc_val_all_sem_seg', 'pascal_voc_test_seen_sem_seg')"
    config = configured(root, tmp_path, SOLVER__MAX_ITER=1, DATASETS__TEST=tests)
    _, figures = zegformer.train(config, WORLD)
    recipe = weight_files.read(tmp_path / "model_best.safetensors").recipe
    key = "pascal_voc_val_all_sem_seg/mIoU"
    assert recipe[key] == figures[key]
    table = text_table(figures).splitlines()
    assert "pascal_voc_val_all_sem_seg  pascal_voc_test_seen_sem_seg" in table[0]
    assert f"{figures[key]:.2f}" in table[1]


def test_without_test_sets_nothing_is_selected_or_scored(root, tmp_path):
    config = configured(root, tmp_path, SOLVER__MAX_ITER=1, DATASETS__TEST="()")
    assert zegformer.train(config, WORLD)[1] == {}
    assert (tmp_path / "model_final.safetensors").is_file()


def classes_file(path: Path, names: list[str], unseen: list[int]) -> Path:
    path.write_text(json.dumps({"names": names, "unseen": unseen}))
    return path


@pytest.mark.parametrize("test", ["pascal_voc_val_all_sem_seg", "pascal_voc_val_unseen_sem_seg"])
def test_classes_that_were_trained_on_are_never_scored_as_unseen(root, tmp_path, test):
    names = [f"thing {i}" for i in range(20)]
    ours = classes_file(tmp_path / "ours.json", names, [15, 16, 17, 18, 19])
    theirs = classes_file(tmp_path / "theirs.json", names, [2, 3, 17, 18, 19])
    key = "MODEL__SEM_SEG_HEAD__{}_CLASS_JSON"
    changes = {key.format("TRAIN"): ours, "SOLVER__MAX_ITER": 1}
    out = tmp_path / "out"
    zegformer.train(configured(root, out, **changes), WORLD)
    scored = {
        "MODEL__WEIGHTS": out / "model_final.safetensors",
        "DATASETS__TEST": f"['{test}']",
    }
    own, other = (
        [*options(root, tmp_path / "s", **scored, **{key.format("TEST"): path})]
        for path in (ours, theirs)
    )
    run = CliRunner().invoke
    command = ["--config-file", str(BASE), "--eval-only"]
    result = run(train_net.main, [*command, *other])
    assert result.exit_code == 1
    assert "trained on classes that this test calls unseen: thing 2, thing 3;" in result.output
    result = run(train_net.main, [*command, *own], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    # Before training, not hours later.
    with pytest.raises(SettingError, match="calls unseen: thing 2, thing 3"):
        changes |= {key.format("TEST"): theirs, "DATASETS__TEST": f"['{test}']"}
        zegformer.train(configured(root, tmp_path / "new", **changes), WORLD)


def test_classes_of_another_set_with_trained_names_count_as_seen(caplog):
    trained = TrainedClasses(builtin("coco_stuff"), builtin("coco_stuff").subset("seen").names)
    full = builtin("ade20k_full")
    classes = honest_split(NamedClasses(full, full, list(range(len(full)))), trained)
    moved = full.unseen - classes.vocabulary.unseen
    assert sorted(full.names[c] for c in moved) == ["plastic", "tie"]
    assert "count as seen: " in caplog.text and "plastic" in caplog.text


def test_images_that_do_not_fit_their_labels_are_left_out_of_scores(root, tmp_path):
    own = tmp_path / "datasets"
    shutil.copytree(root, own)
    folder = own / "VOCZERO" / "images" / "val"
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    for name, exif in (("p3", turned), ("p2", Image.Exif())):
        size = (60, 50) if name == "p3" else (33, 44)
        (folder / f"{name}.jpg").unlink()
        Image.new("RGB", size).save(folder / f"{name}.jpg", exif=exif)
    config = configured(own, tmp_path / "out")
    zegformer.evaluate(config, zegformer_build.network(config, 16), WORLD, out=tmp_path / "out")
    made = tmp_path / "out/inference/pascal_voc_test_seen_sem_seg"
    content = json.loads((made / "scores.json").read_text())
    assert content["photos"] == 1 and [row["id"] for row in content["unread"]] == ["p2", "p3"]
    assert "EXIF orientation 6" in content["unread"][1]["reason"]
    assert ">p3<" not in (made / "report.html").read_text()
    (folder / "p4.jpg").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"none of 3 images can be scored; the first: .*p2"):
        zegformer.evaluate(config, zegformer_build.network(config, 16), WORLD)


def test_a_finished_run_is_not_overwritten_unasked(root, tmp_path):
    arguments = ["--config-file", str(BASE), *options(root, tmp_path)]
    (tmp_path / checkpoint.LATEST).write_bytes(b"days of work")
    result = CliRunner().invoke(train_net.main, arguments)
    assert result.exit_code == 1
    assert "holds a training run; --resume continues it, --restart overwrites it" in result.output
    result = CliRunner().invoke(train_net.main, ["--restart", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    settings = (tmp_path / "config.yaml").read_bytes()
    result = CliRunner().invoke(train_net.main, ["--resume", *arguments, "SOLVER.BASE_LR", "0.5"])
    assert result.exit_code == 1 and "SOLVER.BASE_LR was" in result.output
    assert (tmp_path / "config.yaml").read_bytes() == settings


def test_names_are_the_same_under_another_path():
    names, table = ("cat", "dog"), np.eye(2)
    contents = [TrainedClasses(from_names(names, name=n), names, table).content() for n in "ab"]
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--evalonly"], "No such option '--evalonly'"),
        (["--num-gpus", "0"], "'--num-gpus'"),
        (["--num-machines", "2", "--machine-rank", "2"], "--machine-rank: expected 0 to 1"),
        (["--eval-only", "DATASETS.TEST", "()"], "DATASETS.TEST: expected a data set to score"),
        (["--eval-only", "MODEL.WEIGHTS", ""], "MODEL.WEIGHTS: expected trained weights"),
        (["OUTPUT_DIR", ""], "OUTPUT_DIR: expected a text that is not empty"),
        (["DATALOADER.NUM_WORKERS", "100000"], "DATALOADER.NUM_WORKERS: expected at most"),
        (["OUTPUT_DIR", f"{__file__}/x"], "is a file, expected a folder"),
    ],
)
def test_command_lines_that_cannot_be_meant_are_refused(root, tmp_path, words, message):
    arguments = ["--config-file", str(BASE), *options(root, tmp_path), *words]
    result = CliRunner().invoke(train_net.main, arguments)
    assert result.exit_code in (1, 2)
    assert message in result.output and "Traceback" not in result.output
