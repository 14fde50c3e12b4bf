"""Edge maps from label maps: the pixels near an outline, inside or outside of it.

Whether a pixel is within a distance of an outline is a question of which labels a disc round it
holds, so two filters over the label map answer it for all classes together; the published code
transforms distances twice for every class.
"""

from __future__ import annotations

import cv2
import numpy as np


def edge_map(
    labels: np.ndarray, *, classes: int, mode: str = "corrected", radius: int = 2
) -> np.ndarray:
    """Mark the pixels within `radius` of the outline of a label below `classes`.

    Parameters
    ----------
    labels
        (H, W) uint8 or uint16.
    classes
        Labels from here on, such as void, have no outline of their own.
    mode
        "reference": as SAZS makes them. Background, label 0, has an outline too, and beyond the
        frame of the picture there is nothing, so labels that touch it have an edge there. (With
        the 20 published for PASCAL the last class, label 20, is left out.)
        "corrected": background has no outline, and the frame is none.

    Returns
    -------
    ndarray
        (H, W) bool.

    Raises
    ------
    ValueError
        There is no such mode.
    """
    if mode == "reference":
        nothing = int(np.iinfo(labels.dtype).max)
        outlined = np.where(labels < classes, labels, labels.dtype.type(nothing))
        border_type = cv2.BORDER_CONSTANT
    elif mode == "corrected":
        nothing = 0
        outlined = np.where(labels < classes, labels, labels.dtype.type(0))
        border_type = cv2.BORDER_REPLICATE
    else:
        raise ValueError(f"edges: expected the mode reference or corrected, found {mode!r}")
    steps = np.arange(-radius, radius + 1)
    disc = (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.uint8)
    highest = cv2.dilate(outlined, disc, borderType=border_type, borderValue=nothing)
    lowest = cv2.erode(outlined, disc, borderType=border_type, borderValue=nothing)
    return highest != lowest
