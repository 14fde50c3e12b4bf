"""The demo's summary, on a world and a recipe too small to learn from."""

from __future__ import annotations

import numpy as np
import pytest

from data.errors import RunError, ShardError
from data.png import write_mask
from data.sazs.folds import open_fold
from data.sealed import read_json
from data.synthetic import world
from pipeline.stages import demo_sazs as sazs_demo


@pytest.fixture(scope="module")
def small_world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    world.write(root, photos=56, workers=1)
    fold = open_fold("pascal", root, 0)
    for item in {i.photo: i for i in [*fold.test, *fold.seen_test, *fold.validation]}.values():
        H, W = item.read_image().shape[:2]
        write_mask(root / "eigen" / f"{item.photo}_k0.png", np.arange(W) > W // 2 * np.ones((H, 1)))
    return root


def test_summary_has_every_score(small_world, tmp_path, monkeypatch):
    recipe = sazs_demo.RECIPE.model_copy(update={"epochs": 1, "crop": 32})
    monkeypatch.setattr(sazs_demo, "RECIPE", recipe)
    summary = sazs_demo.run(small_world, small_world / "eigen", tmp_path, device="cpu")
    assert summary == read_json(tmp_path / sazs_demo.SUMMARY, RunError)
    for classes in ("seen", "unseen"):
        assert list(summary[classes]) == ["network", "fused", "oracle_upper_bound"]
        assert all(0 <= miou <= 100 for miou in summary[classes].values())
    assert 0 < summary["untrained"] < 30
    page = (tmp_path / "report.html").read_text()
    assert "SAZS on the generated world, fold 0" in page and "not recorded" not in page


def test_seen_and_unseen_images_are_never_trained_on(small_world):
    fold = open_fold("pascal", small_world, 0)
    tested = {item.photo for item in [*fold.test, *fold.seen_test]}
    assert not tested & {item.photo for item in [*fold.train, *fold.validation]}
    assert {item.class_id for item in fold.seen_test} <= set(fold.seen)


def test_eigenvectors_are_required_for_all_images(small_world, tmp_path):
    (tmp_path / "x_k0.png").write_bytes(b"")
    with pytest.raises(ShardError, match="have no eigenvectors"):
        sazs_demo.run(small_world, tmp_path, tmp_path / "out")
