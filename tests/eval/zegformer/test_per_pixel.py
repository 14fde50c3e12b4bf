"""The per-pixel baseline as it is asked: place of its cells, calibration."""

from __future__ import annotations

import torch
from torch import nn

from eval.zegformer.per_pixel import PixelSegmenter
from models.zegformer.per_pixel import STRIDE

TEXT = torch.eye(2)
SEEN = torch.tensor([True, False])


class Halves(nn.Module):
    """Class 0 in the first column of cells, class 1 in the others, by a small margin."""

    def __init__(self) -> None:
        super().__init__()
        self.margin = nn.Parameter(torch.tensor(1.0))

    def forward(self, images, text):
        rows, columns = (-(-side // STRIDE) for side in images.shape[2:])
        logits = torch.zeros(1, 2, rows, columns)
        logits[:, 0, :, 0] = self.margin
        logits[:, 1, :, 1:] = self.margin
        return logits


def test_a_cell_is_four_pixels_wide_whatever_the_side():
    image = torch.zeros(3, 10, 6, dtype=torch.uint8)
    (labels,) = PixelSegmenter(Halves(), TEXT, SEEN).predict([image], [(10, 6)])
    assert labels.tolist() == [[0, 0, 0, 0, 1, 1]] * 10


def test_calibration_takes_from_seen_classes():
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    for gamma, share in ((-1.0, 0.5), (0.5, 1.0)):
        (labels,) = PixelSegmenter(Halves(), TEXT, SEEN, gamma=gamma).predict([image], [(8, 8)])
        assert labels.float().mean() == share


def test_a_named_pixel_has_its_score_before_the_calibration():
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    plain, _ = PixelSegmenter(Halves(), TEXT, SEEN).named(image, (8, 8))
    scores, labels = PixelSegmenter(Halves(), TEXT, SEEN, gamma=0.1).named(image, (8, 8))
    assert set(labels.unique().tolist()) == {0, 1}
    torch.testing.assert_close(scores, plain)
