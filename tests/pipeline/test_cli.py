"""The command line."""

import subprocess
import sys
import time

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from data.errors import message
from pipeline.cli import main
from pipeline.commands import help_text, one_line_errors


def run(*words):
    return CliRunner().invoke(main, words)


def test_help_imports_nothing_heavy():
    script = (
        "import sys; from pipeline.cli import main\n"
        "try: main(['fused', '--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'scipy', 'cv2', 'h5py', 'snakemake') if m in sys.modules])"
    )
    started = time.perf_counter()
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"
    assert time.perf_counter() - started < 5  # 0.2 s; the bound is for a busy machine


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "training stopped after step 3: No space left"), "training stopped after"),
        (FileNotFoundError(2, "No such file or directory", "a.csv"), "a.csv: No such file"),
    ],
)
def test_errors_of_the_system_are_told_without_their_number(error, line):
    with pytest.raises(click.ClickException) as raised, one_line_errors():
        raise error
    assert raised.value.message.startswith(line)
    assert message(ValueError()) == "ValueError"


@pytest.mark.parametrize("stage", sorted(main.commands))
def test_every_command_has_help(stage):
    answer = run(stage, "--help")
    assert answer.exit_code == 0
    assert main.commands[stage].help


def test_embeddings_are_centred_for_the_classes_they_stand_for(tmp_path):
    table, out = tmp_path / "table.npy", tmp_path / "centred.npy"
    np.save(table, np.random.default_rng(0).standard_normal((20, 4)) + 9)
    answer = run("centre-embeddings", str(table), str(out), "--vocabulary", "voc")
    assert answer.exit_code == 0 and "20 rows" in answer.output
    assert np.load(out).shape == (20, 4)
    wrong = run("centre-embeddings", str(table), str(out), "--vocabulary", "coco")
    assert wrong.exit_code == 1 and "expected 80 rows" in wrong.output


def test_settings_are_resolved_and_shown():
    answer = run("config", "k=7", "extractor=lowlevel")
    assert "k: 7\n" in answer.output
    assert "extractor: lowlevel\n" in answer.output
    assert "tolerance: 1.0e-05\n" in answer.output


def test_an_error_is_one_line():
    answer = run("config", "kk=7")
    assert answer.exit_code == 1
    assert answer.output.strip().splitlines() == [answer.output.strip()], (
        "one line, without a traceback"
    )
    assert answer.output.startswith("Error: configuration key 'kk' does not exist")


def test_an_empty_folder_is_one_line(tmp_path):
    words = ("manifest", "--dataset", "folder", "--folder", tmp_path, "--results-root", tmp_path)
    answer = run(*map(str, words))
    assert answer.exit_code == 1
    assert len(answer.output.strip().splitlines()) == 1
    assert str(tmp_path) in answer.output


def one_line(*words):
    answer = run(*map(str, words))
    assert answer.exit_code == 1 and isinstance(answer.exception, SystemExit), answer.output
    (line,) = answer.output.strip().splitlines()
    return line


def test_a_data_set_without_its_folder_is_one_line():
    for words in (("manifest", "--dataset", "folder"), ("check-data", "--quiet", "folder")):
        words = [word for word in words if word != "--quiet"]
        answer = run(*words)
        assert answer.exit_code == 1 and isinstance(answer.exception, SystemExit)
        last = answer.output.strip().splitlines()[-1]
        assert last.startswith(
            "Error: folder: expected a folder for the data set folder, found none"
        )


def test_lists_before_their_label_maps_name_the_command_that_makes_them(tmp_path):
    for split in ("train2014", "val2014"):
        (tmp_path / "COCO2014" / split).mkdir(parents=True)
        (tmp_path / "COCO2014" / split / f"COCO_{split}_1.jpg").touch()
    roots = ("--datasets-root", tmp_path, "--results-root", tmp_path / "results")
    line = one_line("lists", "--dataset", "coco", *roots)
    assert line.endswith("python -m pipeline coco-masks") and "train2014" in line
    (tmp_path / "COCO2014" / "annotations" / "train2014").mkdir(parents=True)
    assert "coco-masks" in one_line("lists", "--dataset", "coco", *roots)
    assert not (tmp_path / "results").exists()
    (tmp_path / "VOC2012" / "JPEGImages").mkdir(parents=True)
    assert "SegmentationClassAug" in one_line("lists", "--dataset", "pascal", *roots)
    assert "instances_train2014.json" in one_line("coco-masks", "--datasets-root", tmp_path)


@pytest.mark.parametrize("dataset", ["coco", "folder", "world", "samples"])
def test_only_lists_can_choose_listed_images(tmp_path, dataset):
    words = ("manifest", "--dataset", dataset, "--photos", "listed", "--folder", tmp_path)
    line = one_line(*words, "--results-root", f"{tmp_path}-results")
    assert "photos: expected" in line or dataset == "world"


def test_a_missing_tree_is_reported_with_the_expected_paths(tmp_path):
    answer = run("check-data", "pascal", "--datasets-root", str(tmp_path))
    assert answer.exit_code == 1
    assert "VOC2012/JPEGImages" in answer.output


def test_examples_in_help_texts_keep_their_lines():
    """click wraps a paragraph to the width of the terminal unless it is told not to."""
    docstring = (
        "Measure something.\n\n    python -m one --a b\n    python -m two\n\n| a | b |\n| 1 | 2 |\n"
    )
    command = click.Command("measure", help=help_text(docstring))
    shown = CliRunner().invoke(command, ["--help"]).output
    assert "python -m one --a b\n      python -m two\n" in shown
    assert "| a | b |\n  | 1 | 2 |\n" in shown


@pytest.mark.parametrize(
    "work",
    [
        lambda: np.empty((1 << 25, 1 << 25)),
        lambda: torch.empty((1 << 25, 1 << 25)),
        lambda: _raise(RuntimeError("Caught it in worker 0.\nUnable to allocate 9 GiB for x\n")),
    ],
)
def test_a_lack_of_memory_is_one_line(work):
    with pytest.raises(click.ClickException) as raised, one_line_errors():
        work()
    assert raised.value.message.startswith("not enough memory: ")
    assert "\n" not in raised.value.message


def _raise(error):
    raise error
