"""What is due of generated data sets and of stages on top of eigenvectors, without Snakemake."""

import shutil
from pathlib import Path
from types import SimpleNamespace

from click.testing import CliRunner

from pipeline import manifest
from pipeline.cli import main
from pipeline.plan import Plan


def run(*words):
    outcome = CliRunner().invoke(main, [*map(str, words)], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output


def is_due(root, stage="photos", dataset="samples", **settings):
    plan = Plan({"results_root": str(root), **settings})
    request = Path(plan.request(stage)(SimpleNamespace(dataset=dataset)))
    results = plan.layout.results(stage, dataset)
    return any(request.stat().st_mtime_ns > path.stat().st_mtime_ns for path in results)


def test_generated_images_that_are_missing_are_made_again_and_moved_ones_are_not(tmp_path):
    run("photos", "--dataset", "samples", "--results-root", tmp_path / "r")
    run("manifest", "--dataset", "samples", "--results-root", tmp_path / "r")
    assert not is_due(tmp_path / "r") and not is_due(tmp_path / "r", "manifest")
    shutil.copytree(tmp_path / "r", tmp_path / "moved", copy_function=shutil.copyfile)
    assert not is_due(tmp_path / "moved")
    assert is_due(tmp_path / "moved", "manifest")  # the paths of the images are others
    next((tmp_path / "moved/samples/photos").glob("*.png")).unlink()
    assert is_due(tmp_path / "moved")


def test_images_of_a_larger_world_that_was_there_before_are_none_of_it(tmp_path):
    here = ("--dataset", "world", "--results-root", tmp_path)
    for count in (22, 20):
        run("photos", *here, "--world-photos", count)
        run("manifest", *here, "--world-photos", count)
        listed = manifest.read(tmp_path / "world/manifest.csv")
        assert len(listed) == count
        assert len(list((tmp_path / "world/photos/VOC2012/JPEGImages").iterdir())) == count
    (tmp_path / "world/photos/VOC2012/JPEGImages/mine.jpg").touch()
    run("manifest", *here, "--world-photos", 20)
    assert len(manifest.read(tmp_path / "world/manifest.csv")) == 20
