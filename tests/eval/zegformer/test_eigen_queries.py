"""Eigenvectors inside ZegFormer: nothing changes without them, and each way does what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data.errors import SettingError
from eigen.store.maps import EigenMaps
from eval.zegformer import eigen_queries
from eval.zegformer.eigen_queries import EigenUse
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
