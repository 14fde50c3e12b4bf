import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import SettingError
from eigen.masks import each_mask, largest_component, masks, otsu_threshold
from eigen.pairs import Cells, Eigenpairs


def pairs_of(vectors, size, cells=None):
    vectors = np.asarray(vectors, np.float32)
    cells = cells or Cells.over(size, vectors.shape[1:])
    k = len(vectors)
    return Eigenpairs(np.linspace(0, 1, k), vectors, np.zeros(k, np.float32), "made", size, cells)


def quadrants():
    """Constant, left against right, top against bottom; 8 x 8 cells of 4 pixels, 3 left over."""
    side = np.where(np.arange(8) < 4, 1.0, -1.0)
    vectors = [np.full((8, 8), -1.0), np.tile(side, (8, 1)), np.tile(side, (8, 1)).T]
    return pairs_of(vectors, (35, 35), Cells.of_patches(4))


def test_zero_is_the_sign_of_the_vector_at_native_size():
    found = masks(quadrants())
    assert found.shape == (3, 35, 35)
    assert found.dtype == bool
    assert not found[0].any()
    left = np.arange(35) < 16
    np.testing.assert_array_equal(found[1], np.tile(left, (35, 1)))
    np.testing.assert_array_equal(found[2], np.tile(left, (35, 1)).T)


def test_other_size():
    found = masks(quadrants(), (70, 70))
    np.testing.assert_array_equal(found[1][0], np.arange(70) < 32)


def test_kmeans_is_a_partition_with_the_frame_first():
    square = -np.ones((12, 12))
    square[4:9, 4:9] = 2.0
    spot = np.zeros((12, 12))
    spot[5:7, 5:7] = 3.0
    found = masks(pairs_of([np.ones((12, 12)), square, spot], (96, 96)), method="kmeans")
    np.testing.assert_array_equal(found.sum(0), np.ones((96, 96)))
    assert found[0, 0].all()
    assert found[0].sum() > found[1].sum() > found[2].sum() > 0
    assert found[2, 48, 48]


@pytest.mark.parametrize("method", ["zero", "otsu", "kmeans", "components"])
@pytest.mark.parametrize("grid", [(1, 1), (1, 5), (4, 4)])
def test_flat_vectors_give_masks_of_the_right_shape(method, grid):
    found = masks(pairs_of(np.full((3, *grid), -0.5), (17, 40)), method=method)
    assert found.shape == (3, 17, 40)
    if method == "kmeans":
        assert found[0].all()
    else:
        assert not found.any()


@pytest.mark.parametrize("method", ["zero", "otsu", "kmeans", "components"])
def test_same_bytes_whatever_the_global_generator(method):
    vectors = np.random.default_rng(0).normal(size=(4, 9, 11))
    np.random.seed(1)  # noqa: NPY002
    first = masks(pairs_of(vectors, (90, 110)), method=method)
    np.random.seed(2)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert first.tobytes() == masks(pairs_of(vectors, (90, 110)), method=method).tobytes()
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


@settings(max_examples=60)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=12))
def test_otsu_leaves_the_least_variance_within_the_groups(values):
    values = np.array(values, np.float64)

    def within(threshold):
        groups = values[values <= threshold], values[values > threshold]
        return sum(((g - g.mean()) ** 2).sum() for g in groups if len(g))

    best = min(within(threshold) for threshold in values)
    assert within(otsu_threshold(values)) == pytest.approx(best, abs=1e-9)


def test_otsu_finds_a_small_object_that_zero_loses():
    vector = np.full((10, 10), 0.2)
    vector[4:6, 4:6] = 1.0
    pairs = pairs_of([vector], (10, 10))
    assert masks(pairs).all()
    np.testing.assert_array_equal(masks(pairs, method="otsu")[0], vector == 1.0)


def test_largest_component():
    mask = np.zeros((6, 9), bool)
    mask[0, 1:3] = mask[3:5, 5:8] = True
    mask[2, 4] = True  # touches the large piece by a corner only
    large = np.zeros_like(mask)
    large[3:5, 5:8] = True
    np.testing.assert_array_equal(largest_component(mask), large)
    assert not largest_component(np.zeros((3, 3), bool)).any()
    assert largest_component(np.ones((3, 3), bool)).all()


def test_largest_component_of_equals_is_the_first_in_row_order():
    mask = np.array([[0, 0, 0, 0, 1], [1, 0, 0, 0, 1], [1, 0, 0, 0, 0]], bool)
    assert largest_component(mask)[0, 4]
    assert largest_component(mask).sum() == 2


def test_components_follow_each_vector():
    pairs = quadrants()
    np.testing.assert_array_equal(masks(pairs, method="components"), masks(pairs))


def test_unknown_method():
    with pytest.raises(SettingError, match=r"expected one of zero, otsu, .*'median'"):
        masks(quadrants(), method="median")


@pytest.mark.parametrize("method", ["zero", "otsu", "components"])
def test_memory_does_not_grow_with_the_number_of_vectors(method):
    vectors = np.random.default_rng(0).standard_normal((24, 20, 30))
    pairs = pairs_of(vectors, (600, 900))
    plane = 600 * 900 * 4
    tracemalloc.start()
    for mask in each_mask(pairs, method=method):
        assert mask.shape == (600, 900)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (15 if method == "otsu" else 6) * plane  # 24 planes and their masks: 30


def test_kmeans_and_the_guided_filter_are_the_same_in_strips(monkeypatch):
    vectors = np.random.default_rng(0).standard_normal((4, 6, 8))
    image = np.random.default_rng(1).integers(0, 256, (90, 121, 3), dtype=np.uint8)
    pairs = pairs_of(vectors, (90, 121))
    whole = masks(pairs, method="kmeans"), masks(pairs, upsampling="guided", image=image)
    monkeypatch.setattr("eigen.masks.STRIP_BYTES", 121 * 4 * 4 * 7)
    monkeypatch.setattr("eigen.upsample.BAND_PIXELS", 121 * 7)
    np.testing.assert_array_equal(masks(pairs, method="kmeans"), whole[0])
    np.testing.assert_array_equal(masks(pairs, upsampling="guided", image=image), whole[1])
