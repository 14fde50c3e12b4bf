"""`python -m pipeline verify`: shards checked against their images."""

import dataclasses
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from eigen.store import shards
from pipeline.cli import main
from tests.pictures import scene
from tests.pipeline.test_stages import Run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("verify")
    photos = root / "photos"
    photos.mkdir()
    for number in range(4):
        Image.fromarray(scene(80 + 16 * number, 112, number)).save(photos / f"photo{number}.png")
    run = Run(photos, root / "results", colour="random_walk", colour_weight=0.5)
    run.make()
    return photos, run.path("index").parent


@pytest.fixture
def folder(made, tmp_path):
    copy = shutil.copytree(made[1], tmp_path / "shards")
    (copy / "manifest.json").unlink()  # the SHA-256 would notice first
    return copy


def verify(folder, photos, *more):
    words = ["verify", str(folder), "--images", str(photos), *map(str, more)]
    answer = CliRunner().invoke(main, words)
    return answer.exit_code, answer.output


def test_results_of_the_pipeline_pass(made):
    code, output = verify(made[1], made[0])
    assert code == 0, output
    assert "4 of 4 images passed" in output


def test_the_sample_is_drawn_by_its_seed(made):
    drawn = [verify(made[1], made[0], "--sample", 2, "--seed", seed)[1] for seed in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len({text.split()[0] for text in drawn}) > 1


@pytest.mark.parametrize("dataset", ["vectors", "eigenvalues", "residual"])
def test_one_changed_value_is_detected(made, folder, dataset):
    """Somebody writes a whole and sealed shard, with one other number."""
    path = next(folder.glob("*.h5"))
    shard = shards.Shard(path)
    about, table = shard.attributes(), shard.table()
    keys = ("config", "software", "extractor", "weights_sha256")
    with shards.create(path, **{key: about[key] for key in keys}) as append:
        for index, id in enumerate(shard.ids()):
            pairs = shard.pairs(index)
            if index == 1:
                getattr(pairs, dataset)[2] += 0.01
            append(id, pairs, str(table["sha256"][index]))
    code, output = verify(folder, made[0])
    assert code == 1
    assert output.count("FAIL") == 1


def test_vectors_of_another_image_are_detected(made, folder, tmp_path):
    others = shutil.copytree(made[0], tmp_path / "photos")
    shutil.copy(others / "photo1.png", others / "photo2.png")
    Image.fromarray(scene(80, 112, 77)).save(others / "photo0.png")
    code, output = verify(folder, others)
    assert code == 1
    assert output.count("FAIL") == 2
    assert output.count("is not the file whose eigenpairs were computed") == 2


def test_a_missing_image_is_named(made, folder, tmp_path):
    code, output = verify(folder, tmp_path)
    assert code == 1
    assert "image photo0: not found in" in output


def test_images_of_subfolders_and_of_any_ending_are_found(tmp_path):
    photos = tmp_path / "photos"
    (photos / "a" / "b").mkdir(parents=True)
    Image.fromarray(scene(80, 112, 0)).save(photos / "a" / "b" / "one two.Png", "PNG")
    Image.fromarray(scene(80, 112, 1)).save(photos / "three.JpEg", "JPEG")
    run = Run(photos, tmp_path / "results")
    run.make()
    shard_folder = run.path("index").parent
    for words in (["--images", str(photos)], []):  # without a folder the manifest knows the paths
        answer = CliRunner().invoke(main, ["verify", str(shard_folder), *words])
        assert answer.exit_code == 0, answer.output
        assert "2 of 2 images passed" in answer.output


def test_a_changed_shard_is_detected_before_any_image_is_read(made, tmp_path):
    folder = shutil.copytree(made[1], tmp_path / "shards")
    path = next(folder.glob("*.h5"))
    path.write_bytes(path.read_bytes() + b"\0")
    code, output = verify(folder, made[0])
    assert code == 1
    assert "SHA-256" in output


def test_verification_does_not_trust_the_solver(made):
    """A vector with a small residual of a wrong eigenvalue is no pair."""
    from eigen import GraphSpec
    from eigen.extractors import extractor
    from eigen.graphs import build as graphs
    from eigen.store.verify import verify as held

    image = np.asarray(Image.open(made[0] / "photo0.png"))
    lowlevel = extractor("lowlevel")
    spec = GraphSpec(colour="random_walk", colour_weight=0.5)
    grid = lowlevel.grid(image.shape[:2])
    graph = graphs.build(spec, lowlevel([image])[0], grid, image)
    pairs = shards.open(made[1])["photo0"]
    assert held(pairs, graph).holds(1e-5)
    swapped = dataclasses.replace(pairs, eigenvalues=pairs.eigenvalues[::-1])
    assert not held(swapped, graph).holds(1e-5)
