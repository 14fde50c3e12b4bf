"""Eigenvectors inside ZegFormer: nothing changes without them, and each way does what it says."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from data.errors import SettingError
from data.pictures import read_image, write_png
from data.text.vocabulary import Vocabulary
from data.zegformer.sets import Pair
from eigen.store.maps import EigenMaps
from eval.zegformer import eigen_queries
from eval.zegformer.calibration import matched
from eval.zegformer.eigen_queries import EigenUse
from eval.zegformer.scoring import score
from eval.zegformer.segmenter import Segmenter
from tests.eval.zegformer.test_segmenter import photos, segmenter  # noqa: F401 (a fixture)


def squares(H: int = 40, W: int = 70) -> EigenMaps:
    mask = np.zeros((1, H, W), bool)
    mask[0, 5:20, 5:25] = True
    mask[0, 25:35, 40:60] = True
    return EigenMaps.of_masks(mask)


def test_segments_are_masks_complements_and_their_parts():
    found = eigen_queries.eigen_segments(squares())
    areas = sorted(int(mask.sum()) for mask in found)
    assert areas == [200, 300, 500, 2800 - 500]
    none = eigen_queries.eigen_segments(EigenMaps.of_masks(np.zeros((0, 4, 5), bool)))
    assert none.shape == (0, 4, 5)


def test_a_mask_that_agrees_is_refined_and_others_stay():
    segments = torch.from_numpy(eigen_queries.eigen_segments(squares()))
    logits = torch.full((2, 64, 96), -3.0)
    logits[0, 6:20, 5:24] = 3  # the first square, ragged
    logits[1, :4, :4] = 3  # agrees with nothing
    found = eigen_queries.refined(logits, segments, EigenUse(weight=0.6))
    inside = found[0].sigmoid() > 0.5
    assert inside[5:20, 5:25].all() and int(inside.sum()) == 300
    assert torch.equal(found[1], logits[1])
    assert torch.equal(found[0, 40:], logits[0, 40:])
    assert torch.equal(eigen_queries.refined(logits, segments[:0], EigenUse()), logits)


def test_queries_name_the_segments_they_cover():
    segments = torch.zeros(2, 4, 8, dtype=torch.bool)
    segments[0, :, :4] = True
    segments[1, :2] = True
    masks = torch.zeros(2, 6, 8)  # padded below
    masks[0, :4, :4] = 1
    masks[1, :4, 4:] = 0.5
    scores = torch.tensor([[0.9, 0.1], [0.0, 1.0]])
    found = eigen_queries.named_by_queries(scores, masks, segments)
    first, second = 8 / (16 + 16 - 8), 4 / (16 + 8 - 4)
    expected = [[0.9, 0.1], [first * 0.9, first * 0.1 + second]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_smoothing_is_a_projection():
    planes = torch.randn(3, 8, 9, generator=torch.Generator().manual_seed(0))
    maps = torch.rand(4, 8, 9, generator=torch.Generator().manual_seed(1))
    assert torch.equal(eigen_queries.smoothed(maps, planes, 0.0), maps)
    once = eigen_queries.smoothed(maps, planes, 1.0)
    torch.testing.assert_close(eigen_queries.smoothed(once, planes, 1.0), once)
    inside = 2 * planes[:1] - 0.5 * planes[1:2] + 3
    torch.testing.assert_close(eigen_queries.smoothed(inside, planes, 1.0), inside)


def test_each_way_changes_the_result_and_none_leaves_it(segmenter):  # noqa: F811
    photo, maps = photos()[0], squares()
    plain = segmenter.segments([photo])[0]
    size = (40, 70)
    for ways in ((), ("refine",), ("propose",), ("smooth",)):
        use = EigenUse(ways, agreement=0.0)
        other = Segmenter(segmenter.model, segmenter.classes, clip=segmenter.clip, eigen_use=use)
        (found,) = other.segments([photo], [maps])
        (labels,) = other.predict([photo], [size], [maps])
        assert labels.shape == size
        extra = len(found.scores) - len(plain.scores)
        assert extra == (4 if "propose" in ways else 0)
        rows = len(plain.scores)
        same = torch.equal(found.masks[:rows], plain.masks) and torch.equal(
            found.scores[:rows], plain.scores
        )
        assert same == ("refine" not in ways)
        if not ways:
            assert torch.equal(labels, segmenter.labels(plain, size))


def test_unknown_ways_are_refused():
    with pytest.raises(SettingError, match=r"\['sharpen'\] unknown; choose refine"):
        EigenUse(("sharpen",))


def test_proposals_are_calibrated_by_their_own_gamma(segmenter):  # noqa: F811
    photo, maps, size = photos()[0], squares(), (40, 70)
    seen = ~segmenter.classes.unseen

    def proposing(gamma: float | None) -> Segmenter:
        use = EigenUse(("propose",), gamma=gamma)
        return Segmenter(segmenter.model, segmenter.classes, clip=segmenter.clip, eigen_use=use)

    (same,), (own,) = (proposing(g).segments([photo], [maps]) for g in (None, 0.7))
    plain, lower = proposing(None).maps(same, size), proposing(0.7).maps(own, size)
    expected = (0.7 - segmenter.scoring.gamma) * seen[:, None, None].float()
    torch.testing.assert_close(plain - lower, expected.expand_as(plain))
    scores, labels = proposing(0.7).named(photo, size, maps)
    assert torch.equal(labels, lower.argmax(dim=0))
    undone = lower + 0.7 * seen[:, None, None].float()
    torch.testing.assert_close(scores, undone.gather(0, labels[None])[0])
    # Without proposals the setting has no part.
    assert torch.equal(
        proposing(0.7).predict([photo], [size])[0], segmenter.predict([photo], [size])[0]
    )


class _Squares:
    """In place of a folder of eigenvectors."""

    def maps(self, _: str, size: tuple[int, int]) -> EigenMaps:
        return squares(*size)


def test_the_matched_calibration_keeps_the_share_of_unseen_classes(segmenter, tmp_path):  # noqa: F811
    rng, pairs, eigen = np.random.default_rng(0), [], _Squares()
    for name in "abc":
        image, label = tmp_path / f"{name}.png", tmp_path / f"{name}_label.png"
        write_png(image, rng.integers(0, 256, (40, 72, 3), dtype=np.uint8))
        write_png(label, np.full((40, 72), 255, np.uint8))
        pairs.append(Pair(name, image, label))
    unseen = segmenter.classes.unseen
    vocabulary = Vocabulary("five", tuple("abcde"), frozenset(unseen.nonzero()[:, 0].tolist()))
    sizes = {"short": 40, "longest": 80}

    def share(model: Segmenter, maps: _Squares | None) -> float:
        labels: list[np.ndarray] = []
        keep = lambda *found: labels.append(found[-1])  # noqa: E731
        score(model, pairs, vocabulary, **sizes, eigen=maps, on_photo=keep)
        return float(unseen.numpy()[np.stack(labels)].mean())

    plain, use = copy(segmenter), EigenUse(("propose",))
    (found,) = plain.segments([torch.from_numpy(read_image(pairs[0].image)).permute(2, 0, 1)])
    maps = plain.maps(replace(found, gamma=0.0), found.size)
    lead = maps[~unseen].amax(dim=0) - maps[unseen].amax(dim=0)
    plain.scoring = replace(segmenter.scoring, gamma=float(lead.median()))
    gamma = matched(plain, use, pairs, vocabulary, eigen, **sizes)
    before = share(plain, None)
    assert 0.2 < before < 0.8
    proposing = copy(plain)
    proposing.eigen_use = use
    assert abs(share(proposing, eigen) - before) > 0.1  # calibrated as without
    proposing.eigen_use = replace(use, gamma=gamma)
    assert share(proposing, eigen) == pytest.approx(before, abs=0.03)
