"""Pictures of arrays: colours that mean what they say, drawings that stay inside the picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import SettingError
from eval import figures


def test_zero_is_the_neutral_middle_and_the_signs_are_mirror_colours():
    row = figures.vector_rgb(np.array([[-1.0, 0.0, 1.0]]), limit=1.0)[0].astype(int)
    assert np.ptp(row[1]) <= 2, "zero has a hue"
    assert row[0][2] > row[0][0], "negative is not blue"
    assert row[2][0] > row[2][2], "positive is not red"


def test_one_outlier_does_not_wash_out_the_rest():
    vector = np.full((20, 20), 0.01)
    vector[:, :10] = -0.01
    vector[0, 0] = 50.0
    picture = figures.vector_rgb(vector).astype(int)
    assert abs(picture[5, 5] - picture[5, 15]).sum() > 200


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e6])
def test_colours_do_not_depend_on_the_scale(scale):
    vector = np.random.default_rng(0).normal(size=(9, 7))
    assert np.array_equal(figures.vector_rgb(vector), figures.vector_rgb(vector * scale))


def test_vector_on_a_single_node_is_still_seen():
    vector = np.zeros((20, 20))
    vector[3, 4] = 1.0
    picture = figures.vector_rgb(vector).astype(int)
    assert abs(picture[3, 4] - picture[0, 0]).sum() > 200


def test_missing_entries_are_grey_and_zero_vectors_neutral():
    vector = np.zeros((2, 2), np.float32)
    vector[0, 0] = np.nan
    picture = figures.vector_rgb(vector)
    assert tuple(picture[0, 0]) == figures.MISSING
    assert tuple(picture[1, 1]) != figures.MISSING
    assert (figures.vector_rgb(np.full((2, 2), np.nan)) == 128).all()


def test_size_interpolates_the_values():
    picture = figures.vector_rgb(np.array([[-1.0, 1.0]]), size=(4, 40), limit=1.0)
    assert picture.shape == (4, 40, 3)
    assert len(np.unique(picture[0], axis=0)) > 10


def test_label_colours_are_those_of_the_voc_development_kit():
    published = {0: (0, 0, 0), 1: (128, 0, 0), 8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    assert {label: figures.label_colour(label) for label in published} == published
    assert tuple(figures.label_rgb(np.array([[255]]))[0, 0]) == figures.VOID


@given(st.sets(st.integers(0, 2**16), min_size=2, max_size=50))
def test_different_labels_have_different_colours(labels):
    colours = figures.label_rgb(np.array([sorted(labels)]), ignore=None)[0]
    assert len(np.unique(colours, axis=0)) == len(labels)


def test_outlines_colour_the_border_and_leave_inside_and_input_alone():
    image = np.full((40, 40, 3), 200, np.uint8)
    mask = np.zeros((1, 40, 40), bool)
    mask[0, 10:30, 10:30] = True
    drawn = figures.outlines(image, mask, colours=[(255, 0, 0)])
    assert (image == 200).all()
    assert tuple(drawn[10, 20]) == (255, 0, 0)
    assert tuple(drawn[20, 20]) == tuple(drawn[2, 2]) == (200, 200, 200)


def test_outlines_leave_out_the_frame_of_the_picture():
    image = np.full((20, 20, 3), 200, np.uint8)
    masks = np.ones((2, 20, 20), bool)
    masks[1, :, 10:] = False
    drawn = figures.outlines(image, masks, colours=[(255, 0, 0), (0, 0, 255)])
    assert (drawn[:, 9] == (0, 0, 255)).all()
    assert (drawn[:, :8] == 200).all()
    assert (drawn[:, 12:] == 200).all()


def test_outlines_refuse_masks_of_another_size():
    with pytest.raises(SettingError, match=r"\(2, 5, 5\)"):
        figures.outlines(np.zeros((6, 5, 3), np.uint8), np.zeros((2, 5, 5), bool))


def test_overlay_leaves_background_and_ignored_pixels():
    image = np.full((30, 30, 3), 90, np.uint8)
    labels = np.zeros((30, 30), np.uint8)
    labels[:10], labels[20:] = 255, 3
    drawn = figures.label_overlay(image, labels, background=0, opacity=1.0)
    assert (drawn[:20] == 90).all()
    assert (drawn[20:] == figures.label_colour(3)).all()


def test_overlay_writes_the_name_inside_its_region():
    image = np.zeros((120, 200, 3), np.uint8)
    labels = np.full((120, 200), 255, np.uint8)
    labels[60:, 100:] = 1
    named = figures.label_overlay(image, labels, {1: "sofa"})
    changed = (named != figures.label_overlay(image, labels)).any(axis=2)
    assert changed[60:, 100:].any()
    assert not changed[:60].any()
    assert not changed[:, :100].any()


def test_overlay_does_not_name_specks():
    image = np.zeros((200, 300, 3), np.uint8)
    labels = np.full((200, 300), 2, np.uint8)
    labels[100:104, 100:105] = 1  # 20 of 60,000 pixels
    plain = figures.label_overlay(image, labels)
    assert np.array_equal(figures.label_overlay(image, labels, {1: "sofa"}), plain)
    assert not np.array_equal(figures.label_overlay(image, labels, {2: "cat"}), plain)


@pytest.mark.parametrize("size", [(60, 90), (900, 1200)])
def test_overlay_parts_classes_by_a_line(size):
    image = np.zeros((*size, 3), np.uint8)
    labels = np.ones(size, np.uint8)
    labels[:, size[1] // 2 :] = 2
    drawn = figures.label_overlay(image, labels, background=0)
    line = (drawn == 255).all(axis=2)
    assert line.any(axis=1).all()
    assert not line[:, : size[1] // 3].any() and not line[:, -size[1] // 3 :].any()
    labels[:, size[1] // 2 :] = 0  # the background has no border: the image shows what is there
    assert not (figures.label_overlay(image, labels, background=0) == 255).all(axis=2).any()


def test_agreement_tells_found_false_and_missed_apart():
    image = np.full((4, 4, 3), (200, 100, 0), np.uint8)
    truth, prediction, void = (np.zeros((4, 4), bool) for _ in range(3))
    truth[:2], prediction[:, :2], void[0] = True, True, True
    drawn = figures.agreement(image, truth, prediction, void, opacity=1.0)
    found, false, missed = figures.AGREEMENT.values()
    assert (drawn[1, :2] == found).all() and (drawn[2:, :2] == false).all()
    assert (drawn[1, 2:] == missed).all()
    assert len(np.unique(drawn[[0, 3], 2:])) == len(np.unique(drawn[0])) == 1, "grey elsewhere"
    with pytest.raises(SettingError, match=r"expected \(4, 4\)"):
        figures.agreement(image, truth[:2], prediction[:2])


@pytest.mark.parametrize("centre", [(0, 0), (199, 99), (-50, 400)])
def test_text_is_legible_on_any_ground_and_inside_the_picture(centre):
    for ground in (0, 255):
        image = np.full((100, 200, 3), ground, np.uint8)
        drawn = figures.draw_text(image, "Hündchen λ₂", centre)
        assert drawn.shape == image.shape
        ys, xs = np.nonzero((drawn != ground).any(axis=2))
        assert np.ptp(xs) > 40, "the text was cut"
        box = drawn[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].astype(int)
        assert box.max() - box.min() > 120


def test_mosaic_places_tiles_row_by_row():
    tiles = [np.full((4, 6, 3), 10 * k, np.uint8) for k in range(1, 6)]
    page = figures.mosaic(tiles, columns=3, gap=2)
    assert page.shape == (2 * 4 + 3 * 2, 3 * 6 + 4 * 2, 3)
    assert (page[2:6, 10:16] == 20).all()
    assert (page[8:12, 10:16] == 50).all()
    assert (page[8:12, 18:24] == 255).all()


def test_mosaic_keeps_captions_in_their_cell():
    tiles = [np.zeros((30, 60, 3), np.uint8)] * 2
    page = figures.mosaic(tiles, columns=2, captions=["a very long caption indeed", ""])
    assert (page[38:, 8:68] != 255).any()
    assert (page[38:, 76:136] == 255).all()


@pytest.mark.parametrize(
    ("tiles", "columns", "captions"),
    [([], 1, ()), ([0], 0, ()), ([0], 1, ("a", "b"))],
)
def test_mosaic_refuses_what_it_cannot_lay_out(tiles, columns, captions):
    tiles = [np.zeros((2, 2, 3), np.uint8) for _ in tiles]
    with pytest.raises(SettingError):
        figures.mosaic(tiles, columns=columns, captions=captions)
