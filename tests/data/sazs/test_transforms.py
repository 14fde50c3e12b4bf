"""SAZS' augmentations: each step by itself, and the whole from one generator."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data.errors import DatasetError
from data.pictures import IGNORE
from data.sazs.transforms import augment, cropped, scaled, turned


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 256, (12, 15, 3)), np.ones((6, 6, 1), int)).astype(np.uint8)
    labels = np.kron(rng.integers(0, 21, (12, 15)), np.ones((6, 6), int)).astype(np.uint8)
    return image, labels


def turned_as_published(image, labels, angle):
    """A whole height and width of mirror on each side, then turn, then cut the window."""
    height, width = labels.shape
    rows = [*range(height - 1, 0, -1), *range(height), *range(height - 1, -1, -1)]
    columns = [*range(width - 1, 0, -1), *range(width), *range(width - 1, -1, -1)]
    # The published code adds the one missing row and column in a second round.
    rows, columns = [rows[0], *rows], [columns[0], *columns]
    window = (width, height, 2 * width, 2 * height)
    padded = Image.fromarray(image[np.ix_(rows, columns)])
    around = ((height, height), (width, width))
    padded_labels = Image.fromarray(np.pad(labels, around, constant_values=255))
    turned_image = padded.rotate(angle, Image.Resampling.BILINEAR).crop(window)
    return np.array(turned_image), np.array(
        padded_labels.rotate(angle, Image.Resampling.NEAREST, fillcolor=255).crop(window)
    )


@pytest.mark.parametrize("angle", [-10, -3, 1, 7, 10])
def test_turning_with_little_mirror_equals_the_whole(sample, angle):
    image, labels = turned(*sample, angle)
    expected_image, expected_labels = turned_as_published(*sample, angle)
    assert image.shape == sample[0].shape
    assert np.abs(image.astype(int) - expected_image).max() <= 1
    assert (labels != expected_labels).mean() < 0.002  # ties of the nearest pixel
    assert (labels == IGNORE).any() and not (image == 0).all(-1).any()


def test_no_turn_is_no_change(sample):
    image, labels = turned(*sample, 0)
    assert np.array_equal(image, sample[0]) and np.array_equal(labels, sample[1])


def test_scaling_filters_and_rounding(sample):
    image, labels = scaled(*sample, 0.55)
    assert image.shape == (39, 49, 3) and labels.shape == (39, 49)
    expected = Image.fromarray(sample[0]).resize((49, 39), Image.Resampling.LANCZOS)
    assert np.array_equal(image, expected)
    image, labels = scaled(*sample, 1.6)
    expected = Image.fromarray(sample[0]).resize((144, 115), Image.Resampling.BICUBIC)
    assert np.array_equal(image, expected)
    assert set(np.unique(labels)) <= set(np.unique(sample[1]))
    assert scaled(*sample, 0.001)[1].shape == (1, 1)


def test_cropping_pads_right_and_bottom(sample):
    image, labels = cropped(*sample, 100, np.random.default_rng(0))
    assert image.shape == (100, 100, 3) and labels.shape == (100, 100)
    assert np.array_equal(image[:72, :90], sample[0]) and np.array_equal(
        labels[:72, :90], sample[1]
    )
    assert not image[72:].any() and not image[:, 90:].any()
    assert (labels[72:] == IGNORE).all() and (labels[:, 90:] == IGNORE).all()


def test_cropping_reaches_every_place(sample):
    rng = np.random.default_rng(1)
    marked = np.arange(72 * 90, dtype=np.uint32).reshape(72, 90)
    corners = {cropped(sample[0], marked, 70, rng)[1][0, 0] for _ in range(600)}
    assert corners == {row * 90 + column for row in range(3) for column in range(21)}


@given(st.integers(0, 1000), st.integers(1, 80), st.integers(1, 80))
def test_image_and_labels_stay_together(seed, height, width):
    """Labels that equal the red channel still do, but for interpolation at their borders."""
    labels = np.full((height, width), 100, np.uint8)
    labels[: height // 2] = 50
    image = np.repeat(labels[..., None], 3, axis=2)
    out, out_labels = augment(image, labels, np.random.default_rng(seed), crop=48)
    assert out.shape == (48, 48, 3) and out_labels.shape == (48, 48)
    assert out.dtype == out_labels.dtype == np.uint8
    assert set(np.unique(out_labels)) <= {50, 100, IGNORE}
    if height >= 40 and width >= 40:
        kept = out_labels != IGNORE
        assert (np.abs(out[kept][:, 0].astype(int) - out_labels[kept]) > 12).mean() < 0.12


def test_one_seed_one_sample(sample):
    first = augment(*sample, np.random.default_rng(5), crop=64)
    again = augment(*sample, np.random.default_rng(5), crop=64)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    others = [augment(*sample, np.random.default_rng(seed), crop=64)[0] for seed in range(8)]
    assert len({other.tobytes() for other in others}) == 8


def test_switched_off_steps_leave_crop_and_mirror(sample):
    columns = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        image, _ = augment(*sample, rng, crop=72, scale=0, rotate=0)
        mirrored = image[:, ::-1]
        starts = [x for x in range(19) if np.array_equal(image, sample[0][:, x : x + 72])]
        mirrored_starts = [
            x for x in range(19) if np.array_equal(mirrored, sample[0][:, x : x + 72])
        ]
        assert len(starts) + len(mirrored_starts) == 1
        columns.add(bool(starts))
    assert columns == {True, False}


def test_a_label_map_of_another_size_is_refused(sample):
    with pytest.raises(DatasetError, match=r"image's size \(72, 90\), found \(70, 90\)"):
        augment(sample[0], sample[1][:70], np.random.default_rng(0))
