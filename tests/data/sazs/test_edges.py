"""Edge maps: the published ones, against distances computed as published, and the corrected."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from data.sazs.edges import outlines, reference_edges, shrink_edges
from tests.parity import edges as parity

GOLDEN = Path(__file__).parents[2] / "golden"


def test_published_edges():
    cases = list(parity.cases(GOLDEN))
    assert len(cases) == 6
    assert not [case for case in cases if not case.passed]


def by_distance(labels, classes, radius):
    """For every label present: distances inside and outside, in a frame of one pixel of nothing."""
    union = np.zeros(labels.shape, bool)
    for value in np.unique(labels[labels < classes]):
        inside = np.pad(labels == value, 1)
        distance = distance_transform_edt(inside) + distance_transform_edt(~inside)
        union |= distance[1:-1, 1:-1] <= radius
    return union


@given(st.integers(0, 10_000), st.integers(1, 3), st.sampled_from([np.uint8, np.uint16]))
def test_reference_equals_distance_transforms(seed, radius, dtype):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(3, 24, 2))
    values = np.array([0, 1, 4, 5, 20, 255])
    labels = np.kron(rng.choice(values, shape), np.ones(rng.integers(1, 6, 2), int)).astype(dtype)
    found = reference_edges(labels, 5, radius=radius)
    assert np.array_equal(found, by_distance(labels, 5, radius))


def test_outlines_follow_the_given_labels_alone():
    labels = np.zeros((20, 30), np.uint8)
    labels[5:12, 8:20] = 1
    edges = outlines(labels, [1])
    rows, columns = np.nonzero(edges)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 13, 6, 21)
    assert not edges[7:10, 10:18].any()
    labels[15:18, 3:9] = 2  # another class, and void, are ground
    labels[0:2] = 255
    assert np.array_equal(outlines(labels, [1]), edges)
    both = outlines(labels, [1, 2])
    assert both.sum() > edges.sum() and (both >= edges).all()
    assert not outlines(labels, []).any()


def test_outlines_have_no_frame():
    touching = np.zeros((12, 12), np.uint8)
    touching[:6] = 1
    assert not outlines(touching, [1])[:4].any()
    assert outlines(touching, [1])[4:8].all()
    for constant in (0, 1, 255):
        assert not outlines(np.full((9, 9), constant, np.uint8), [1]).any()


def test_shrinking_keeps_every_edge_or_the_published_half():
    edges = np.zeros((17, 24), np.uint8)
    edges[3, 10] = edges[16, 0] = 1
    assert np.argwhere(shrink_edges(edges, 8)).tolist() == [[0, 1], [2, 0]]
    assert np.argwhere(shrink_edges(edges, 8, reference=True)).tolist() == [[2, 0]]
