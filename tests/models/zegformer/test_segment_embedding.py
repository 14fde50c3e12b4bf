"""Class embeddings of segments."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from models.zegformer.network import ZegFormer
from models.zegformer.segment_embedding import pooled


def halves() -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings whose left half is e0 and right half e1, and masks of both, four times as fine."""
    pixels = torch.zeros(1, 3, 4, 6)
    pixels[:, 0, :, :3], pixels[:, 1, :, 3:] = 1, 1
    masks = torch.full((1, 3, 16, 24), -30.0)
    masks[:, 0, :, :12], masks[:, 1, :, 12:], masks[:, 2] = 30, 30, 30
    return pixels, masks


def test_a_segment_has_the_mean_direction_of_its_pixels():
    found = pooled(*halves())[0]
    expected = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.5**0.5, 0.5**0.5, 0]])
    torch.testing.assert_close(found, expected)


def test_names_do_not_shape_masks():
    pixels, masks = (x.requires_grad_() for x in halves())
    pooled(pixels, masks)[0, :, 0].sum().backward()
    assert pixels.grad is not None and masks.grad is None


def test_a_network_may_classify_its_segments():
    torch.manual_seed(0)
    model = ZegFormer(
        depth=14, res2=32, queries=5, dim=32, mask_dim=32, text_dim=16, heads=2, layers=2,
        feedforward=32, segments=True,
    ).eval()  # fmt: skip
    images, text = torch.randn(2, 3, 64, 96), F.normalize(torch.randn(4, 16), dim=1)
    with torch.inference_mode():
        first, last = model(images, text, every_layer=True)
        pixels = model.sem_seg_head.predictor.pixel_embedding(model.backbone(images))
        fewer = model(images, text[[2, 0]])[-1]
    assert last.pixels.shape == (2, 4, 4, 6) and torch.equal(first.pixels, last.pixels)
    scale = model.sem_seg_head.predictor.logit_scale.exp()
    cosines = pooled(pixels, last.masks) @ text.T
    torch.testing.assert_close(last.logits[..., :-1], scale * cosines)
    torch.testing.assert_close(fewer.logits, last.logits[..., [2, 0, 4]])
