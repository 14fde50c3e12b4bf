"""Fusion without labels: what each method does, and that it cannot know a label."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data.errors import SettingError, ShardError
from data.png import write_mask
from eigen.pairs import Cells, Eigenpairs
from eigen.store import shards
from eigen.store.maps import EigenFolder, EigenMaps
from eval.sazs import fusion
from eval.sazs import segmenter as inference
from eval.sazs.fusion import METHODS, Agreement, Projection, Voting

H, W = 48, 64


def disc(row: float, column: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:H, :W]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


@pytest.fixture
def scene():
    """An object, a ragged answer of a network, and eigenvectors that know the outline."""
    truth = disc(24, 30, 14)
    rng = np.random.default_rng(4)
    margin = np.where(truth, 1.0, -1.0) + 1.5 * rng.standard_normal((H, W))
    other = disc(10, 8, 6)
    soft = np.stack([np.full((H, W), 0.3), np.where(truth, 1.0, -0.4), np.where(other, 2.0, -0.1)])
    soft = soft.astype(np.float32)
    return truth, margin.astype(np.float32), EigenMaps(soft > 0, soft, np.array([0.0, 0.1, 0.2]))


def iou(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_mends_a_ragged_mask(scene, name):
    truth, margin, maps = scene
    before = iou(margin > 0, truth)
    strong = {"agreement": Agreement(accept=0.2), "voting": Voting(weight=0.9)}
    after = iou(strong.get(name, Projection(weight=0.9))(margin, maps), truth)
    assert after > before + 0.15


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("planes", [np.zeros((0, H, W)), np.ones((3, H, W)), np.zeros((5, H, W))])
def test_eigenvectors_that_say_nothing_change_nothing(scene, name, planes):
    _, margin, _ = scene
    planes = planes.astype(np.float32)
    maps = EigenMaps(planes > 0, planes, np.zeros(len(planes)))
    assert np.array_equal(METHODS[name](margin, maps), margin > 0)


@settings(max_examples=60)
@given(
    margin=hnp.arrays(np.float32, (6, 8), elements=st.floats(-60, 60, width=32)),
    planes=hnp.arrays(np.float32, (3, 6, 8), elements=st.floats(-2, 2, width=32)),
    name=st.sampled_from(sorted(METHODS)),
)
def test_any_input_gives_a_mask_twice_the_same(margin, planes, name):
    maps = EigenMaps(planes > 0, planes, np.array([0, 0.5, 1.0]))
    fused = METHODS[name](margin, maps)
    assert (fused.shape, fused.dtype) == ((6, 8), bool)
    assert np.array_equal(fused, METHODS[name](margin, maps))


def test_agreement_finds_complements_and_pieces():
    mask = disc(24, 30, 14)
    margin = np.where(disc(24, 31, 14), 1.0, -1.0)
    complement = EigenMaps.of_masks(~mask[None])
    assert np.array_equal(Agreement()(margin, complement), mask)
    piece = EigenMaps.of_masks((mask | disc(5, 5, 4))[None])
    assert np.array_equal(Agreement()(margin, piece), mask)


def test_agreement_needs_agreement(scene):
    _, margin, maps = scene
    assert np.array_equal(Agreement(accept=0.99)(margin, maps), margin > 0)


def test_products_tell_parts_that_no_single_vector_cuts_out():
    """The object is where two vectors agree: neither of them, nor their sum, has its outline."""
    rows, columns = np.mgrid[-1 : 1 : H * 1j, -1 : 1 : W * 1j].astype(np.float32)
    truth = rows * columns > 0
    margin = np.where(truth, 1.0, -1.0) + 1.5 * np.random.default_rng(1).standard_normal((H, W))
    planes = np.stack([rows, columns])
    maps = EigenMaps(planes > 0, planes, np.array([0.1, 0.1]))
    single, both = (Projection(weight=1, degree=n)(margin, maps) for n in (1, 2))
    assert iou(single, truth) < 0.6
    assert iou(both, truth) > 0.9


def test_projection_damps_large_eigenvalues_more(scene):
    _, margin, maps = scene
    smooth = Projection(ridge=10.0, degree=1).evidence(margin, maps)
    close = Projection(ridge=0.0, degree=1).evidence(margin, maps)
    assert smooth.std() < 0.7 * close.std()


def test_tune_takes_the_best_of_the_grid(scene):
    truth, margin, maps = scene
    sample = (margin, maps, truth, np.zeros_like(truth), 3)
    for name in METHODS:
        chosen, score = fusion.tune(name, [sample], classes=5)
        trials = [
            type(chosen)(**dict(zip(fusion.GRIDS[name], values, strict=True)))
            for values in product(*fusion.GRIDS[name].values())
        ]
        assert score == pytest.approx(100 * max(iou(t(margin, maps), truth) for t in trials))
        assert iou(chosen(margin, maps), truth) == pytest.approx(score / 100)


def test_auto_takes_the_method_that_is_best_on_the_samples(scene):
    truth, margin, maps = scene
    grey = replace(maps, image=np.full((H, W, 3), 90, np.uint8))
    coloured = replace(maps, image=np.where(truth[..., None], (200, 120, 60), 60).astype(np.uint8))
    for shown in (grey, coloured):
        sample = (margin, shown, truth, np.zeros_like(truth), 3)
        chosen, score = fusion.tune(fusion.AUTO, [sample], classes=5)
        scores = {n: fusion.tune(n, [sample], classes=5)[1] for n in fusion.CANDIDATES}
        assert score == max(scores.values())
        assert scores[fusion.name_of(chosen)] == score
    assert fusion.method(fusion.AUTO) == METHODS[fusion.CANDIDATES[0]]


@pytest.mark.parametrize("name", METHODS)
def test_masks_of_several_classes_are_those_of_each(scene, name):
    truth, margin, maps = scene
    margins = np.stack([margin, -margin, np.roll(margin, 9, axis=1)])
    maps = replace(maps, image=np.where(truth[..., None], 200, 60).repeat(3, 2).astype(np.uint8))
    together = METHODS[name].masks(margins, maps)
    apart = np.stack([METHODS[name](own, maps) for own in margins])
    # Conjugate gradients stop by the worst of several right sides.
    assert np.mean(together != apart) < 2e-3


def test_auto_is_no_name_for_a_rule():
    with pytest.raises(SettingError, match="already registered"):
        fusion.register(fusion.AUTO, Voting(), {"segments": (4,)})


def test_tune_needs_samples():
    with pytest.raises(SettingError, match="no samples of seen classes"):
        fusion.tune("voting", [], classes=5)


def test_unknown_method_lists_the_known():
    with pytest.raises(SettingError, match="agreement, voting, projection"):
        fusion.method("oracle")


def test_nothing_that_predicts_can_take_a_label():
    label_words = ("label", "truth", "mask", "target", "void", "ground")
    calls = [inference.segment, inference.SazsSegmenter.margins, fusion.Method.__call__]
    calls += [m for method in METHODS.values() for m in (method.evidence, method.decide)]
    for call in calls:
        names = inspect.signature(call).parameters
        assert not [n for n in names if any(word in n for word in label_words)], call
    assert {f.name for f in fields(EigenMaps)} == {"masks", "planes", "eigenvalues", "image"}


def write_pngs(folder, ids, k=3):
    rng = np.random.default_rng(0)
    written = {}
    for photo in ids:
        written[photo] = rng.random((k, H, W)) > 0.5
        for number, mask in enumerate(written[photo]):
            write_mask(folder / f"{photo}_k{number}.png", mask)
    return written


def test_published_pngs_are_read(tmp_path):
    written = write_pngs(tmp_path, ["2007_000033", "COCO_val2014_000000000042"])
    folder = EigenFolder(tmp_path)
    for photo, masks in written.items():
        maps = folder.maps(photo, (H, W))
        assert np.array_equal(maps.masks, masks)
        assert np.array_equal(maps.planes > 0, masks)


def test_shards_are_read(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((4, 6, 8)).astype(np.float32)
    cells = Cells.over((H, W), (6, 8))
    pairs = Eigenpairs(np.arange(4) / 10, vectors, np.zeros(4, np.float32), "dense", (H, W), cells)
    with shards.create(
        tmp_path / "0000.h5", config={}, software="0", extractor="x", weights_sha256=""
    ) as append:
        append("a", pairs)
    shards.write_manifest(tmp_path, [tmp_path / "0000.h5"])
    maps = EigenFolder(tmp_path).maps("a", (H, W))
    assert maps.planes.shape == (4, H, W)
    assert np.array_equal(maps.masks, maps.planes > 0)
    assert np.array_equal(maps.eigenvalues, pairs.eigenvalues)


def test_missing_eigenvectors_are_named_before_anything_is_scored(tmp_path):
    write_pngs(tmp_path, ["a", "b"])
    (tmp_path / "b_k2.png").unlink()
    folder = EigenFolder(tmp_path)
    assert folder.missing(["b", "c", "a", "b"]) == ["b", "c"]
    with pytest.raises(ShardError, match=r"2 of 3 images .*\(first: b, c\).*--missing-eig"):
        folder.require(["a", "b", "c"])


def test_folder_without_eigenvectors_is_an_error(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ShardError, match=r"expected shards .* or files ID_k0\.png"):
            EigenFolder(folder)


def test_mask_of_another_size_is_an_error(tmp_path):
    write_pngs(tmp_path, ["a"])
    with pytest.raises(ShardError, match="native size"):
        EigenFolder(tmp_path).maps("a", (H, W + 1))


@pytest.mark.parametrize(
    ("name", "grid", "message"),
    [("voting", {}, "already registered"), ("own", {"wieght": (1,)}, "weight.*found wieght")],
)
def test_a_rule_is_registered_under_a_new_name_with_its_own_parameters(name, grid, message):
    before = dict(fusion.METHODS)
    with pytest.raises(SettingError, match=message):
        fusion.register(name, fusion.Voting(), grid)
    assert before == fusion.METHODS
