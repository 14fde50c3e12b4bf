import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from eigen.graphs.colour import knn_affinity, nearest, random_walk_affinity, resize_for_grid

GOLDEN = Path(__file__).parents[2] / "golden" / "spectral.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN, allow_pickle=False) as file:
        return dict(file)


def colours_of_the_golden_photo(golden, shrink):
    from skimage import data

    grid = json.loads(str(golden["info"]))["grid"]
    return resize_for_grid(data.chelsea(), (grid[0] * shrink, grid[1] * shrink))


def test_grid_colours_are_the_published_ones(golden):
    colours = colours_of_the_golden_photo(golden, 1)
    np.testing.assert_array_equal(np.rint(colours * 255), golden["image_lr"])


@pytest.mark.parametrize("shrink, suffix", [(1, ""), (2, "_down8")])
@pytest.mark.parametrize("kind", ["knn", "rw"])
def test_published_figures(golden, kind, shrink, suffix):
    colours = colours_of_the_golden_photo(golden, shrink)
    affinity = {"knn": knn_affinity, "rw": random_walk_affinity}[kind](colours)
    assert affinity.dtype == np.float32
    exact = affinity.astype(np.float64)
    n = affinity.shape[0]
    figures = {
        "nnz": affinity.nnz,
        "sum": exact.sum(),
        "rowsum": exact.sum(1)[::25],
        "rowsum_sq": (exact.sum(1) ** 2).sum(),
        "diag_sum": exact.diagonal().sum(),
        "asymmetry": abs(exact - exact.T).max(),
        "max": exact.max(),
        "probe": (exact @ np.cos(7 * np.arange(n) / n))[::25],
    }
    # Another k-d tree breaks ties in distance otherwise: two nodes of the larger grid.
    loose = {"nnz": 4, "rowsum": 1.0, "rowsum_sq": 20.0, "probe": 1.0}
    for name, ours in figures.items():
        allowed = loose.get(name, 0) if kind == "knn" and suffix else 0
        theirs = golden[f"{kind}{suffix}.{name}"]
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=allowed + 1e-6, err_msg=name)


pictures = arrays.arrays(
    np.uint8,
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3)),
    elements=st.integers(0, 3),
)


@settings(max_examples=60)
@given(pictures)
@pytest.mark.parametrize("affinity_of", [knn_affinity, random_walk_affinity])
def test_contract_on_any_image(affinity_of, picture):
    affinity = affinity_of(picture / 3)
    n = picture.shape[0] * picture.shape[1]
    assert affinity.shape == (n, n)
    assert abs(affinity - affinity.T).max() == 0
    assert affinity.data.min() >= 0
    assert (affinity.diagonal() > 0).all()


@settings(max_examples=30)
@given(arrays.arrays(np.float64, (20, 2), elements=st.integers(-2, 2)), st.integers(1, 25))
def test_nearest_is_the_k_least_distances(points, k):
    found = nearest(points, k)
    assert found.shape == (20, min(k, 20))
    distance = np.linalg.norm(points[:, None] - points, axis=2)
    np.testing.assert_allclose(
        np.take_along_axis(distance, found, axis=1), np.sort(distance)[:, : found.shape[1]]
    )


def test_ties_go_to_the_lowest_index():
    points = np.array([[0.0], [1.0], [-1.0], [1.0], [-1.0]])
    np.testing.assert_array_equal(nearest(points, 3)[0], [0, 1, 2])


def test_neighbours_by_hand():
    colours = np.array([[0.0, 0.0, 1.0]])[..., None].repeat(3, axis=2)
    affinity = knn_affinity(colours, neighbours=(2,), position_weight=(1.0,)).toarray()
    # The first two are each other's nearest; the third's is the second.
    np.testing.assert_array_equal(affinity, [[2, 2, 0], [2, 2, 1], [0, 1, 2]])


def test_random_walk_by_hand():
    colours = np.array([[0.0, 0.1]])[..., None].repeat(3, axis=2)
    affinity = random_walk_affinity(colours).toarray()
    # Of the nine cells round each, the two rows beyond the frame and one column fall on it.
    pair = np.exp(-900 * 0.03)
    np.testing.assert_allclose(affinity, [[6, 3 * pair], [3 * pair, 6]], rtol=1e-6)
