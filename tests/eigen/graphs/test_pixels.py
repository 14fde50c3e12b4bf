import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.sparse.csgraph import connected_components

from data.errors import GraphError, SettingError
from eigen import extractor
from eigen.graphs import affinity
from eigen.graphs.pixels import EDGES_OF_A_LINK, FLOOR, PixelSpec, build
from eigen.solvers.problem import NormalizedProblem
from eigen.solvers.solve import solve
from eigen.solvers.spec import SolveSpec

LOWLEVEL = extractor("lowlevel8")


def graph_of(image, spec=None, features=None):
    grid = LOWLEVEL.grid(image.shape[:2])
    if features is None:
        features = LOWLEVEL([image])[0]
    return build(spec or PixelSpec(), features, grid, image)


def two_colours(height=40, width=56, border=31):
    image = np.full((height, width, 3), (180, 70, 40), np.uint8)
    image[:, border:] = (30, 90, 170)
    return image


pictures = arrays.arrays(
    np.uint8,
    st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3)),
    elements=st.sampled_from([0, 40, 255]),
)


@settings(max_examples=60)
@given(pictures, st.integers(1, 3), st.integers(0, 8))
def test_contract_on_any_image(picture, step, links):
    W, grid = graph_of(picture, PixelSpec(step=step, links=links))
    assert grid == (-(-picture.shape[0] // step), -(-picture.shape[1] // step))
    assert W.shape == (grid[0] * grid[1],) * 2
    assert W.dtype == np.float32
    assert abs(W - W.T).max() == 0
    assert W.nnz == 0 or W.data.min() > 0
    affinity.check(W, affinity.degrees(W))
    assert connected_components(W)[0] == 1


def test_neighbours_by_hand():
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 0] = 255  # white: 100 CIELAB units from black
    W = graph_of(image, PixelSpec(links=0, colour_width=100.0))[0].toarray()
    across, alike = np.exp(-0.5) + FLOOR, 1 + FLOOR
    expected = [[0, across, across, across]] + [
        [across] + [alike * (i != j) for j in range(3)] for i in range(3)
    ]
    np.testing.assert_allclose(W, expected, rtol=1e-3)


def test_features_cut_where_colours_do_not():
    image = np.full((32, 64, 3), 120, np.uint8)
    features = np.zeros((32, 2), np.float32)
    left = np.tile(np.arange(8) < 4, 4)
    features[left, 0] = features[~left, 1] = 1
    solution = solve(graph_of(image, features=features)[0], 2, grid=(32, 64))
    vector = solution.vectors[:, 1].reshape(32, 64)
    np.testing.assert_array_equal(np.sign(vector), np.sign(vector[:1, :1]) * np.tile(
        np.where(np.arange(64) < 32, 1, -1), (32, 1)))  # fmt: skip
    ignoring = solve(
        graph_of(image, PixelSpec(feature_power=0, links=0), features)[0], 2, grid=(32, 64)
    )
    gaps = [
        np.abs(np.diff(s.vectors[:, 1].reshape(32, 64)[16])).max() for s in (solution, ignoring)
    ]
    assert gaps[0] > 2 * gaps[1]


def test_vectors_change_at_the_border_of_the_object():
    W, grid = graph_of(two_colours())
    vector = solve(W, 2, grid=grid).vectors[:, 1].reshape(grid)
    step = np.abs(np.diff(vector, axis=1))
    assert (step.argmax(axis=1) == 30).all()
    assert step.max() > 10 * np.delete(step, 30, axis=1).max()


def test_links_join_parts_of_one_colour_that_are_apart():
    image = np.full((96, 192, 3), (60, 110, 60), np.uint8)
    image[40:46, 30:36] = image[40:46, 150:156] = (220, 60, 50)
    entries = graph_of(image, PixelSpec(links=16))[0].tocoo()
    reddish = (image[..., 0] == 220).ravel()
    column = entries.col % 192
    across = (np.abs(entries.row % 192 - column) > 90) & reddish[entries.col]
    assert across.sum() >= 2 * 9 * EDGES_OF_A_LINK / 2
    assert reddish[entries.row[across]].all()


def test_weight_of_the_links_does_not_depend_on_the_resolution():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (24, 36, 3), dtype=np.uint8)
    spec = PixelSpec(colour_width=1e6, feature_power=0)
    shares = []
    for scale in (1, 2, 8):
        image = small.repeat(scale, axis=0).repeat(scale, axis=1)
        features = LOWLEVEL([image])[0]
        grid = LOWLEVEL.grid(image.shape[:2])
        W = build(spec, features, grid, image)[0]
        alone = build(PixelSpec(**{**vars(spec), "links": 0}), features, grid, image)[0]
        blocks = min(1000, small.shape[0] * small.shape[1] * scale**2 / 4)
        shares.append((W.sum() - alone.sum()) / (2 * EDGES_OF_A_LINK * blocks))
    # Links for each block: between half of `links` (all mutual) and all of them.
    assert all(spec.links / 2 <= share <= spec.links for share in shares)


def test_step_two_uses_the_image_at_half_size():
    W, grid = graph_of(two_colours(41, 57), PixelSpec(step=2))
    assert grid == (21, 29)
    assert W.shape == (609, 609)


def test_large_images_get_a_larger_step():
    image = two_colours(40, 60)
    grids = [graph_of(image, PixelSpec(max_nodes=most))[1] for most in (2400, 2399, 280, 1)]
    assert grids == [(40, 60), (20, 30), (14, 20), (1, 1)]


def test_same_bytes_whatever_the_global_generator():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    answers = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002
        W, _ = graph_of(image)
        answers.append((W.data.tobytes(), W.indices.tobytes(), W.indptr.tobytes()))
    assert answers[0] == answers[1]


def test_solved_by_lobpcg_to_the_tolerance():
    from skimage import data

    image = data.astronaut()[::2, ::2]
    W, grid = graph_of(image)
    solution = solve(W, SolveSpec(k=6, tolerance=1e-4), grid=grid)
    assert solution.solver == "lobpcg"
    assert NormalizedProblem(W).residual(
        solution.eigenvalues, solution.vectors * np.sqrt(affinity.degrees(W))[:, None]
    ).max() <= 1e-4  # fmt: skip


@pytest.mark.parametrize(
    "field, value",
    [("step", 0), ("max_nodes", 0), ("colour_width", 0.0), ("feature_power", -1), ("links", -1)],
)
def test_fields_out_of_range_are_named(field, value):
    with pytest.raises(SettingError, match=field):
        PixelSpec(**{field: value})


def test_features_that_are_not_finite_are_refused():
    image = two_colours()
    features = LOWLEVEL([image])[0]
    features[3, 0] = np.nan
    with pytest.raises(GraphError, match="node 3"):
        graph_of(image, features=features)
