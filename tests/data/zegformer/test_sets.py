"""Images and label maps read together: what does not fit is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ExifTags, Image

from data.errors import DatasetError, ImageError
from data.zegformer.sets import Pair, read_pair

WIDE, SQUARE = (30, 20), (20, 20)  # Pillow's (width, height)


def pair_of(folder, size, orientation, label_shape, value=0) -> Pair:
    exif = Image.Exif()
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    pair = Pair("a", folder / "a.jpg", folder / "a.png")
    Image.new("RGB", size).save(pair.image, exif=exif)
    Image.fromarray(np.full(label_shape, value, np.uint8)).save(pair.label)
    return pair


@pytest.mark.parametrize(
    ("size", "orientation", "shape"),
    [(WIDE, None, (20, 30)), (WIDE, 1, (20, 30)), (WIDE, 6, (30, 20)), (SQUARE, None, (20, 20))],
)
def test_a_label_that_fits_the_upright_image_is_read(tmp_path, size, orientation, shape):
    image, label = read_pair(pair_of(tmp_path, size, orientation, shape), classes=1, ignore=255)
    assert image.shape[:2] == label.shape == shape


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_label_of_the_image_before_turning_is_refused(tmp_path, orientation):
    pair = pair_of(tmp_path, WIDE, orientation, (20, 30))
    with pytest.raises(ImageError, match=rf"a\.png: expected .*EXIF orientation {orientation}"):
        read_pair(pair, classes=1, ignore=255)


@pytest.mark.parametrize(
    ("size", "orientation"), [(WIDE, 2), (WIDE, 3), (WIDE, 4), *((SQUARE, n) for n in range(2, 9))]
)
def test_where_sizes_cannot_tell_a_turned_image_is_refused(tmp_path, size, orientation):
    pair = pair_of(tmp_path, size, orientation, size[::-1])
    with pytest.raises(ImageError, match=rf"a\.jpg: has EXIF orientation {orientation}"):
        read_pair(pair, classes=1, ignore=255)


@pytest.mark.parametrize("shape", [(20, 29), (10, 15), (30, 20)])
def test_a_label_of_another_size_is_refused(tmp_path, shape):
    with pytest.raises(ImageError, match=r"expected the size of its image, \(20, 30\), found "):
        read_pair(pair_of(tmp_path, WIDE, None, shape), classes=1, ignore=255)


def test_a_label_of_another_vocabulary_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="has class 3, expected 0 to 2"):
        read_pair(pair_of(tmp_path, WIDE, None, (20, 30), value=3), classes=3, ignore=255)
    read_pair(pair_of(tmp_path, WIDE, None, (20, 30), value=255), classes=3, ignore=255)
