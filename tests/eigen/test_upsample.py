import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import SettingError
from eigen.pairs import Cells
from eigen.upsample import guided_filter, upsample


def interpolated(vector, size, side):
    """Bilinear interpolation written out: cell centres, nearest cell beyond the outermost ones."""

    def weights(n, cells):
        at = np.clip((np.arange(n) + 0.5) / side - 0.5, 0, cells - 1)
        return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(cells)))

    return weights(size[0], vector.shape[0]) @ vector @ weights(size[1], vector.shape[1]).T


@settings(max_examples=40)
@given(
    side=st.integers(1, 20),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    seed=st.integers(0, 99),
)
def test_bilinear_is_interpolation_between_cell_centres(side, height, width, seed):
    grid = max(1, height // side), max(1, width // side)
    vectors = np.random.default_rng(seed).normal(size=(2, *grid)).astype(np.float32)
    pixels = upsample(vectors, (height, width), cells=Cells.of_patches(side))
    assert pixels.shape == (2, height, width)
    assert pixels.dtype == np.float32
    for vector, plane in zip(vectors, pixels, strict=True):
        np.testing.assert_allclose(plane, interpolated(vector, (height, width), side), atol=2e-5)


@pytest.mark.parametrize("side", [8, 14, 16])
@pytest.mark.parametrize("size", [(375, 500), (333, 500), (480, 640), (500, 281)])
def test_side_is_inferred_on_images(size, side):
    grid = size[0] // side, size[1] // side
    assert Cells.inferred(size, grid) == Cells.of_patches(side)


def test_side_of_small_and_of_stretched_grids():
    assert Cells.inferred((5, 40), (1, 2)) == Cells(20, 20)  # an image lower than a patch
    assert Cells.inferred((375, 500), (375, 500)) == Cells(1, 1)
    halved = Cells.inferred((375, 500), (188, 250))  # half of an odd size, rounded up
    assert halved == Cells.over((375, 500), (188, 250)) == Cells(375 / 188, 2)
    assert Cells.inferred((3, 3), (4, 4)) == Cells(0.75, 0.75)


def test_stretched_grid_covers_the_image():
    ramp = np.linspace(-1, 1, 188, dtype=np.float32)[None, :, None].repeat(250, axis=2)
    pixels = upsample(ramp, (375, 500))
    np.testing.assert_allclose(pixels, -pixels[:, ::-1], atol=1e-5)


def test_strip_beyond_the_patches_repeats_the_last_cell():
    vectors = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    pixels = upsample(vectors, (37, 55), cells=Cells.of_patches(16))
    np.testing.assert_array_equal(pixels[:, 32:], pixels[:, 31:32].repeat(5, axis=1))
    np.testing.assert_array_equal(pixels[:, :, 48:], pixels[:, :, 47:48].repeat(7, axis=2))


def two_colours(size=(64, 96), border=53):
    image = np.full((*size, 3), (200, 60, 30), np.uint8)
    image[:, border:] = (20, 90, 160)
    return image


def test_guided_borders_follow_the_image():
    image, border = two_colours(), 53
    cells = np.where(np.arange(6) < 3, 1.0, -1.0).astype(np.float32)  # changes sign at pixel 48
    vectors = np.broadcast_to(cells, (1, 4, 6)).copy()
    soft = upsample(vectors, (64, 96), cells=Cells.of_patches(16))[0]
    sharp = upsample(vectors, (64, 96), cells=Cells.of_patches(16), method="guided", image=image)[0]
    step = np.abs(np.diff(sharp, axis=1))
    assert (step.argmax(axis=1) == border - 1).all()
    assert step.max() > 4 * np.abs(np.diff(soft, axis=1)).max()


def test_guided_filter_keeps_constants_and_affine_functions_of_colour():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    planes = np.stack([np.full((20, 30), 0.7), image @ [0.2, -0.5, 0.1] / 255]).astype(np.float32)
    filtered = guided_filter(image, planes, radius=4, epsilon=1e-9)
    np.testing.assert_allclose(filtered, planes, atol=1e-5)


def test_guided_filter_on_a_flat_image_is_two_box_filters():
    planes = np.random.default_rng(0).normal(size=(1, 24, 31)).astype(np.float32)
    filtered = guided_filter(np.full((24, 31, 3), 128, np.uint8), planes, radius=2)
    box = cv2.blur(cv2.blur(planes[0], (5, 5), borderType=cv2.BORDER_REPLICATE), (5, 5),
                   borderType=cv2.BORDER_REPLICATE)  # fmt: skip
    np.testing.assert_allclose(filtered[0], box, atol=1e-6)


def test_refusals_name_the_argument():
    vectors = np.zeros((1, 4, 6), np.float32)
    with pytest.raises(SettingError, match=r"method: expected one of bilinear, guided"):
        upsample(vectors, (64, 96), method="bicubic")
    with pytest.raises(SettingError, match=r"image: .*\(64, 96, 3\), found none"):
        upsample(vectors, (64, 96), method="guided")
    with pytest.raises(SettingError, match=r"found shape \(32, 96, 3\)"):
        upsample(vectors, (64, 96), method="guided", image=np.zeros((32, 96, 3), np.uint8))
    with pytest.raises(SettingError, match=r"vectors: expected shape \(K, h, w\)"):
        upsample(vectors[0], (64, 96))
