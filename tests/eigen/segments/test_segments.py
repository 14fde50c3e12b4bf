import itertools

import numpy as np
import pytest
from sklearn.cluster._spectral import cluster_qr as sklearn_cluster_qr
from sklearn.metrics import adjusted_rand_score

from data.errors import SettingError
from eigen import eigenvectors
from eigen.graphs import cosine
from eigen.joint import joint_eigenvectors, joint_segments
from eigen.segments import Segments, adjacency, segment_features, segments
from eigen.segments.colours import PcaColours, eigenvector_rgb
from eigen.segments.discretise import METHODS, discretise
from eigen.segments.partition import by_eigengap
from eigen.solvers.solve import solve
from tests.eigen.objects.scenes import block, iou, planted, two_blobs

GRID = (18, 24)
PARTS = block(GRID, (2, 12), (3, 11)), block(GRID, (6, 16), (14, 22)), block(GRID, (0, 2), (0, 24))
TRUTH = sum(value * part for value, part in enumerate(PARTS, start=1)).ravel()


def vectors(noise=0.05, k=4, seed=0):
    return solve(cosine.dense(planted(*PARTS, noise=noise, seed=seed)), k).vectors


@pytest.mark.parametrize("method", METHODS)
def test_planted_partitions_are_found(method):
    labels = discretise(vectors(), method).argmax(axis=1)
    assert adjusted_rand_score(TRUTH, labels) == 1


@pytest.mark.parametrize("method", METHODS)
def test_signs_and_rotations_of_a_repeated_eigenvalue_change_no_partition(method):
    v = vectors(noise=0.15)
    labels = discretise(v, method).argmax(axis=1)
    for flips in itertools.product((1, -1), repeat=3):
        flipped = discretise(v * (1, *flips), method).argmax(axis=1)
        assert adjusted_rand_score(labels, flipped) > 0.98


def test_cluster_qr_as_scikit_learn():
    v = vectors(noise=0.3).astype(np.float64)
    assert (
        adjusted_rand_score(discretise(v, "cluster_qr").argmax(axis=1), sklearn_cluster_qr(v)) == 1
    )


def test_kway_ncut_of_ncut_pytorch_agrees():
    ncut = pytest.importorskip("ncut_pytorch")
    import torch

    v = vectors(noise=0.2)
    theirs = ncut.kway_ncut(torch.from_numpy(v.copy())).argmax(dim=1).numpy()
    assert adjusted_rand_score(discretise(v, "rotation").argmax(axis=1), theirs) > 0.95


def test_number_of_segments_by_eigengap():
    assert by_eigengap(np.array([0, 0.01, 0.02, 0.5, 0.52])) == 3
    assert by_eigengap(np.array([0, 0.3, 0.31])) == 2
    assert by_eigengap(np.array([0, 0.3])) == 1
    values = solve(cosine.dense(planted(*PARTS)), 8).eigenvalues
    assert by_eigengap(values) == 4


@pytest.mark.parametrize("method", METHODS)
def test_segments_of_an_image(method):
    image, disc, _ = two_blobs()
    pairs = eigenvectors(image, "lowlevel8", 6)
    found = segments(pairs, 5, method)
    assert found.labels.shape == image.shape[:2] and found.nodes.shape == pairs.grid
    frame = np.concatenate([found.labels[0], found.labels[-1]])
    assert np.bincount(frame).argmax() == 0
    area = np.bincount(found.labels.ravel(), minlength=5)
    assert list(area[1:]) == sorted(area[1:], reverse=True)
    assert max(iou(found.labels == s, disc) for s in range(5)) > 0.5
    again = segments(pairs, 5, method)
    assert found.labels.tobytes() == again.labels.tobytes()


def test_segment_features_and_borders():
    labels = np.array([[0, 0, 1], [0, 2, 1]], np.uint8)
    found = Segments(labels, labels, 4)
    rows = np.eye(3, dtype=np.float32)[labels.ravel()]
    features = segment_features(rows, found)
    assert np.array_equal(features[:3], np.eye(3)) and not features[3].any()
    expected = np.zeros((4, 4), int)
    expected[0, 1] = expected[1, 0] = expected[1, 2] = expected[2, 1] = 1
    expected[0, 2] = expected[2, 0] = 2
    assert np.array_equal(adjacency(found), expected)


