"""Masks of a folder in any encoding; other files are refused by name."""

import numpy as np
import pytest
from PIL import Image

from data.errors import ImageError, ShardError
from data.png import write_mask
from eigen.store.maps import EigenFolder

TRUTH = np.random.default_rng(0).random((12, 17)) > 0.6


def palette(values):
    image = Image.fromarray(values.astype(np.uint8), "L").convert("P")
    image.putpalette([n for n in range(256) for _ in range(3)])
    return image


ENCODINGS = {
    "0 and 255": Image.fromarray(TRUTH.astype(np.uint8) * np.uint8(255)),
    "0 and 1": Image.fromarray(TRUTH.astype(np.uint8)),
    "0 and 250": Image.fromarray(TRUTH.astype(np.uint8) * np.uint8(250)),
    "3 and 7": Image.fromarray(np.where(TRUTH, 7, 3).astype(np.uint8)),
    "1 bit": Image.fromarray(TRUTH),
    "palette": palette(TRUTH),
    "16 bit": Image.fromarray(TRUTH.astype(np.uint16) * np.uint16(65535)),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_two_values_are_a_mask(tmp_path, encoding):
    ENCODINGS[encoding].save(tmp_path / "a_k0.png")
    found = EigenFolder(tmp_path).maps("a", TRUTH.shape).masks
    np.testing.assert_array_equal(found[0], TRUTH)


@pytest.mark.parametrize(("value", "expected"), [(0, False), (1, True), (255, True)])
def test_one_value_is_all_or_nothing(tmp_path, value, expected):
    Image.fromarray(np.full(TRUTH.shape, value, np.uint8)).save(tmp_path / "a_k0.png")
    assert (EigenFolder(tmp_path).maps("a", TRUTH.shape).masks == expected).all()


def test_three_values_and_colours_are_no_mask(tmp_path):
    values = TRUTH.astype(np.uint8) * np.uint8(255)
    values[0, 0] = 128
    Image.fromarray(values).save(tmp_path / "a_k0.png")
    Image.fromarray(np.zeros((*TRUTH.shape, 3), np.uint8)).save(tmp_path / "b_k0.png")
    folder = EigenFolder(tmp_path)
    with pytest.raises(ShardError, match=r"a_k0.png: expected a mask of two values, found 0, 128"):
        folder.maps("a", TRUTH.shape)
    with pytest.raises(ImageError, match=r"b_k0.png: is not a label map"):
        folder.maps("b", TRUTH.shape)


@pytest.mark.parametrize("stray", ["a_k5.png", "a_k7.png", "zz_k9.png", ".c_k0.png", "c_k00.png"])
def test_a_stray_mask_makes_no_other_missing(tmp_path, stray):
    for id in ("a", "b", "c_d"):
        for k in range(5):
            write_mask(tmp_path / f"{id}_k{k}.png", TRUTH)
    write_mask(tmp_path / stray, TRUTH)
    folder = EigenFolder(tmp_path)
    assert folder.missing(["a", "b", "c_d"]) == []
    assert len(folder.maps("b", TRUTH.shape).masks) == 5


def test_indices_are_required_not_a_count(tmp_path):
    for id in ("a", "b", "c"):
        for k in range(5):
            write_mask(tmp_path / f"{id}_k{k}.png", TRUTH)
    (tmp_path / "b_k2.png").rename(tmp_path / "b_k5.png")
    assert EigenFolder(tmp_path).missing(["a", "b", "c"]) == ["b"]
