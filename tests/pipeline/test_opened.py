"""What a process keeps open is found by what the files are now: workers outlive runs."""

import numpy as np
import pytest
from PIL import Image

from data.errors import ShardError
from pipeline import chain
from pipeline.config import resolve
from pipeline.opened import image_of, opened
from tests.pictures import scene
from tests.pipeline.test_stages import Run


@pytest.fixture
def run(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(scene(64, 96)).save(photos / "a.png")
    made = Run(photos, tmp_path / "results", k=3, extractor="lowlevel8")
    made.make()
    return made


def test_shards_that_were_written_again_are_opened_again(run, tmp_path):
    folder = run.path("index").parent
    first = opened(folder)
    assert opened(folder) is first
    vectors = first["a"].vectors
    Image.fromarray(scene(64, 96, 7)).save(tmp_path / "photos" / "a.png")
    run.make()
    assert opened(folder) is not first
    assert not np.array_equal(opened(folder)["a"].vectors, vectors)


def test_an_image_that_changed_is_not_combined_with_earlier_eigenvectors(run, tmp_path):
    folder, path = run.path("index").parent, tmp_path / "photos" / "a.png"
    assert image_of(folder, "a", str(path))[0].shape == (64, 96, 3)
    Image.fromarray(scene(64, 96, 7)).save(path)
    with pytest.raises(ShardError, match=r"a\.png: changed since its eigenvectors"):
        image_of(folder, "a", str(path))


def test_weights_that_were_replaced_are_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(chain, "make", lambda spec, device: (tmp_path / "w.pth").read_text())
    (tmp_path / "w.pth").write_text("first")
    config = resolve({"extractor": "dino_vits16", "weights": str(tmp_path / "w.pth")})
    assert chain.extractor_for(config) == "first"
    (tmp_path / "w.pth").write_text("second")
    assert chain.extractor_for(config) == "second"
