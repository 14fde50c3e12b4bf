"""Refinement of class scores by the shapes in an image."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import SettingError
from eigen.picture import eigenvectors
from eval import refine as module
from eval.refine import diffused, graph_of, offsets, refine, softmax

H, W = 60, 84


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image with a disc, the label map, and blurred, noisy scores of an unsure network."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:H, :W]
    truth = ((rows - 30) ** 2 + (columns - 40) ** 2 <= 18**2).astype(int)
    colours = np.array([[60, 90, 60], [190, 120, 70]])[truth]
    image = np.clip(colours + rng.normal(0, 6, (H, W, 3)), 0, 255).astype(np.uint8)
    moved = np.roll(truth, (3, -4), (0, 1))  # right in size, wrong in place
    odds = np.where(moved, 0.6, -2.0) + rng.normal(0, 0.5, (H, W))
    return image, truth, np.stack([np.zeros((H, W)), odds])


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


@pytest.mark.parametrize(("with_image", "with_pairs"), [(True, False), (False, True), (True, True)])
def test_borders_move_to_the_images_and_areas_stay(scene, with_image: bool, with_pairs: bool):
    image, truth, scores = scene
    pairs = eigenvectors(image, "lowlevel8", 4) if with_pairs else None
    refined = refine(scores, image if with_image else None, eigenpairs=pairs)
    assert refined.shape == scores.shape and refined.dtype == np.float32
    before, after = scores.argmax(0), refined.argmax(0)
    assert after.sum() == before.sum()
    assert iou(after == 1, truth == 1) > iou(before == 1, truth == 1) + 0.05


def test_without_its_area_the_unsure_class_shrinks(scene):
    image, _, scores = scene
    smooth = diffused(softmax(scores.astype(np.float32)), graph_of(image, None, (H, W)), mu=0.1)
    assert smooth.argmax(0).sum() < 0.95 * scores.argmax(0).sum()


def test_diffusion_solves_its_equation():
    rng = np.random.default_rng(1)
    W_ = sp.random_array((30, 30), density=0.3, rng=rng, format="csr", dtype=np.float32)
    W_ = sp.csr_array(W_ + W_.T + 0.01 * sp.eye_array(30, dtype=np.float32))
    maps = rng.random((3, 5, 6)).astype(np.float32)
    D = sp.diags_array(W_.sum(1))
    expected = sp.linalg.spsolve(sp.csc_array(1.2 * D - W_), 0.2 * (D @ maps.reshape(3, -1).T))
    found = diffused(maps, (W_, (5, 6)), mu=0.2)
    np.testing.assert_allclose(found.reshape(3, -1).T, expected, atol=3e-3)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 6))
def test_offsets_give_each_class_its_area(seed: int, classes: int):
    rng = np.random.default_rng(seed)
    maps = rng.random((classes, 20, 25)).astype(np.float32)
    areas = rng.multinomial(500, rng.dirichlet(np.ones(classes)))
    chosen = (maps + offsets(maps, areas)[:, None, None]).argmax(0)
    found = np.bincount(chosen.ravel(), minlength=classes)
    assert np.abs(found - areas).max() <= (0 if classes == 2 else 15)
    assert (found[areas == 0] == 0).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scores": np.zeros((1, H, W))}, "C >= 2"),
        ({"scores": np.zeros((H, W))}, "C >= 2"),
        ({"scores": np.full((2, H, W), np.nan)}, "finite"),
        ({"image": None}, "give the image, its eigenpairs, or both"),
        ({"image": np.zeros((H, W + 1, 3), np.uint8)}, "image: expected the size of the scores"),
        ({"mu": 0.0}, "mu: expected more than 0"),
    ],
)
def test_what_does_not_fit_is_named(change: dict, said: str):
    given_ = {"scores": np.zeros((2, H, W)), "image": np.zeros((H, W, 3), np.uint8), **change}
    with pytest.raises(SettingError, match=said):
        refine(given_.pop("scores"), given_.pop("image"), **given_)


def test_a_system_that_is_not_solved_is_an_error(monkeypatch: pytest.MonkeyPatch, scene):
    monkeypatch.setattr(module, "TOLERANCE", 0.0)
    image, _, scores = scene
    with pytest.raises(RuntimeError, match="conjugate gradients"):
        refine(scores, image)
