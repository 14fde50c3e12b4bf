"""SAZS end to end on a handful of generated photos, through the command line a user types."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

import sazs as command_line
from data import weight_files
from data.datasets import open_tree
from data.errors import SettingError
from data.png import write_mask
from data.sazs.folds import open_fold
from data.sazs.options import (
    DataOptions,
    Recipe,
    RecipeOptions,
    Running,
    ScoringOptions,
    StartOptions,
)
from data.sazs.splits import generate
from data.synthetic import world as generated
from models.sazs import networks
from train import checkpoint, history
from train.sazs import train as sazs

SMALL = [
    "--arch", "drn_d_22_slim", "--init", "none", "--crop-size", "32", "--batch_size", "4",
    "--epochs", "2", "--lr", "0.01", "--workers", "0", "--input-side", "0", "--device", "cpu",
    "--validation-share", "0.5", "--random-scale", "2", "--random-rotate", "10",
]  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    generated.write(root, photos=56, workers=1)
    return root


def arguments(world: Path, out: Path, *extra: str) -> list[str]:
    voc = world / "VOC2012"
    files = ["--names", str(voc / "class_names.txt")]
    files += ["--embeddings", str(voc / "text_embeddings.npy")]
    return [*files, "--data-dir", str(world), "--filename", str(out), *extra]


def run(*words: str) -> str:
    result = CliRunner().invoke(command_line.main, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def fails(*words: str) -> str:
    result = CliRunner().invoke(command_line.main, list(words), catch_exceptions=False)
    assert result.exit_code != 0
    return result.output


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    run("train", *SMALL, *arguments(world, out))
    return out


def test_training_leaves_weights_history_and_curves(trained):
    rows = history.read(trained)
    assert {"seg", "edge", "attention", "total", "lr"} <= set(rows[0])
    assert sum("validation_miou" in row for row in rows) == 2
    assert (trained / history.CURVES).is_file()
    recipe = weight_files.read(trained / checkpoint.BEST).recipe
    assert (recipe["arch"], recipe["fold"], recipe["mode"]) == ("drn_d_22_slim", 0, "corrected")


def test_killed_training_goes_on_with_the_same_command_to_the_same_bits(
    world, trained, tmp_path, monkeypatch
):
    class Killed(BaseException):
        pass

    real, calls = sazs.count_answers, []

    def killing(*given, **settings):
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return real(*given, **settings)

    monkeypatch.setattr(sazs, "count_answers", killing)
    words = ["train", *SMALL, *arguments(world, tmp_path)]
    with pytest.raises(Killed):
        run(*words)
    assert not (tmp_path / checkpoint.FINAL).exists()
    monkeypatch.setattr(sazs, "count_answers", real)
    assert "resuming from" in run(*words)
    whole, parts = (load_file(folder / checkpoint.FINAL) for folder in (trained, tmp_path))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_another_recipe_in_the_same_folder_is_refused(world, trained):
    output = fails("train", *SMALL, *arguments(world, trained, "--fold", "1"))
    assert "fold was 0, is 1" in output


def write_eigen(world: Path, folder: Path, items) -> None:
    rng = np.random.default_rng(0)
    for item in items:
        truth, _ = item.read_truth(item.read_image().shape[:2])
        for k, mask in enumerate((truth, rng.random(truth.shape) > 0.5)):
            write_mask(folder / f"{item.photo}_k{k}.png", mask)


@pytest.fixture(scope="module")
def eigen(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pascal_k5")
    fold = open_fold("pascal", world, 0, validation_share=0.5)
    write_eigen(world, folder, [*fold.test, *fold.validation])
    return folder


def test_test_command_reports_three_answers(world, trained, eigen, tmp_path):
    weights = trained / checkpoint.BEST
    output = run(
        "test", "--resume", str(weights), "--eig_dir", str(eigen), "--input-side", "0",
        "--device", "cpu", "--epochs", "3", "--validation-share", "0.5", "--pictures", "1",
        *arguments(world, tmp_path),
    )  # fmt: skip
    assert "--epochs has no effect" in output
    assert "oracle_upper_bound" in output
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["about"]["recipe"]["arch"] == "drn_d_22_slim"
    assert scores["unseen"][0] == "striped red disc"
    answers = scores["scores"]["published"]["reference_pascal"]
    assert answers["oracle_upper_bound"]["miou"] >= answers["network"]["miou"]


def test_without_eigenvectors_only_the_network_is_shown(world, trained, tmp_path):
    weights = str(trained / checkpoint.BEST)
    words = ["--input-side", "0", "--pictures", "1", *arguments(world, tmp_path)]
    output = run("test", "--resume", weights, *words)
    scores = json.loads((tmp_path / "scores.json").read_text())
    page = (tmp_path / "report.html").read_text()
    for shown in (output, json.dumps(scores["scores"]), page.partition('id="configuration"')[0]):
        assert "network" in shown and "fused" not in shown and "oracle" not in shown
    assert scores["fused_minus_network"] is scores["fusion"] is None


@pytest.mark.parametrize("extra", [["--fold", "1"], ["--benchmark", "coco"], ["--fold", "3"]])
def test_classes_of_the_training_run_never_count_as_unseen(world, trained, tmp_path, extra):
    weights = str(trained / checkpoint.BEST)
    output = fails("test", "--resume", weights, *arguments(world, tmp_path, *extra))
    assert f"{extra[0]} {extra[1]}, but the weights were trained with" in output


def test_class_names_other_than_the_training_runs_are_refused(world, trained, tmp_path):
    names = (world / "VOC2012" / "class_names.txt").read_text().splitlines()
    (tmp_path / "names.txt").write_text("\n".join(reversed(names)))
    words = arguments(world, tmp_path, "--names", str(tmp_path / "names.txt"))
    output = fails("test", "--resume", str(trained / checkpoint.BEST), *words)
    assert "not the class names that the weights were trained with" in output


def test_fold_names_and_text_table_come_from_the_checkpoint(world, tmp_path):
    """Also after the files that it was trained with are gone, on another machine."""
    names, table = tmp_path / "names.txt", tmp_path / "table.npy"
    names.write_text((world / "VOC2012" / "class_names.txt").read_text())
    table.write_bytes((world / "VOC2012" / "text_embeddings.npy").read_bytes())
    place = ["--data-dir", str(world), "--filename"]
    given = ["--names", str(names), "--embeddings", str(table), "--fold", "2"]
    run("train", *SMALL, "--epochs", "1", *given, *place, str(tmp_path / "out"))
    moved = tmp_path / "elsewhere.safetensors"
    (tmp_path / "out" / checkpoint.FINAL).rename(moved)
    words = ["test", "--resume", str(moved), "--input-side", "0", "--pictures", "0", *place]
    run(*words, str(tmp_path / "with"), "--names", str(names), "--embeddings", str(table))
    names.unlink(), table.unlink()
    run(*words, str(tmp_path / "without"))
    first, second = (
        json.loads((tmp_path / name / "scores.json").read_text()) for name in ("with", "without")
    )
    assert first["fold"] == second["fold"] == 2
    assert first["scores"] == second["scores"] and first["unseen"] == second["unseen"]
    assert "texts" not in second["about"]["recipe"]


def copied(world: Path, out: Path) -> Path:
    shutil.copytree(world, out, symlinks=True)
    return out / "VOC2012"


def test_missing_test_masks_stop_or_are_counted(world, trained, tmp_path):
    voc = copied(world, tmp_path / "tree")
    test = (voc / "ImageSets" / "Segmentation" / "val.txt").read_text().split()
    for name in test[:3]:
        (voc / "SegmentationClassAug" / f"{name}.png").unlink()
    words = ["test", "--resume", str(trained / checkpoint.BEST), "--input-side", "0"]
    words += ["--pictures", "1", *arguments(tmp_path / "tree", tmp_path / "out")]
    output = fails(*words)
    assert "3 test images have no image or label file" in output and test[0] in output
    assert "3 images left out" in run(*words, "--allow-missing")
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert [name for name, _ in scores["left_out"]] == sorted(test[:3])
    assert "3 images left out" in (tmp_path / "out" / "report.html").read_text()


def test_test_images_that_cannot_be_read_are_left_out_named_and_counted(
    world, trained, tmp_path, caplog
):
    voc = copied(world, tmp_path / "tree")
    fold = open_fold("pascal", tmp_path / "tree", 0)
    photo, label = (fold.test[i] for i in (0, -1))
    assert photo.photo != label.photo
    photo.image.write_bytes(photo.image.read_bytes()[:2000])
    lists = tmp_path / "lists.json"
    generate(open_tree("pascal", world), workers=1).save(lists)
    label.label.write_bytes(b"")
    words = ["test", "--resume", str(trained / checkpoint.BEST), "--input-side", "0"]
    words += ["--pictures", "1", "--lists", str(lists)]
    output = run(*words, *arguments(tmp_path / "tree", tmp_path / "out"))
    assert "2 images left out" in output
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert {name for name, _ in scores["left_out"]} == {photo.photo, label.photo}
    gone = {photo.photo, label.photo}
    assert scores["items"] == sum(item.photo not in gone for item in fold.test)
    assert voc.is_dir()


def test_training_quarantines_images_without_masks(world, tmp_path):
    voc = copied(world, tmp_path / "tree")
    name = (voc / "ImageSets" / "Segmentation" / "trainaug.txt").read_text().split()[0]
    (voc / "SegmentationClassAug" / f"{name}.png").unlink()
    run("train", *SMALL, "--epochs", "1", *arguments(tmp_path / "tree", tmp_path / "out"))
    assert f"{name},train," in (tmp_path / "out" / "quarantine.csv").read_text()


def test_every_option_is_made_of_its_setting():
    """Names, ranges, choices and defaults of the command line are those of the typed records."""
    for command, models in (
        (command_line.train, (RecipeOptions, Running, StartOptions, DataOptions)),
        (command_line.test, (ScoringOptions, DataOptions)),
    ):
        options = {option.name: option for option in command.params}
        for model in models:
            for name, field in model.model_fields.items():
                assert options[name].default == field.default, name
                assert options[name].help == field.description, name


def test_untrained_network_is_scored_as_chance(world, tmp_path):
    words = ["--untrained", "--input-side", "0", "--pictures", "0", *arguments(world, tmp_path)]
    assert "--untrained --arch NAME" in fails("test", *words)
    run("test", *words, "--arch", "drn_lowlevel8")
    answers = json.loads((tmp_path / "scores.json").read_text())["scores"]["one_pass"]["corrected"]
    assert 0 < answers["network"]["miou"] < 30


def test_missing_eigenvectors_stop_the_test_or_are_left_out(world, trained, eigen, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    for path in sorted(eigen.iterdir())[:-4]:
        (gone / path.name).symlink_to(path)
    words = [
        "test", "--resume", str(trained / checkpoint.FINAL), "--eig_dir", str(gone),
        "--input-side", "0", "--pictures", "0", *arguments(world, tmp_path / "out"),
    ]  # fmt: skip
    assert "images have no eigenvectors" in fails(*words, "--validation-share", "0.5")
    assert "oracle" in run(*words, "--missing-eig", "network")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--fold", "4"], "4 is not in the range 0<=x<=3"),
        (["--arch", "resnet50"], "choose vitl16_384"),
        (["--crop-size", "100"], "multiple of 16"),
        (["--batch_size", "1"], "at least 2 samples"),
        (["--epochs", "0"], "0 is not in the range x>=1"),
        (["--shape-loss", "fixed"], "distance_measures_regressor"),
        (["--data-dir", "nowhere"], "nowhere"),
        (["--device", "cuda:77"], "--device cpu"),
        (["--pretrained", "nothing.pth"], "no such file"),
        (["--init", "hub"], "has no published start"),
    ],
)
def test_bad_input_is_one_line(world, tmp_path, extra, message):
    output = fails("train", *SMALL, *arguments(world, tmp_path, *extra))
    assert message in output
    assert "Traceback" not in output


def test_class_names_of_wrong_length(world, tmp_path):
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    words = arguments(world, tmp_path, "--names", str(tmp_path / "names.txt"))
    assert "expected 20 class names, found 2" in fails("train", *SMALL, *words)


def test_weights_of_another_architecture(world, trained, tmp_path):
    weights = str(trained / checkpoint.FINAL)
    words = ["test", "--resume", weights, "--arch", "drn_d_22", *arguments(world, tmp_path)]
    assert "not a checkpoint of DRNSegmenter as built here" in fails(*words)


def test_weights_that_do_not_say_their_architecture(world, tmp_path):
    torch.save(networks.build("drn_d_22_slim").state_dict(), tmp_path / "bare.pth")
    words = ["test", "--resume", str(tmp_path / "bare.pth"), *arguments(world, tmp_path)]
    assert "give --arch" in fails(*words)


def test_truncated_weights_are_named(world, trained, tmp_path):
    for name in (checkpoint.BEST, checkpoint.LATEST):
        damaged = tmp_path / name
        damaged.write_bytes((trained / name).read_bytes()[:100_000])
        output = fails("test", "--resume", str(damaged), *arguments(world, tmp_path))
        assert str(damaged) in output
        assert "truncated or damaged: download it again" in output


def test_loss_that_explodes_stops_at_once(world, tmp_path):
    output = fails("train", *SMALL, *arguments(world, tmp_path, "--lr", "1e30"))
    assert "loss is not finite in step" in output
    assert list(tmp_path.glob("nonfinite_step_*.pt"))


@pytest.mark.parametrize("half", ["bf16", "fp16"])
def test_half_precision_accumulated_and_averaged(world, tmp_path, half):
    options = ["--autocast", half, "--accumulate", "2", "--ema", "0.5", "--channels-last"]
    run("train", *SMALL, *arguments(world, tmp_path, *options, "--epochs", "1"))
    weights = load_file(tmp_path / checkpoint.FINAL)
    raw = torch.load(tmp_path / checkpoint.LATEST, weights_only=True)["state_dict"]
    key = "edgeocr_cls_head.weight"
    assert all(value.isfinite().all() for value in weights.values())
    assert weights[key].dtype == torch.float32
    assert not torch.equal(weights[key], raw[key])  # the average is what is kept


PUBLISHED = """
train --arch vitl16_384 --fold 3 --batch_size 6 --random-scale 2 --random-rotate 10 --lr 0.0002
--drate 0.9 --lr-mode poly --benchmark pascal -d x -c 2 -s 512 --phase val --load-release --with-gt
--bn-sync --ms -e --wd 0.0001 --momentum 0.9 -j 1 --has_edge_head True --device cpu
"""


def test_published_command_line_is_accepted(monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setattr(sazs, "train", lambda recipe, *given, **named: seen.update(r=recipe))
    monkeypatch.setattr(command_line, "_fold", lambda *given: None)
    monkeypatch.setattr(command_line, "_texts", lambda *given: torch.zeros(1))
    output = run(*shlex.split(PUBLISHED), "--filename", str(tmp_path))
    recipe = seen["r"]
    assert (recipe.lr, recipe.epochs, recipe.batch_size, recipe.crop) == (0.0002, 20, 6, 512)
    for name in ("--drate", "--phase", "--load-release", "--ms", "--evaluate", "--classes"):
        assert f"{name} has no effect" in output


SEED = """
train --arch {} --fold 2 --batch_size 6 --random-scale 2 --random-rotate 10 --lr 0.0002 --drate 0.9
--lr-mode poly --benchmark pascal
"""


@pytest.mark.parametrize("arch", networks.ARCHITECTURES)
def test_command_of_the_instructions_asks_for_the_published_start(
    world, monkeypatch, tmp_path, arch
):
    seen = {}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "datasets").symlink_to(world)
    monkeypatch.setattr(command_line, "_texts", lambda *given: torch.zeros(21, 512))
    monkeypatch.setattr(
        sazs, "train", lambda recipe, fold, *rest, **named: seen.update(r=recipe, f=fold)
    )
    run(*shlex.split(SEED.format(arch)))
    recipe, fold = seen["r"], seen["f"]
    assert (recipe.arch, recipe.lr, recipe.lr_mode, recipe.batch_size) == (arch, 0.0002, "poly", 6)
    assert (recipe.scale, recipe.rotate) == (2, 10)
    assert recipe.crop == (320 if arch.startswith("lite2") else 512)
    assert recipe.drop_rate == 0.9
    assert recipe.init == ("hub" if networks.ARCHITECTURES[arch].hub else "none")
    assert (fold.benchmark.name, fold.number) == ("pascal", 2)


def test_command_of_the_instructions_starts_on_a_made_tree(world, monkeypatch, tmp_path):
    steps = []

    def one_step(training, batches, evaluate):
        before = training.model.edgeocr_cls_head.weight.detach().clone()
        training._take_step(batches(0))
        training.history.close()
        steps.append(not torch.equal(before, training.model.edgeocr_cls_head.weight))

    embeddings = torch.from_numpy(np.load(world / "VOC2012" / "text_embeddings.npy"))
    texts = torch.cat([torch.zeros(1, 512), embeddings])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "datasets").symlink_to(world)
    # What would be fetched: CLIP's text features and the ImageNet start.
    monkeypatch.setattr(command_line, "_texts", lambda *given: texts)
    monkeypatch.setattr(networks, "load_initial", lambda model, arch, source: None)
    monkeypatch.setattr(sazs.Training, "run", one_step)
    run(*shlex.split(SEED.format("vitti16_384")))
    assert steps == [True]


@pytest.mark.parametrize(
    ("arch", "benchmark", "expected"),
    [
        ("vitl16_384", "pascal", {"lr": 0.001, "epochs": 20}),
        ("vitl16_384", "coco", {"lr": 0.0002, "epochs": 20}),
        ("drn_d_105", "pascal", {"lr": 0.001, "epochs": 40, "drop_rate": 0.95}),
        ("drn_d_105", "coco", {"lr": 0.001, "epochs": 10, "drop_rate": 0.9}),
    ],
)
def test_defaults_are_the_published_recipes(arch, benchmark, expected):
    assert sazs.published_defaults(arch, benchmark) == expected


def test_optimisers_are_those_asked_for():
    model = torch.nn.Linear(2, 2)
    sgd, adamw = (
        sazs._optimizer(Recipe(optimizer=name, lr=0.5, weight_decay=0.25), model)
        for name in ("sgd", "adamw")
    )
    assert (type(sgd), sgd.defaults["momentum"]) == (torch.optim.SGD, 0.9)
    assert type(adamw) is torch.optim.AdamW
    assert all(o.defaults["lr"] == 0.5 and o.defaults["weight_decay"] == 0.25 for o in (sgd, adamw))
    with pytest.raises(
        SettingError, match="optimizer: Input should be 'sgd' or 'adamw'; found 'lamb'"
    ):
        Recipe(optimizer="lamb")


def test_missing_test_images_stop_too(world, trained, tmp_path):
    voc = copied(world, tmp_path / "tree")
    gone = (voc / "ImageSets" / "Segmentation" / "val.txt").read_text().split()[0]
    (voc / "JPEGImages" / f"{gone}.jpg").unlink()
    words = ["test", "--resume", str(trained / checkpoint.BEST), "--input-side", "0"]
    output = fails(*words, *arguments(tmp_path / "tree", tmp_path / "out"))
    assert "1 test images have no image or label file" in output and gone in output


def test_other_texts_and_other_samples_are_another_run(world, trained, tmp_path):
    table = np.load(world / "VOC2012" / "text_embeddings.npy")
    np.save(tmp_path / "other.npy", np.roll(table, 1, axis=1))
    words = ["train", *SMALL, *arguments(world, trained)]
    before = (trained / checkpoint.FINAL).read_bytes()
    output = fails(*words, "--embeddings", str(tmp_path / "other.npy"))
    assert "class names and text embeddings was" in output and output.count(" was ") == 1
    copied(world, tmp_path / "tree")
    items = open_fold("pascal", tmp_path / "tree", 0, validation_share=0.5).train
    items[0].label.write_bytes(items[-1].label.read_bytes())
    output = fails(*words, "--data-dir", str(tmp_path / "tree"))
    assert "list of samples was" in output
    assert (trained / checkpoint.FINAL).read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "--filename", ""), "'--filename': expected a path, found an empty text"),
        (("train", "--seed", str(2**70)), "'--seed'"),
        (("train", "--random-scale", "1e9"), "'--random-scale'"),
        (("train", "--reduce", "1000"), "'--reduce'"),
        (("train", "--crop-size", "100000"), "'--crop-size'"),
        (("test", "--input-side", "100000"), "'--input-side'"),
        (("test", "--untrained", "--resume", "x"), "--untrained: leave it out"),
        (("test", "--fusion", "voting"), "--fusion voting: has no effect without eigenvectors"),
        (("train", *SMALL, "--workers", "100000"), "--workers: expected at most"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(world, tmp_path, words, message):
    given = arguments(world, tmp_path / "out")
    command, *more = words
    assert message in fails(command, *given, *more)


def test_one_run_at_a_time_in_a_folder(world, tmp_path):
    held = "import sys; from data import runlock; runlock.claim(sys.argv[1], elsewhere=''); "
    held += "print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", held, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    ) as other:
        other.stdout.readline()
        output = fails("train", *SMALL, *arguments(world, tmp_path))
        other.kill()
    assert "is in use by another run" in output and "give another --filename" in output
