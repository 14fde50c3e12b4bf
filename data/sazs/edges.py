"""Edge maps from label maps: the pixels near an outline, inside or outside of it.

A pixel is near an outline if the disc around it holds more than one label, so two filters over the
label map find the edges of all classes at once; the published code computes two distance
transforms per class.
"""

from __future__ import annotations

from collections.abc import Collection

import cv2
import numpy as np


def reference_edges(labels: np.ndarray, classes: int, *, radius: int = 2) -> np.ndarray:
    """Edges as SAZS makes them: of the labels 0 to `classes` - 1, and along the image's frame.

    Background has its own outline; the last class (label `classes`) and void have none, but bound
    the others. A label that touches the frame has an edge there.

    Parameters
    ----------
    labels
        (H, W) uint8 or uint16.
    radius
        Largest distance to the outline, in pixels.

    Returns
    -------
    ndarray
        (H, W) uint8, 0 or 1.
    """
    nothing = int(np.iinfo(labels.dtype).max)
    outlined = np.where(labels < classes, labels, labels.dtype.type(nothing))
    return _mixed(outlined, radius, cv2.BORDER_CONSTANT, nothing)


def outlines(labels: np.ndarray, values: Collection[int], *, radius: int = 2) -> np.ndarray:
    """Edges of the given labels alone: (H, W) uint8, 0 or 1.

    Everything else, label 0 and void included, is background. The frame of the image is not an
    edge.
    """
    wanted = np.where(np.isin(labels, list(values)), labels, labels.dtype.type(0))
    return _mixed(wanted, radius, cv2.BORDER_REPLICATE, 0)


def _mixed(labels: np.ndarray, radius: int, border: int, outside: int) -> np.ndarray:
    """Where the disc around a pixel holds more than one label."""
    steps = np.arange(-radius, radius + 1)
    disc = (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.uint8)
    highest = cv2.dilate(labels, disc, borderType=border, borderValue=outside)
    lowest = cv2.erode(labels, disc, borderType=border, borderValue=outside)
    return (highest != lowest).astype(np.uint8)


def shrink_edges(edges: np.ndarray, factor: int, *, reference: bool = False) -> np.ndarray:
    """Reduce an edge map: a cell is an edge if any of its pixels is.

    With `reference`, as published, only the top left pixel of a cell counts, which loses every
    second edge at factor 8. (H, W) becomes (ceil(H / factor), ceil(W / factor)).
    """
    if reference:
        return edges[::factor, ::factor]
    height, width = edges.shape
    padded = np.pad(edges, ((0, -height % factor), (0, -width % factor)))
    return padded.reshape(-(-height // factor), factor, -(-width // factor), factor).max((1, 3))
