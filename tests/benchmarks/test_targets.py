"""The extrapolated cost of the targets."""

import json

from click.testing import CliRunner
from PIL import Image

from benchmarks import targets
from tests.pictures import scene


def test_costs_of_a_few_images_are_multiplied(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(3):
        Image.fromarray(scene(60 + number, 80)).save(tmp_path / f"images/{number}.png")
    words = ["--target", "coco_k5", "--images", tmp_path / "images", "--count", 2]
    words += ["--extractor", "lowlevel", "--out", tmp_path]
    result = CliRunner().invoke(targets.main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    (row,) = json.loads((tmp_path / "targets.json").read_text())["rows"]
    assert (row["target"], row["images"], row["measured on"]) == ("coco_k5", "123,287", 2)
    cost = targets.Cost(0.5, 1e4, 2e4)
    row = targets.row("pascal_k5", "lowlevel", 2, cost, 10)
    assert row["time on 10 cores"] == "14 min"
    assert (row["shards, GB"], row["masks, GB"]) == (0.17, 0.34)


def test_a_folder_without_images_is_an_error(tmp_path):
    result = CliRunner().invoke(targets.main, ["--images", str(tmp_path)])
    assert result.exit_code == 2 and "found none" in result.output
