import tracemalloc

import numpy as np
import pytest

from data.errors import DatasetError, SettingError
from eval.objects.cluster_spec import ClusterSpec
from eval.objects.clusters import (
    Confusion,
    class_iou,
    cluster,
    hungarian,
    majority,
    whitening,
)
from eval.objects.segment_clusters import cluster_segments


def planted(images, classes=5, seed=0):
    """Features of three segments per image around one of a few directions."""

    def stream():
        rng = np.random.default_rng(seed)
        for _ in range(images):
            rows = np.eye(16)[rng.integers(0, classes, 3)] + 0.05 * rng.standard_normal((3, 16))
            yield rows.astype(np.float32)

    return stream


def test_planted_clusters_are_found():
    found = cluster(planted(400), 5)
    rows = np.concatenate(list(planted(100, seed=1)()))
    names = found.assign(rows)
    truth = rows.argmax(axis=1)
    table = np.zeros((5, 5), int)
    np.add.at(table, (truth, names), 1)
    assert (np.sort(table, axis=0)[:-1] == 0).all()


def test_half_whitening_by_its_definition():
    rows = np.random.default_rng(0).standard_normal((600, 5)) * [9, 4, 2, 1, 0] + 3
    fitted = whitening(lambda: np.array_split(rows.astype(np.float32), 7), 4)
    assert fitted.components.shape == (5, 4)
    assert whitening(lambda: [rows], 9).components.shape == (5, 4)  # one does not vary
    spread = ((rows - rows.mean(axis=0)) @ fitted.components).std(axis=0)
    assert spread == pytest.approx(np.sqrt([9, 4, 2, 1]), rel=0.1)
    assert np.linalg.norm(fitted(rows), axis=1) == pytest.approx(np.ones(600), abs=1e-5)
    with pytest.raises(SettingError, match="0 different segments"):
        whitening(lambda: [np.ones((3, 2))], 2)


def test_background_is_one_cluster_and_the_rest_are_clustered():
    rows = np.concatenate(list(planted(200)()))
    shares = np.where(rows.argmax(axis=1) == 2, 0.1, 0.9).astype(np.float32)
    found = cluster_segments(lambda: [(rows, shares)], ClusterSpec(count=5, dimension=8))
    assigned, _ = found.assign(rows, shares)
    assert found.count == 5 and np.array_equal(assigned == 0, shares < 0.5)
    table = np.zeros((5, 5), int)
    np.add.at(table, (rows.argmax(axis=1), assigned), 1)
    assert (np.sort(table, axis=0)[:-1] == 0).all()
    with pytest.raises(SettingError, match="cluster_background"):
        cluster_segments(lambda: [(rows, shares)], ClusterSpec(count=1))
    with pytest.raises(SettingError, match="cluster_background"):
        cluster_segments(lambda: [(rows, 0 * shares)], ClusterSpec(count=5))


def test_the_same_bytes_twice():
    once, twice = (cluster(planted(500), 7, seed=3).centres.tobytes() for _ in range(2))
    assert once == twice
    assert cluster(planted(500), 7, seed=4).centres.tobytes() != once


def test_memory_does_not_grow_with_the_data_set():
    peaks = []
    for images in (4_000, 16_000):
        cluster(planted(10), 2)  # imports
        tracemalloc.start()
        cluster(planted(images), 5, passes=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_more_clusters_than_segments():
    with pytest.raises(SettingError, match="9 of 6 different segments"):
        cluster(planted(2), 9)
    with pytest.raises(SettingError, match="0 different segments"):
        cluster(lambda: iter(()), 2)
    with pytest.raises(SettingError, match="expected 1 or more"):
        cluster(planted(2), 0)


def test_matching_with_known_answers():
    table = np.array([[90, 0, 10, 0], [5, 50, 0, 45]])
    assert hungarian(table).tolist() == [0, 1, -1, -1]
    assert majority(table).tolist() == [0, 1, 0, 1]
    assert class_iou(table, majority(table)) == pytest.approx([100 / 105, 95 / 100])
    assert class_iou(table, hungarian(table)) == pytest.approx([90 / 105, 50 / 100])
    assert np.isnan(class_iou(np.array([[1], [0]]), np.array([0]))[1])


def test_void_is_left_out_and_sizes_are_checked():
    confusion = Confusion(2, 3)
    confusion.add(np.array([[0, 1, 255]]), np.array([[2, 0, 1]]))
    assert confusion.table.tolist() == [[0, 0, 1], [1, 0, 0]]
    with pytest.raises(DatasetError, match="maps of one size"):
        confusion.add(np.zeros((2, 2), int), np.zeros((2, 3), int))
    with pytest.raises(DatasetError, match="found class 5"):
        confusion.add(np.array([[5]]), np.array([[0]]))
