"""From a picture to a mask, without a label.

Nothing here, and nothing it calls, takes a label: a prediction cannot depend on one.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn import functional as F

INPUT = 512  # pixels per side of the published network input, whatever the photo's proportion


def resized(image: Tensor, side: int | None) -> Tensor:
    """(B, 3, H, W) squashed to a square, bilinearly and without antialiasing; None leaves it."""
    if side is None:
        return image
    return F.interpolate(image, size=(side, side), mode="bilinear", align_corners=False)


def enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, h, w) brought to the label's size, as Pillow's bilinear filter does."""
    # Pillow widens its filter when it makes maps smaller; torch calls that antialiasing.
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False, antialias=True)


def margin(log_prob: Tensor) -> np.ndarray:
    """Log-odds of the class against "others", (H, W) float32, from (1, 2, H, W).

    The class is predicted where the margin is above 0; a tie goes to "others".
    """
    return (log_prob[0, 1] - log_prob[0, 0]).cpu().numpy()
