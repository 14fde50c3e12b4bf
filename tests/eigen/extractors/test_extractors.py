"""The contract of an extractor, checked on every built-in one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from data.errors import SettingError
from eigen.extractors import Extractor, extractor, lowlevel

WEIGHT_FREE = ["lowlevel", "lowlevel8"]


@pytest.fixture
def photo() -> np.ndarray:
    """(75, 101, 3): two textured halves under a gradient."""
    rng = np.random.default_rng(3)
    photo = rng.integers(0, 60, (75, 101, 3))
    photo[:, 50:] += np.uint8([120, 40, 0])
    return (photo + np.arange(75)[:, None, None]).astype(np.uint8)


@pytest.mark.parametrize("name", WEIGHT_FREE)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 5), (16, 16), (33, 70)])
def test_any_size_gives_finite_unit_rows_in_the_grids_order(name: str, size: tuple[int, int]):
    made = extractor(name)
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    h, w = made.grid(size)
    assert (h, w) == (max(1, size[0] // made.patch), max(1, size[1] // made.patch))
    features = made(images)
    assert features.shape == (2, h * w, made.dim) and features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=2), 1, atol=1e-6)


@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_flat_image_has_unit_rows(value: int):
    features = extractor("lowlevel")([np.full((64, 96, 3), value, np.uint8)])
    np.testing.assert_allclose(np.linalg.norm(features, axis=2), 1, atol=1e-6)


def test_the_strip_beyond_the_last_whole_patch_is_ignored(photo: np.ndarray):
    changed = photo.copy()
    changed[64:], changed[:, 96:] = 0, 255
    made = extractor("lowlevel")
    np.testing.assert_array_equal(made([photo]), made([changed]))


def test_bytes_do_not_depend_on_the_batch_or_on_opencvs_threads(photo: np.ndarray):
    made, threads = extractor("lowlevel"), cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        alone = made([photo])[0]
        cv2.setNumThreads(4)
        np.testing.assert_array_equal(made([photo[::-1], photo])[1], alone)
    finally:
        cv2.setNumThreads(threads)


def test_patches_of_one_half_resemble_each_other_and_not_the_other_half(photo: np.ndarray):
    made = extractor("lowlevel8")
    h, w = made.grid(photo.shape[:2])
    cosine = np.einsum("nd,md->nm", *(made([photo])[0],) * 2)
    left = (np.arange(h * w) % w) < 6
    assert cosine[left][:, left].mean() > 0.2 > 0 > cosine[left][:, ~left].mean()


@pytest.mark.parametrize(
    ("rgb", "lab"),  # CIE L*, a*, b* under D65
    [((255, 0, 0), (53.2, 80.1, 67.2)), ((0, 0, 255), (32.3, 79.2, -107.9))],
)
def test_colours_are_compared_in_lab(rgb: tuple[int, int, int], lab: tuple[float, float, float]):
    flat = np.full((32, 48, 3), rgb, np.uint8)
    described = lowlevel.described(flat, 16)
    widths = (lowlevel.WIDTH_LIGHTNESS, lowlevel.WIDTH_CHROMA, lowlevel.WIDTH_CHROMA)
    expected = np.array(lab) / widths
    offsets = np.array([0, 128, 128]) / widths  # 8-bit Lab has its zero of a* and b* at 128
    np.testing.assert_allclose(described["colour"], [expected + offsets] * 6, atol=0.05)
    assert not described["spread"].any()


def test_gradients_tell_stripes_by_their_direction_and_not_by_their_sign():
    wave = np.uint8(127 + 100 * np.sin(np.arange(64) * np.pi / 4))
    upright = np.broadcast_to(wave[None, :, None], (64, 64, 3))
    ways = (upright, upright[:, ::-1], upright.transpose(1, 0, 2))
    stripes, mirrored, lying = (lowlevel.described(way, 16)["gradients"][5, :5] for way in ways)
    np.testing.assert_allclose(stripes, mirrored, atol=0.02)
    strength, cos2, sin2, cos4, sin4 = stripes  # of the first scale
    assert cos2 > 0.9 and cos4 > 0.9 and abs(sin2) < 0.01 and abs(sin4) < 0.01
    np.testing.assert_allclose(lying, [strength, -cos2, sin2, cos4, sin4], atol=0.02)


def test_every_built_in_extractor_satisfies_the_type():
    assert all(isinstance(extractor(name), Extractor) for name in WEIGHT_FREE)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([], "expected one or more"),
        ([np.zeros((4, 4), np.uint8)], r"image 0: expected \(H, W, 3\) uint8, found \(4, 4\)"),
        ([np.zeros((4, 4, 3), np.float32)], "float32"),
        ([np.zeros((0, 4, 3), np.uint8)], "found"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)], "found 2"),
    ],
)
def test_anything_but_a_batch_of_images_is_refused(images: list[np.ndarray], said: str):
    with pytest.raises(SettingError, match=said):
        extractor("lowlevel")(images)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("lowlevle", {}, "did you mean 'lowlevel'"),
        ("lowlevel", {"weights": "x.pth"}, "has no weights"),
        ("lowlevel", {"facet": "token"}, "has no facet"),
        ("lowlevel", {"block": 3}, "has no block"),
        ("lowlevel", {"autocast": "bf16"}, "has no autocast"),
    ],
)
def test_invalid_settings_are_named(name: str, options: dict, said: str):
    with pytest.raises(SettingError, match=said):
        extractor(name, **options)
