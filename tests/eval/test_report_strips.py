"""Rows and strips of photos, and which of them are shown."""

from __future__ import annotations

import base64
import dataclasses
import io
import tracemalloc

import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data.errors import SettingError
from eigen.masks import each_mask
from eigen.masks import masks as eigen_masks
from eigen.pairs import Cells, Eigenpairs
from eigen.store import shards
from eval import report
from eval.figures import OUTLINES


def pairs_of(size=(60, 80), grid=(6, 8), k=3):
    rng = np.random.default_rng(0)
    return Eigenpairs(
        eigenvalues=np.linspace(0, 0.4, k),
        vectors=rng.normal(size=(k, *grid)).astype(np.float32),
        residual=np.full(k, 1e-9, np.float32),
        solver="dense",
        size=size,
        cells=Cells.over(size, grid),
    )


def rows_of(residuals, solver="lanczos"):
    return [
        report.PhotoRow(f"{i:05d}", (4, 4), (2, 2), (0.0, 0.1), (0.0, float(r)), solver)
        for i, r in enumerate(residuals)
    ]


def decode(uri):
    kind, _, data = uri.partition(";base64,")
    assert kind in ("data:image/webp", "data:image/png")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))


def test_row_keeps_the_numbers_of_the_pairs():
    row = report.PhotoRow.of("a", pairs_of(), seconds=0.5)
    assert row.size == (60, 80) and row.grid == (6, 8) and row.seconds == 0.5
    assert row.eigenvalues == pytest.approx((0, 0.2, 0.4))
    assert row.worst == pytest.approx(1e-9)


def test_rows_of_a_shard_are_those_of_its_pairs(tmp_path):
    given = {"a": pairs_of(), "ü b": pairs_of(size=(9, 7), grid=(2, 3))}
    path = tmp_path / "0.h5"
    about = {"config": {}, "software": "0", "extractor": "lowlevel", "weights_sha256": ""}
    with shards.create(path, **about) as append:
        for photo_id, pairs in given.items():
            append(photo_id, pairs)
    shard = shards.Shard(path)
    rows = [report.PhotoRow.of(photo_id, pairs) for photo_id, pairs in given.items()]
    assert report.photo_rows(shard.table()) == rows
    assert [row.seconds for row in report.photo_rows(shard.table(), {"ü b": 2.5})] == [None, 2.5]
    shard.close()
    assert report.photo_rows({}) == []


def test_worst_residual_of_a_row_is_nan_when_one_is():
    assert np.isnan(report.PhotoRow("a", (1, 1), (1, 1), (0, 0, 0), (1, np.nan, 2), "x").worst)


def test_the_page_leaves_out_the_pictures_of_constant_vectors(tmp_path):
    pairs = pairs_of(k=3)
    pairs.vectors[0] = 0.125 * (1 + 1e-6 * pairs.vectors[0])
    image = np.zeros((60, 80, 3), np.uint8)
    strip = report.photo_strip("a", image, pairs, eigen_masks(pairs))
    assert strip.constant == {0}
    section = report.photos([report.PhotoRow.of("a", pairs)], [strip])
    report.write(tmp_path / "p.html", [section], title="t")
    html = (tmp_path / "p.html").read_text()
    shown = [f'alt="{what} {k} of a"' in html for what in ("eigenvector", "mask") for k in range(3)]
    assert shown == [False, True, True] * 2
    assert "Constant vectors" in html and html.count('class="stack"') == 3  # with the image


def test_strip_shows_photo_vectors_and_masks():
    image = np.zeros((300, 400, 3), np.uint8)
    image[:, 200:] = (250, 40, 40)
    pairs = pairs_of(size=(300, 400), grid=(3, 4), k=2)
    pairs.vectors[1] = np.linspace(-1, 1, 4)
    masks = np.zeros((2, 300, 400), bool)
    masks[1, :, :100] = True
    strip = report.photo_strip("a", image, pairs, masks)
    photo = decode(strip.photo)
    assert photo.shape[:2] == (192, 256)
    assert photo[96, 10, 0] < 40 and photo[96, 250, 0] > 200
    vector = decode(strip.vectors[1]).astype(int)
    assert vector[96, 2, 2] > vector[96, 2, 0] and vector[96, 250, 0] > vector[96, 250, 2]
    mask = decode(strip.masks[1])
    assert tuple(mask[96, 10]) == (*OUTLINES[1], 255)
    assert mask[96, 200, 3] == 0, "outside the mask the page shows through"
    assert strip.coverage == pytest.approx((0, 0.25))
    # The border of mask 1 runs where it ends, and is nowhere in the plain photo.
    difference = np.abs(decode(strip.outlines).astype(int) - photo)[96].sum(axis=1)
    assert 60 <= difference.argmax() <= 66


