"""Masks as PNG files: what any reader finds in them."""

import io
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from data.errors import SettingError
from data.png import MaskEncoder, mask_origin, write_mask


def masks():
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (1, 9), (9, 1), (37, 53), (480, 640)):
        yield np.zeros(shape, bool)
        yield np.ones(shape, bool)
        yield rng.random(shape) > 0.5
        yield (np.add.outer(*map(np.arange, shape)) // 7 % 2).astype(bool)


def test_readers_find_0_and_255_in_one_channel():
    encode = MaskEncoder()
    for mask in masks():
        data = encode(mask, {"run": "x"})
        picture = Image.open(io.BytesIO(data))
        assert picture.mode == "L"
        picture.verify()
        expected = mask.astype(np.uint8) * 255
        assert np.array_equal(np.array(Image.open(io.BytesIO(data))), expected)
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(found.reshape(expected.shape), expected)


def test_the_compressed_bytes_are_those_of_zlib():
    """So that masks of earlier releases are the same files."""
    for mask in masks():
        data = MaskEncoder()(mask)
        start = data.index(b"IDAT") + 4
        stream = data[start : start + int.from_bytes(data[start - 8 : start - 4], "big")]
        encoder = zlib.compressobj(1, strategy=zlib.Z_RLE)
        assert stream == encoder.compress(zlib.decompress(stream)) + encoder.flush()


@pytest.mark.parametrize("mask", [np.zeros((4, 4)), np.zeros(4, bool), np.zeros((0, 4), bool)])
def test_what_is_no_mask_is_refused(mask, tmp_path):
    with pytest.raises(SettingError, match=r"expected .H, W. bool"):
        write_mask(tmp_path / "a.png", mask)
    assert not list(tmp_path.iterdir())


def test_a_mask_says_what_it_was_made_of(tmp_path):
    write_mask(tmp_path / "a.png", np.eye(4, dtype=bool), {"vector": 1})
    assert mask_origin(tmp_path / "a.png") == {"vector": 1}