def test_more_segments_than_there_can_be():
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    pairs = eigenvectors(image, "lowlevel8", 4)
    for k, message in ((5, "expected 5 or more"), (7, "7 segments of 6 nodes"), (0, "1 to 255")):
        with pytest.raises(SettingError, match=message):
            segments(pairs, k)
    with pytest.raises(SettingError, match="method"):
        segments(pairs, 2, "snake")
    with pytest.raises(SettingError, match="drop_trivial"):
        segments(eigenvectors(image, "lowlevel8", 4, drop_trivial=True), 2)


@pytest.mark.parametrize("method", METHODS)
def test_a_flat_image_has_segments_of_some_kind(method):
    pairs = eigenvectors(np.full((64, 64, 3), 7, np.uint8), "lowlevel8", 4)
    assert segments(pairs, 3, method).labels.max() <= 2


def test_joint_eigenvectors_are_those_of_the_joint_graph():
    image, _, _ = two_blobs()
    images = [image, image[:, ::-1][:120].copy(), image]
    joint = joint_eigenvectors(images, "lowlevel", 5)
    assert joint.residual.max() <= 1e-5
    assert [pairs.size for pairs in joint.images] == [i.shape[:2] for i in images]
    # Equal images have equal parts.
    difference = np.abs(joint.images[0].vectors - joint.images[2].vectors).max()
    assert difference < 1e-3 * np.abs(joint.images[0].vectors).max()
    one = joint_eigenvectors([image], "lowlevel", 5)
    assert np.allclose(one.eigenvalues, eigenvectors(image, "lowlevel", 5).eigenvalues)
    with pytest.raises(SettingError, match="expected one or more"):
        joint_eigenvectors([], "lowlevel")


def test_joint_eigenvectors_stored_or_not(monkeypatch):
    image, _, _ = two_blobs()
    stored = joint_eigenvectors([image, image[:100]], "lowlevel8", 4)
    monkeypatch.setattr("eigen.joint.STORED_NODES", 100)
    products = joint_eigenvectors([image, image[:100]], "lowlevel8", 4)
    assert products.residual.max() <= 1e-5
    assert np.allclose(stored.eigenvalues, products.eigenvalues, atol=1e-5)


def test_joint_segments_mean_the_same_in_each_image():
    image, disc, _ = two_blobs()
    shifted = np.roll(image, 40, axis=0)
    found = joint_segments(joint_eigenvectors([image, shifted], "lowlevel8", 6), 4)
    masks = (disc, np.roll(disc, 40, axis=0))
    in_disc = [
        np.bincount(s.labels[m], minlength=4).argmax() for s, m in zip(found, masks, strict=True)
    ]
    assert in_disc[0] == in_disc[1]


def test_colours_of_a_data_set_are_aligned():
    features = planted(*PARTS)
    colours = PcaColours(8)
    with pytest.raises(SettingError, match="no features"):
        colours.basis()
    with pytest.raises(SettingError, match=r"expected \(n, 8\)"):
        colours.add(features[:, :5])
    whole = PcaColours(8)
    whole.add(np.concatenate([features, features[:50]]))
    colours.add(features)
    colours.add(features[:50])
    from eigen.pairs import Cells

    size = (180, 240)
    pictures = [c.rgb(features, GRID, size, Cells.over(size, GRID)) for c in (colours, whole)]
    assert pictures[0].shape == (*size, 3) and pictures[0].dtype == np.uint8
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() <= 1


def test_eigenvectors_in_colours():
    image, disc, _ = two_blobs()
    rgb = eigenvector_rgb(eigenvectors(image, "lowlevel8", 4))
    assert rgb.shape == image.shape and rgb.dtype == np.uint8
    assert np.linalg.norm(rgb[disc].mean(axis=0) - rgb[0].mean(axis=0)) > 50
    assert (eigenvector_rgb(eigenvectors(image, "lowlevel8", 2))[..., 1:] == 128).all()
