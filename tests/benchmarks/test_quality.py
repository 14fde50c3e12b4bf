"""Figures of vectors whose quality is known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.drawn_sets import Example, box_of
from benchmarks.quality import Figures, covering, draw, first_object, measured, merged, stored
from eigen.pairs import Cells, Eigenpairs
from eigen.store import shards

H, W = 60, 80


@pytest.fixture
def example() -> Example:
    region = np.zeros((H, W), bool)
    region[20:45, 25:60] = True
    void = np.zeros((H, W), bool)
    void[:5] = True
    image = np.zeros((H, W, 3), np.uint8)
    people = [region.astype(int)]
    border = region ^ np.roll(region, 1, axis=1)
    return Example("x", image, [region], [box_of(region)], void, [border], people)


def plane(mask: np.ndarray) -> np.ndarray:
    return np.where(mask, 1.0, -0.2).astype(np.float32)


def test_a_vector_that_is_the_object_has_full_figures(example):
    region = example.regions[0]
    noise = np.random.default_rng(0).random((2, H, W)).astype(np.float32) - 0.5
    figures = Figures([1, 3])
    figures.add("VOC", np.stack([*noise, plane(~region)]), example)
    first, all_three = figures.row(1), figures.row(3)
    assert all_three["foreground"] == all_three["VOC region"] == 1
    assert first["foreground"] == first["first"] == all_three["first"] < 0.5


def test_void_pixels_do_not_count(example):
    mask = example.regions[0] | example.void
    figures = Figures([1])
    figures.add("VOC", plane(mask)[None], example)
    assert figures.row(1)["foreground"] == 1


def test_the_first_object_is_the_side_away_from_the_frame(example):
    region = example.regions[0]
    assert first_object(plane(region)) == first_object(plane(~region)) == box_of(region)


def test_covering_is_one_for_the_same_segments_only(example):
    truth = example.segmentations[0]
    assert covering(1 - truth, truth) == 1
    assert covering(np.zeros_like(truth), truth) < 0.8


def test_an_interval_holds_the_mean_and_narrows_with_the_images(example):
    widths = []
    for count in (10, 100):
        figures = Figures([1])
        for n in range(count):
            mask = example.regions[0] if n % 2 else ~example.void
            figures.add("VOC", plane(mask)[None], example)
        low, high = map(float, figures.interval(1, "foreground").strip("[]").split(","))
        assert low < figures.row(1)["foreground"] < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_the_picture_shows_every_figure(example, tmp_path):
    figures = Figures([1])
    figures.add("BSDS", plane(example.regions[0])[None], example)
    row = {"extractor": "x", "graph": "patch", "K": 1, **figures.row(1), "F, 95 %": "[0, 1]"}
    assert {"F", "covering"} <= row.keys()
    draw([row], tmp_path / "quality.png")
    assert (tmp_path / "quality.png").stat().st_size > 1000


def test_stored_vectors_are_measured_without_the_constant_one(example, tmp_path):
    vectors = np.stack([np.ones((H, W), np.float32), plane(example.regions[0])])
    cells = Cells.over((H, W), (H, W))
    pairs = Eigenpairs(np.array([0, 0.1]), vectors, np.zeros(2), "dense", (H, W), cells)
    with shards.create(
        tmp_path / "0.h5", config={}, software="0", extractor="lowlevel8", weights_sha256=""
    ) as append:
        append("x", pairs)
    shards.write_manifest(tmp_path, [tmp_path / "0.h5"])
    variant, folder = stored(tmp_path)
    assert variant.extractor == "lowlevel8" and "x" in folder
    (row,) = measured({"VOC": [example]}, variant, [1])
    assert row["foreground"] == row["first"] == 1


def test_rows_of_the_same_vectors_on_two_sets_become_one():
    same = {"extractor": "x", "graph": "patch", "K": 5}
    first = {**same, "images": 3, "foreground": 0.5, "s/image": 1.0}
    second = {**same, "images": 1, "F": 0.25, "s/image": 3.0}
    other = {**same, "K": 10, "images": 1, "F": 0.5, "s/image": 2.0}
    both, alone = merged([first, second, other])
    assert both == {**same, "images": 4, "foreground": 0.5, "F": 0.25, "s/image": 1.5}
    assert alone == other
