"""Edge maps: the published ones, against distances computed as published, and the corrected."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from data.edges import edge_map
from tests.parity import edges as parity

GOLDEN = Path(__file__).parents[1] / "golden"


def test_published_edges():
    cases = list(parity.cases(GOLDEN))
    assert len(cases) == 4
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
    found = edge_map(labels, classes=5, mode="reference", radius=radius)
    assert np.array_equal(found, by_distance(labels, 5, radius))


def test_corrected_edges_follow_the_classes_alone():
    labels = np.zeros((20, 30), np.uint8)
    labels[5:12, 8:20] = 1
    edges = edge_map(labels, classes=2)
    assert edges.dtype == bool
    rows, columns = np.nonzero(edges)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 13, 6, 21)
    assert not edges[7:10, 10:18].any()
    labels[15:18, 3:9] = 2  # another class, and void, are ground
    labels[0:2] = 255
    assert np.array_equal(edge_map(labels, classes=2), edges)


def test_corrected_edges_have_no_frame():
    touching = np.zeros((12, 12), np.uint8)
    touching[:6] = 1
    assert not edge_map(touching, classes=2)[:4].any()
    assert edge_map(touching, classes=2)[4:8].all()
    for constant in (0, 1, 255):
        assert not edge_map(np.full((9, 9), constant, np.uint8), classes=2).any()


def test_unknown_mode():
    with pytest.raises(ValueError, match="reference or corrected, found 'sobel'"):
        edge_map(np.zeros((4, 4), np.uint8), classes=2, mode="sobel")
