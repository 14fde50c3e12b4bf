"""From masks and embeddings to label maps: goldens, known answers, and what must not matter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import SettingError, VocabularyError
from eval.zegformer import crops, segments
from eval.zegformer import ensemble as gzs
from eval.zegformer.segmenter import Classes, Scoring, Segmenter
from eval.zegformer.segments import Segments
from eval.zegformer.tta import Augmented
from models.clip.clip import CLIP
from models.zegformer.network import ZegFormer
from tests.parity import zegformer_inference as family

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.mark.slow
def test_goldens():
    results = list(family.cases(GOLDEN, brief=True))
    assert len(results) == 56
    assert [case for case in results if not case.passed] == []


def test_axis_weights_are_the_known_answers():
    found = crops.axis_weights(10, 13, 40, 4)
    known = torch.zeros(4, 40)
    known[0, 9], known[0, 10] = 0.125, 0.875
    known[1, 10], known[1, 11] = 0.375, 0.625
    known[2, 11], known[2, 12] = 0.625, 0.375
    known[3, 12], known[3, 13] = 0.875, 0.125
    torch.testing.assert_close(found, known)
    first = crops.axis_weights(3, 33, 40, 4)[0]
    assert first[2] == pytest.approx(0.0039, abs=1e-4)
    assert first[3:10].tolist() == pytest.approx([0.1328] * 7, abs=1e-4)
    assert first[10] == pytest.approx(0.0664, abs=1e-4)


@given(st.integers(2, 40), st.integers(2, 40), st.data(), st.sampled_from([4, 14]))
@settings(max_examples=60)
def test_crop_is_torchvisions_roi_align(H, W, data, side):
    from torchvision.ops import roi_align

    x0 = data.draw(st.integers(0, W - 1))
    y0 = data.draw(st.integers(0, H - 1))
    x1 = data.draw(st.integers(x0 + 1, W))
    y1 = data.draw(st.integers(y0 + 1, H))
    image = torch.randn(3, H, W, generator=torch.Generator().manual_seed(H * W))
    box = torch.tensor([[0, x0, y0, x1, y1]], dtype=torch.float32)
    theirs = roi_align(image[None], box, side, aligned=True, sampling_ratio=-1)[0]
    torch.testing.assert_close(crops.crop(image, (x0, y0, x1, y1), side), theirs, atol=1e-4, rtol=0)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_boxes_hold_their_masks(H, W, seed):
    masks = torch.rand(5, H, W, generator=torch.Generator().manual_seed(seed)) > 0.8
    squares = crops.square_boxes(masks, (H, W))
    for mask, published, square in zip(masks, crops.published_boxes(masks), squares, strict=True):
        places = mask.nonzero()
        x0, y0, x1, y1 = square.tolist()
        assert 0 <= x0 < x1 <= W and 0 <= y0 < y1 <= H
        assert x1 - x0 == y1 - y0 or x1 - x0 == W or y1 - y0 == H
        if len(places) == 0:
            assert published.tolist() == [0, 0, W, H]
            continue
        (top, left), (bottom, right) = places.min(0).values.tolist(), places.max(0).values.tolist()
        assert x0 <= left and right < x1 and y0 <= top and bottom < y1
        if right > left and bottom > top:
            assert published.tolist() == [left, top, right, bottom]
        else:
            assert published.tolist() == [0, 0, W, H]


def test_empty_masks_share_a_picture_and_corrected_masks_stay_off_the_padding():
    logits = torch.full((4, 32, 32), -5.0)
    logits[1, 4:9, 4:12] = 5
    logits[3, 28:, 2:20] = 5  # only padding
    image = torch.ones(3, 32, 32)
    pictures, row = crops.crops(image, logits, (20, 30), side=16)
    assert len(pictures) == 3
    assert row.tolist() == [2, 0, 2, 1]
    assert not pictures[2].any()
    pictures, row = crops.crops(image, logits, (20, 30), side=16, geometry="corrected")
    assert row.tolist() == [1, 0, 1, 1]
    with pytest.raises(SettingError, match=r"style 'blur'.*cropmask"):
        crops.crops(image, logits, (20, 30), side=16, style="blur")


def test_fusion_is_the_known_answer():
    query = torch.tensor([[0.5, 0.2, 0.1, 0.2]]).log()
    image = torch.tensor([[0.3, 0.1, 0.4, 0.2]]).log()
    unseen = torch.tensor([False, False, True])
    found = gzs.class_scores(query, image, unseen, mode="ensemble")
    assert found[0].tolist() == pytest.approx([0.368403, 0.2, 0.251984], abs=1e-6)
    alike = gzs.class_scores(query, image, unseen, mode="ensemble_all")
    assert alike[0, 2] == found[0, 2]
    assert alike[0, 0] == pytest.approx(0.5 ** (1 / 3) * 0.3 ** (2 / 3))
    only = gzs.class_scores(query, None, unseen, mode="query")
    assert only[0].tolist() == pytest.approx([0.5, 0.2, 0.1])
    none_seen = torch.ones(3, dtype=torch.bool)
    assert torch.equal(gzs.class_scores(query, image, none_seen, mode="ensemble"), alike)


def test_unknown_or_impossible_modes_are_refused():
    query, unseen = torch.zeros(1, 3), torch.zeros(2, dtype=torch.bool)
    with pytest.raises(SettingError, match=r"'both'.*ensemble_all"):
        gzs.class_scores(query, None, unseen, mode="both")
    with pytest.raises(SettingError, match="needs CLIP's image tower"):
        gzs.class_scores(query, None, unseen, mode="image")


@pytest.mark.parametrize("K", [1, 16, 37])
@pytest.mark.parametrize("gamma", [0.0, 0.05])
@pytest.mark.parametrize("size", [(31, 77), (9, 20), (20, 50)])
def test_bands_are_the_maps_of_all_rows(monkeypatch, K, gamma, size):
    """Against the published order of steps: weigh the masks, cut, enlarge, calibrate."""
    generator = torch.Generator().manual_seed(K)
    scores = torch.rand(5, K, generator=generator) / 4
    found = Segments(scores, torch.randn(5, 32, 64, generator=generator), (20, 50))
    seen = torch.arange(K) % 3 > 0
    maps = torch.einsum("qc,qhw->chw", scores, found.masks.sigmoid())[:, :20, :50]
    maps = segments.enlarged(maps, size) - gamma * seen[:, None, None].float()
    monkeypatch.setattr(segments, "_ON_A_CPU", 5 * (5 + K) * size[1])
    bands = list(segments.score_bands(found, size, seen=seen, gamma=gamma))
    assert [rows.stop for rows, _ in bands] == [*range(5, size[0], 5), size[0]]
    for rows, part in bands:
        torch.testing.assert_close(part, maps[:, rows], atol=1e-6, rtol=1e-5)


@pytest.fixture(scope="module")
def segmenter():
    torch.manual_seed(8)
    model = ZegFormer(
        depth=50, queries=7, dim=32, mask_dim=32, text_dim=24, heads=2, layers=2, feedforward=32
    )
    sizes = {"image_size": 32, "width": 64, "layers": 1, "text_width": 64, "text_layers": 1}
    clip = CLIP(dim=24, **sizes).eval().requires_grad_(False)
    unit = torch.nn.functional.normalize(torch.randn(2, 5, 24), dim=2)
    unseen = torch.tensor([False, False, True, False, True])
    return Segmenter(model, Classes(unit[0], unseen, unit[1]), clip=clip, scoring=Scoring())


def photos():
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)
        for size in ((40, 70), (64, 64), (33, 97))
    ]


def test_neighbours_and_batch_sizes_do_not_matter(segmenter):
    together = segmenter.segments(photos())
    original = segmenter.scoring
    segmenter.scoring = replace(original, crops_at_once=3)
    try:
        alone = [segmenter.segments([photo])[0] for photo in photos()]
    finally:
        segmenter.scoring = original
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a.scores, b.scores, atol=1e-6, rtol=1e-4)
        assert torch.equal(a.masks, b.masks)
        assert a.size == b.size


def test_queries_that_are_surely_nothing_can_be_left_out(segmenter):
    original, photo = segmenter.scoring, photos()[0]
    every = segmenter.queries(photo)
    none = every.logits.softmax(dim=1)[:, -1]
    limit = float(none.sort().values[len(none) // 2])
    try:
        segmenter.scoring = replace(original, most_no_object=limit)
        some = segmenter.queries(photo)
        segmenter.scoring = replace(original, most_no_object=0.0)
        one = segmenter.queries(photo)
    finally:
        segmenter.scoring = original
    assert torch.equal(some.masks, every.masks[none <= limit])
    assert torch.equal(some.logits, every.logits[none <= limit]) and len(some.logits) < len(none)
    assert torch.equal(one.logits, every.logits[none.argmin()][None])


def test_labels_have_the_size_asked_for(segmenter):
    (found,) = segmenter.segments(photos()[:1])
    labels = segmenter.labels(found, (80, 140))
    assert labels.shape == (80, 140)
    best = segmenter.maps(found, (80, 140)).max(0)
    assert torch.equal(labels, best.indices)
    assert torch.equal(segmenter.best(found, (80, 140))[0], best.values)


def test_augmented_maps_are_the_mean_of_the_views(segmenter):
    image, size = photos()[0], (20, 35)
    views = [image, image.flip(2)]
    maps = [segmenter.maps(segmenter.segments([view])[0], size) for view in views]
    augmented = Augmented(segmenter, shorts=[40], longest=200, flip=True)
    expected = (maps[0] + maps[1].flip(2)) / 2
    torch.testing.assert_close(augmented.maps(image, size), expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(augmented.predict([image], [size])[0], expected.argmax(0))
    smaller = Augmented(segmenter, shorts=[40, 20], longest=200, flip=False).maps(image, size)
    assert not torch.allclose(smaller, maps[0])
    with pytest.raises(ValueError, match="at least one size"):
        Augmented(segmenter, shorts=[], longest=200, flip=True)


def test_a_named_pixel_has_its_score_before_the_calibration(segmenter):
    photo, original = photos()[0], segmenter.scoring
    segmenter.scoring = replace(original, gamma=0.9)
    try:
        scores, labels = segmenter.named(photo, (20, 30))
        (found,) = segmenter.segments([photo])
    finally:
        segmenter.scoring = original
    seen = torch.ones(5, dtype=torch.bool)
    maps = torch.cat([part for _, part in segments.score_bands(found, (20, 30), seen=seen)], dim=1)
    torch.testing.assert_close(scores, maps.gather(0, labels[None])[0], atol=1e-6, rtol=1e-5)


def test_a_segmenter_refuses_what_does_not_fit(segmenter):
    classes = segmenter.classes
    with pytest.raises(VocabularyError, match=r"'text': 5, 'unseen': 4"):
        Classes(classes.text, classes.unseen[:4])
    with pytest.raises(SettingError, match="needs CLIP and the classes' crop_text"):
        Segmenter(segmenter.model, Classes(classes.text, classes.unseen), scoring=Scoring())
    with pytest.raises(SettingError, match="'all'"):
        Segmenter(segmenter.model, classes, clip=segmenter.clip, scoring=Scoring(mode="all"))
