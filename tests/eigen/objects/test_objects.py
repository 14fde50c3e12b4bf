import numpy as np
import pytest

from data.errors import GraphError, SettingError
from eigen import eigenvectors
from eigen.extractors import extractor
from eigen.object_spec import METHODS
from eigen.objects import ObjectSpec, confidence, objects, rules
from eigen.objects.find import box
from eigen.objects.graph import FLOOR, restricted, thresholded
from eigen.objects.rounds import rounds
from eigen.solvers.problem import NormalizedProblem
from eigen.solvers.solve import solve
from eigen.solvers.spec import SolveSpec
from tests.eigen.objects.scenes import block, iou, planted, two_blobs

GRID = (18, 24)
LARGE, SMALL = block(GRID, (4, 12), (3, 11)), block(GRID, (6, 11), (15, 20))


def test_thresholded_affinity():
    features = planted(LARGE)
    W = thresholded(features, 0.2).toarray()
    expected = np.where(features @ features.T >= 0.2, 1, np.float32(FLOOR))
    assert np.array_equal(W, expected)
    some = np.array([0, 5, 80, 81, 300])
    assert np.array_equal(
        restricted(thresholded(features, 0.2), some).toarray(), W[np.ix_(some, some)]
    )
    with pytest.raises(SettingError, match=r"threshold: .* found 1\.5"):
        thresholded(features, 1.5)
    with pytest.raises(SettingError, match="floor"):
        thresholded(features, 0.2, floor=0.0)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("rule", [rules.fiedler_sign, rules.seed_component])
def test_single_object_rules_whatever_the_sign(rule, sign):
    vector = np.where(LARGE, 1.0, -0.3) + np.where(SMALL, 0.4, 0.0)
    assert np.array_equal(rule(sign * vector), LARGE)


def test_the_corner_rules_turn_a_background_over():
    vector = np.where(LARGE, -0.4, 0.3)
    vector[0, 0] = 2.0  # the largest entry lies in the background
    assert rules.seed_component(vector)[0, 0]
    assert np.array_equal(rules.seed_component(vector, at_most_corners=2), LARGE)
    assert np.array_equal(rules.fiedler_sign(vector), LARGE)


def test_lost_expands_its_seed_to_the_object():
    features = planted(LARGE, noise=0.02)
    features = features - features.mean(axis=0) / 2  # object and ground are then opposed
    assert np.array_equal(rules.seed_expansion(features, GRID, 20), LARGE)
    with pytest.raises(SettingError, match="expansion"):
        rules.seed_expansion(planted(LARGE), GRID, 0)


def test_rounds_take_one_object_after_the_other():
    W = thresholded(planted(LARGE, SMALL), 0.2)
    first, second = rounds(W, GRID, 2)
    assert {np.argmax([iou(cut.mask, m) for m in (LARGE, SMALL)]) for cut in (first, second)} == {
        0,
        1,
    }
    assert max(iou(first.mask, LARGE), iou(first.mask, SMALL)) == 1
    assert max(iou(second.mask, LARGE), iou(second.mask, SMALL)) == 1
    assert np.isnan(second.vector[first.mask]).all()
    assert not np.isnan(second.vector[~first.mask]).any()


def test_each_round_solves_what_remains_as_posed():
    W = thresholded(planted(LARGE, SMALL, noise=0.3), 0.3)
    first, second = rounds(W, GRID, 2, tolerance=1e-5)
    rest = np.flatnonzero(~first.mask)
    dense = solve(NormalizedProblem(restricted(W, rest)), SolveSpec(k=3, solver="dense")).vectors[
        :, 1
    ]
    ours = second.vector.ravel()[rest]
    cosine = abs(ours @ dense) / np.linalg.norm(ours) / np.linalg.norm(dense)
    assert cosine > 1 - 1e-5
    assert second.residual <= 1e-5


def test_rounds_end_where_nothing_is_left():
    W = thresholded(planted(block((2, 3), (0, 1), (0, 1))), 0.2)
    assert 1 <= len(rounds(W, (2, 3), 50)) <= 6
    with pytest.raises(SettingError, match="count"):
        rounds(W, (2, 3), 0)
    with pytest.raises(GraphError, match="does not fit"):
        rounds(W, (3, 3), 1)


