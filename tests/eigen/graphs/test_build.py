"""A specification decides which graph is built, and every graph keeps the contract."""

import numpy as np
import pytest

from data.errors import GraphError, SettingError
from eigen.graphs import build as graphs
from eigen.graphs import colour, cosine
from eigen.graphs.affinity import TriangleAffinity
from eigen.graphs.pixels import PixelSpec
from eigen.solvers.problem import NormalizedProblem

GRID = (5, 7)


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


@pytest.fixture
def features():
    x = np.random.default_rng(1).standard_normal((35, 6)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def built(spec, features, picture):
    graph = graphs.build(spec, features, GRID, picture)
    return graph, NormalizedProblem(graph.W, grid=graph.grid).whole_affinity()


def test_default_is_the_dense_patch_graph(features, picture):
    graph, W = built(graphs.GraphSpec(), features, picture)
    assert isinstance(graph.W, TriangleAffinity)
    assert graph.grid == GRID
    np.testing.assert_allclose(W, np.maximum(features @ features.T, 0), atol=1e-6)


@pytest.mark.parametrize("neighbours", [None, 6])
@pytest.mark.parametrize(
    ("name", "affinity"),
    [("knn", colour.knn_affinity), ("random_walk", colour.random_walk_affinity)],
)
def test_colours_are_added_by_their_weight(name, affinity, neighbours, features, picture):
    plain = built(graphs.GraphSpec(neighbours=neighbours), features, picture)[1]
    spec = graphs.GraphSpec(neighbours=neighbours, colour=name, colour_weight=10)
    added = built(spec, features, picture)[1] - plain
    expected = affinity(colour.resize_for_grid(picture, GRID)).toarray()
    np.testing.assert_allclose(added, 10 * expected, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"colour": "knn"}, "colour: 'knn' has no effect with colour_weight=0"),
        ({"colour": "random_walk", "colour_weight": 0}, "colour: .*colour_weight=0"),
        ({"colour_weight": 10.0}, "colour_weight: 10.0 has no effect with colour=none"),
        ({"kind": "pixel", "neighbours": 5}, "neighbours: 5 has no effect with kind=pixel"),
        ({"kind": "pixel", "colour": "knn", "colour_weight": 1.0}, "colour: .* kind=pixel"),
        ({"pixels": PixelSpec(links=3)}, "pixels.links: 3 has no effect with kind=patch"),
    ],
)
def test_a_setting_without_effect_is_refused(settings, named):
    with pytest.raises(SettingError, match=named):
        graphs.GraphSpec(**settings)


def test_neighbours_keep_the_largest_similarities(features, picture):
    W = built(graphs.GraphSpec(neighbours=4), features, picture)[1]
    np.testing.assert_array_equal(W, cosine.nearest(features, 4).toarray())


def test_large_graphs_are_not_stored(monkeypatch, features, picture):
    monkeypatch.setattr(graphs, "STORED_NODES", 34)
    stored = cosine.dense(features).toarray()
    graph, W = built(graphs.GraphSpec(), features, picture)
    assert isinstance(graph.W, cosine.CosineAffinity)
    np.testing.assert_allclose(W, stored, atol=1e-6)


def test_pixel_graph_has_its_own_grid(features, picture):
    graph, W = built(graphs.GraphSpec(kind="pixel"), features, picture)
    assert graph.grid[0] * graph.grid[1] == len(W) > len(features)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "mesh"),
        ("colour", "hue"),
        ("neighbours", 1),
        ("colour_weight", -1.0),
        ("colour_weight", float("nan")),
    ],
)
def test_a_bad_field_is_named(field, value):
    with pytest.raises(SettingError, match=f"{field}: expected .*{value}"):
        graphs.GraphSpec(**{field: value})


def test_features_of_another_grid_are_refused(features, picture):
    with pytest.raises(GraphError, match=r"5 x 8 nodes, found 35"):
        graphs.build(graphs.GraphSpec(), features, (5, 8), picture)
