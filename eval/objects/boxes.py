"""Boxes around masks."""

from __future__ import annotations

import numpy as np

CONTEXT = 0.15
"""Margin around a mask that a crop shows, as a share of the mask's sides."""


def context_box(mask: np.ndarray, context: float = CONTEXT) -> tuple[slice, slice]:
    """Rows and columns of the box of a mask (H, W) with a margin; all of them if it is empty."""
    spans = []
    for axis, length in enumerate(mask.shape):
        lines = np.flatnonzero(mask.any(axis=1 - axis))
        if not len(lines):
            return slice(0, mask.shape[0]), slice(0, mask.shape[1])
        first, last = int(lines[0]), int(lines[-1]) + 1
        margin = round(context * (last - first))
        spans.append(slice(max(0, first - margin), min(length, last + margin)))
    return spans[0], spans[1]