def test_two_objects_of_an_image():
    image, disc, square = two_blobs()
    found = objects(image, "lowlevel8", ObjectSpec(count=2))
    assert len(found) == 2
    for truth in (disc, square):
        best = max(found, key=lambda o: iou(o.mask, truth))
        assert iou(best.mask, truth) > 0.9
        assert best.box == box(best.mask)
    assert not (found[0].mask & found[1].mask).any()
    assert found[0].score >= found[1].score > 0


def test_refinement_follows_the_edges_of_the_image():
    image, disc, _ = two_blobs()
    coarse, fine = (
        objects(image, "lowlevel", ObjectSpec(refine=refine))[0].mask for refine in (False, True)
    )
    assert iou(fine, disc) > iou(coarse, disc)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["flat", "noisy", "lit"])
def test_an_image_without_objects_has_none(method, kind):
    image = np.full((120, 160, 3), (90, 120, 60), np.float64)
    if kind == "noisy":
        image += np.random.default_rng(0).normal(0, 3, image.shape)
    if kind == "lit":  # slow and faint shading, as of a wall
        image += np.linspace(0, 3, 160)[:, None]
    assert objects(np.rint(image).astype(np.uint8), "lowlevel8", ObjectSpec(method=method)) == []


def test_confidence_tells_an_object_from_none():
    features = planted(LARGE, noise=0.02)
    assert confidence.contrast(features, LARGE) > 0.9
    assert confidence.contrast(features, np.roll(LARGE, 9, axis=1)) < 0.5
    assert confidence.contrast(features, np.ones(GRID, bool)) == 0
    assert confidence.contrast(features, np.zeros(GRID, bool)) == 0
    assert confidence.spectral_gap(np.array([0, 0.1, 0.8, 0.9])) == pytest.approx(0.875)
    assert confidence.spectral_gap(np.array([0, 0.1])) == 0


def test_stored_pairs_are_used_and_checked():
    image, _, _ = two_blobs()
    pairs = eigenvectors(image, "lowlevel8", 6)
    (ours,), (theirs,) = (objects(image, "lowlevel8", pairs=p) for p in (pairs, None))
    assert np.array_equal(ours.mask, theirs.mask)
    with pytest.raises(SettingError, match="grid"):
        objects(image, "lowlevel", pairs=pairs)
    with pytest.raises(SettingError, match="drop_trivial"):
        objects(image, "lowlevel8", pairs=eigenvectors(image, "lowlevel8", 6, drop_trivial=True))


def test_the_same_bytes_twice():
    image, _, _ = two_blobs()
    once, twice = (objects(image, "lowlevel8", ObjectSpec(count=2)) for _ in range(2))
    assert [o.mask.tobytes() for o in once] == [o.mask.tobytes() for o in twice]
    assert [o.score for o in once] == [o.score for o in twice]


@pytest.mark.parametrize("size", [(1, 1), (5, 700), (16, 16), (33, 40)])
@pytest.mark.parametrize("method", METHODS)
def test_small_and_narrow_images(method, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    made = extractor("lowlevel8")
    grid = made.grid(size)
    few = grid[0] * grid[1] < (6 if method == "frame" else 3)
    if few and method in ("frame", "fiedler") and not confidence.is_flat(image, grid):
        with pytest.raises(GraphError, match="ask for fewer"):
            objects(image, made, ObjectSpec(method=method))
    else:
        assert all(o.mask.shape == size for o in objects(image, made, ObjectSpec(method=method)))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"method": "sam"}, "method: expected one of frame"),
        ({"count": 0}, "count"),
        ({"pairs": 2}, "pairs"),
        ({"least_area": 2}, "least_area"),
        ({"threshold": 3}, "threshold"),
        ({"method": "lost", "count": 3}, "count: 3 has no effect with method=lost"),
    ],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(SettingError, match=message):
        ObjectSpec(**setting)