def test_vectors_lie_on_the_photo_as_their_masks_do():
    # Patches of 124 pixels leave the last 27 columns uncovered; the sign changes at column 124.
    cells = Cells.of_patches(124)
    pairs = dataclasses.replace(pairs_of(size=(499, 399), grid=(4, 3), k=1), cells=cells)
    pairs.vectors[0] = [-1, 1, 1]
    masks = eigen_masks(pairs)
    strip = report.photo_strip("a", np.zeros((499, 399, 3), np.uint8), pairs, masks)
    vector, mask = (decode(uri)[100].astype(int) for uri in (strip.vectors[0], strip.masks[0]))
    border = 124 / 499 * 256
    assert abs(np.argmax(mask[:, 3] > 0) - border) < 2
    assert abs(np.argmax(vector[:, 0] > vector[:, 2]) - border) < 2


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (2, 3000)])
def test_strip_of_a_photo_of_any_shape(size):
    pairs = pairs_of(size=size, grid=(1, 2), k=1)
    strip = report.photo_strip(
        "a", np.zeros((*size, 3), np.uint8), pairs, np.ones((1, *size), bool)
    )
    assert max(decode(strip.photo).shape) <= 256
    assert strip.coverage == (1.0,)


def test_strip_of_a_usual_photo_is_small():
    image = skimage.data.coffee()[:375, :500]
    pairs = pairs_of(size=(375, 500), grid=(23, 31), k=5)
    y, x = np.mgrid[:23, :31]
    for k in range(5):
        pairs.vectors[k] = np.cos(0.3 * k * y) * np.cos(0.2 * k * x)  # eigenvectors are smooth
    masks = np.repeat(np.repeat(pairs.vectors < 0, 16, axis=1), 16, axis=2)
    strip = report.photo_strip("a", image, pairs, masks)
    uris = [strip.photo, strip.outlines, *strip.vectors, *strip.masks]
    assert sum(map(len, uris)) < 60_000, "200 of them must leave the page below 15 MB"


@pytest.mark.parametrize(("image", "masks"), [((60, 81), 3), ((60, 80), 2)])
def test_strip_refuses_arrays_of_another_photo(image, masks):
    with pytest.raises(SettingError, match="a: expected an image"):
        report.photo_strip(
            "a", np.zeros((*image, 3), np.uint8), pairs_of(), np.zeros((masks, 60, 80), bool)
        )


def test_sample_takes_all_when_they_fit():
    chosen = report.sample(rows_of([1, 2, 3]), limit=3)
    assert chosen.ids == ("00000", "00001", "00002")
    assert chosen.rule == ""


def test_sample_holds_the_worst_some_of_each_solver_and_both_ends():
    rng = np.random.default_rng(0)
    residuals = rng.random(3000)
    residuals[1234] = np.nan
    rows = rows_of(residuals)
    rows[2345] = rows_of(np.zeros(2346), solver="dense")[-1]
    chosen = report.sample(rows, limit=40)
    worst = np.argsort(-np.nan_to_num(residuals, nan=2))[:10]
    assert len(chosen.ids) == len(set(chosen.ids)) == 40
    assert {rows[i].id for i in (*worst, 0, 1234, 2345, 2999)} <= set(chosen.ids)
    places = np.array([int(i) for i in chosen.ids])
    assert np.diff(places).max() < 3000 / 40 * 4, "the rest is not spread over the ids"
    assert "40 of 3,000" in chosen.rule


@settings(max_examples=50)
@given(
    residuals=st.lists(st.sampled_from([0.0, 1e-9, 1e-9, 0.5, float("nan")]), max_size=60),
    solvers=st.integers(1, 5),
    limit=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_sample_is_the_same_in_any_order_and_full(residuals, solvers, limit, seed):
    rows = [
        report.PhotoRow(
            row.id, row.size, row.grid, row.eigenvalues, row.residual, f"s{i % solvers}"
        )
        for i, row in enumerate(rows_of(residuals))
    ]
    shuffled = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
    chosen = report.sample(rows, limit)
    assert chosen == report.sample(shuffled, limit)
    assert len(chosen.ids) == min(limit, len(rows))
    assert list(chosen.ids) == sorted(set(chosen.ids))


def test_memory_of_a_strip_does_not_grow_with_the_number_of_pairs():
    """One plane and one mask at a time: a photo of 24 megapixels with K = 48 took 6 GB."""
    size, k = (1500, 2000), 24
    pairs = pairs_of(size=size, grid=(15, 20), k=k)
    image = np.zeros((*size, 3), np.uint8)
    tracemalloc.start()
    try:
        strip = report.photo_strip("a", image, pairs, each_mask(pairs))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(strip.masks) == k
    assert peak < 40 * size[0] * size[1], f"{peak / 1e6:.0f} MB"  # 24 planes would be 96 a pixel
