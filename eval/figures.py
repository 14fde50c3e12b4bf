"""Draw eigenvectors, masks, label maps, text and mosaics as images.

Every function takes and returns images as (H, W, 3) uint8 RGB and leaves its input unchanged.
Nothing here opens a window or writes a file.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from data.errors import SettingError
from data.pictures import IGNORE
from data.text.vocabulary import palette

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

RGB = tuple[int, int, int]

MISSING: RGB = (128, 128, 128)
SPECK = 0.001
"""Share of an image below which a class is not named in `label_overlay`."""
VOID: RGB = (224, 224, 192)  # the colour PASCAL VOC gives its void pixels

# Okabe & Ito's colours, which colour-blind readers can distinguish; no black, lost in dark images.
OUTLINES: tuple[RGB, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
)


def vector_rgb(
    vector: np.ndarray, *, limit: float | None = None, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Colour an eigenvector with a diverging map that is white at 0.

    Parameters
    ----------
    vector : ndarray, shape (h, w), float
    limit : float, > 0, optional
        Absolute value of the last colours. By default `robust_limit(vector)`.
    size : (H, W), optional
        Size of the image; values are interpolated before they are coloured. By default (h, w).

    Returns
    -------
    ndarray, shape (h, w, 3) or (H, W, 3), uint8
        Blue below 0, red above; NaN is grey.
    """
    limit = robust_limit(vector) if limit is None else limit
    if size is not None:
        shrinks = size[0] < vector.shape[0] or size[1] < vector.shape[1]
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        vector = cv2.resize(vector.astype(np.float32), size[::-1], interpolation=how)
    scaled = np.nan_to_num(np.clip(vector / limit, -1, 1))
    colours = _diverging()[np.rint((scaled + 1) * 127).astype(np.uint8)]
    colours[np.isnan(vector)] = MISSING
    return colours


def robust_limit(vector: np.ndarray, *, percentile: float = 99.0) -> float:
    """The `percentile` of the absolute values, but never 0.

    If that is 0, because few nodes have other values, it is the largest magnitude, and 1 for a
    vector of zeros.
    """
    magnitude = np.abs(vector[np.isfinite(vector)])
    if magnitude.size == 0:
        return 1.0
    return float(np.percentile(magnitude, percentile) or magnitude.max() or 1.0)


@functools.cache
def _diverging() -> np.ndarray:
    from matplotlib import colormaps

    colours = np.rint(colormaps["RdBu_r"](np.linspace(0, 1, 255))[:, :3] * 255).astype(np.uint8)
    colours.flags.writeable = False
    return colours


def outlines(
    image: np.ndarray, masks: np.ndarray, *, colours: Sequence[RGB] = OUTLINES, width: int = 1
) -> np.ndarray:
    """Draw the border of each mask over an image, mask k in the k-th colour (cyclic).

    Parameters
    ----------
    image : ndarray, shape (H, W, 3), uint8
    masks : ndarray, shape (K, H, W), bool
        The frame of the image is not a border: a mask that covers all of it draws nothing.
    width : int
        Width of the line in pixels, inside the mask; a half transparent dark rim of one pixel next
        to it keeps it visible on any background.

    Raises
    ------
    SettingError
        `masks` do not have the size of `image`.
    """
    if masks.ndim != 3 or masks.shape[1:] != image.shape[:2]:
        raise SettingError(
            f"masks: expected shape (K, *{image.shape[:2]}) of the image, found {masks.shape}; "
            "upsample them first"
        )
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    lines = [
        np.logical_xor(mask, cv2.erode(mask.astype(np.uint8), cross, iterations=width))
        for mask in masks
    ]
    rims = cv2.dilate(np.any(lines, axis=0).astype(np.uint8), cross) > 0
    drawn = np.where(rims[..., None], image // 2, image)
    for k, line in enumerate(lines):
        drawn[line] = colours[k % len(colours)]
    return drawn


AGREEMENT: dict[str, RGB] = {
    "true, or true positive": (0, 114, 178),
    "false positive": (213, 94, 0),
    "false negative": (240, 228, 66),
}
"""Colours of `agreement`, which colour-blind readers can distinguish too."""


def agreement(
    image: np.ndarray,
    truth: np.ndarray,
    prediction: np.ndarray,
    void: np.ndarray | None = None,
    *,
    opacity: float = 0.7,
) -> np.ndarray:
    """Fill what a predicted mask found, claimed falsely and missed, in the colours of `AGREEMENT`.

    Parameters
    ----------
    image : ndarray, shape (H, W, 3), uint8
        Shown in grey, so that no colour of it is taken for a fill.
    truth, prediction, void : ndarray, shape (H, W), bool
        Pixels of `void` count as neither and stay grey.

    Raises
    ------
    SettingError
        The masks have not the size of `image`.
    """
    if truth.shape != image.shape[:2] or prediction.shape != truth.shape:
        raise SettingError(
            f"masks of shapes {truth.shape} and {prediction.shape}: expected {image.shape[:2]}, "
            "the size of the image"
        )
    drawn = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    counted = np.ones(truth.shape, bool) if void is None else ~void
    parts = (truth & prediction, ~truth & prediction, truth & ~prediction)
    for part, colour in zip(parts, AGREEMENT.values(), strict=True):
        where = part & counted
        drawn[where] = np.rint((1 - opacity) * drawn[where] + opacity * np.array(colour))
    return drawn


def label_colour(label: int) -> RGB:
    """Colour of one class id in `label_rgb`."""
    red, green, blue = label_rgb(np.array([[label]]), ignore=None)[0, 0]
    return int(red), int(green), int(blue)


def label_rgb(labels: np.ndarray, *, ignore: int | None = IGNORE) -> np.ndarray:
    """Colour a label map (H, W) by `data.text.vocabulary.palette`, and `ignore` as void."""
    colours = palette(labels)
    if ignore is not None:
        colours[labels == ignore] = VOID
    return colours


def label_overlay(
    image: np.ndarray,
    labels: np.ndarray,
    names: Mapping[int, str] | None = None,
    *,
    opacity: float = 0.55,
    background: int | None = None,
    ignore: int = IGNORE,
    colours: Sequence[RGB] | None = None,
) -> np.ndarray:
    """Lay a label map over its image, and write each class's name inside its largest region.

    A thin white line separates neighbouring classes, whose colours may be similar. A class that
    covers less than `SPECK` of the image is coloured but not named.

    Parameters
    ----------
    image : ndarray, shape (H, W, 3), uint8
    labels : ndarray, shape (H, W), integer
    names : mapping from class id to name, optional
        A class without a name is coloured only.
    opacity : float in [0, 1]
    background : int, optional
        Class that, like `ignore`, is neither coloured nor named.
    colours : sequence of RGB, optional
        That of id n is entry n, cyclic; by default the palette of `label_rgb`.
    """
    shown = labels != ignore
    if background is not None:
        shown &= labels != background
    if colours is None:
        fill = label_rgb(labels, ignore=ignore)
    else:
        fill = np.array(colours, np.uint8)[labels % len(colours)]
    blend = (1 - opacity) * image + opacity * fill
    drawn = np.where(shown[..., None], np.rint(blend).astype(np.uint8), image)
    drawn[_between(labels, shown)] = 255
    # By the width, which a page fixes: thumbnails of all images have letters of one size.
    size = max(11, min(image.shape[1] // 20, 40))
    present, areas = np.unique(labels[shown], return_counts=True)
    for label in present[areas >= SPECK * labels.size].tolist():
        if names and label in names:
            drawn = draw_text(drawn, names[label], _deepest(labels == label), size=size)
    return drawn


def _between(labels: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Pixels next to a pixel of another class, where both classes are shown."""
    border = np.zeros(labels.shape, bool)
    for near, far in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        border[near] |= (labels[near] != labels[far]) & shown[near] & shown[far]
    thickness = max(1, min(labels.shape) // 320)
    thick = cv2.dilate(border.astype(np.uint8), np.ones((thickness, thickness), np.uint8))
    return (thick > 0) & shown


def _deepest(mask: np.ndarray) -> tuple[int, int]:
    """(x, y) of the pixel that lies deepest inside a mask."""
    # The frame counts as border: a name at the edge of the image would be cut.
    depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(np.argmax(depth), depth.shape)
    return int(x), int(y)


def draw_text(
    image: np.ndarray, text: str, centre: tuple[int, int], *, size: int = 14
) -> np.ndarray:
    """Write white text on a dark plate, shifted to lie within the image if it fits.

    Parameters
    ----------
    centre : (x, y) in pixels
    size : int
        Height of the letters in pixels.
    """
    from PIL import Image, ImageDraw

    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture, "RGBA")
    font, pad = _font(size), max(2, size // 4)
    width, height = round(font.getlength(text)) + 3 * pad, sum(font.getmetrics()) + pad
    x = max(0, min(centre[0] - width // 2, picture.width - width))
    y = max(0, min(centre[1] - height // 2, picture.height - height))
    draw.rounded_rectangle((x, y, x + width - 1, y + height - 1), radius=pad, fill=(0, 0, 0, 165))
    draw.text((x + width / 2, y + height / 2), text, (255, 255, 255), font, anchor="mm")
    return np.asarray(picture)


@functools.cache
def _font(size: int) -> FreeTypeFont:
    # The only typeface that comes with a dependency, and has letters beyond ASCII.
    from PIL import ImageFont

    # Found without importing matplotlib, which takes as long as a prediction.
    spec = importlib.util.find_spec("matplotlib")
    folder = Path(str(spec and spec.origin)).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(folder / "DejaVuSans.ttf", size)


def _caption(cell: np.ndarray, text: str, size: int) -> np.ndarray:
    from PIL import Image, ImageDraw

    picture = Image.fromarray(cell)
    ink = (235, 235, 235) if cell.mean() < 128 else (40, 40, 40)
    centre = (picture.width / 2, picture.height / 2)
    ImageDraw.Draw(picture).text(centre, text, ink, _font(size), anchor="mm")
    return np.asarray(picture)


def mosaic(
    tiles: Sequence[np.ndarray],
    *,
    columns: int,
    captions: Sequence[str] = (),
    gap: int = 8,
    background: RGB = (255, 255, 255),
) -> np.ndarray:
    """Arrange images in rows, each centred in a cell of the size of the largest, captions below.

    Parameters
    ----------
    tiles : sequence of ndarray, shape (H_i, W_i, 3), uint8, at least one
    captions : sequence of str
        One per tile, or none at all.
    gap : int
        Pixels between cells and around them.

    Raises
    ------
    SettingError
        No tiles, no columns, or another number of captions than of tiles.
    """
    if not tiles or columns < 1:
        raise SettingError(
            f"mosaic: expected at least one tile and column, found {len(tiles)} and {columns}"
        )
    if captions and len(captions) != len(tiles):
        raise SettingError(
            f"captions: expected one per tile ({len(tiles)}) or none, found {len(captions)}"
        )
    cell_h = max(tile.shape[0] for tile in tiles)
    cell_w = max(tile.shape[1] for tile in tiles)
    letters = max(11, cell_h // 16)
    band = 2 * letters if captions else 0
    rows = -(-len(tiles) // columns)
    columns = min(columns, len(tiles))
    height, width = rows * (cell_h + band + gap) + gap, columns * (cell_w + gap) + gap
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = background
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        top, left = gap + row * (cell_h + band + gap), gap + column * (cell_w + gap)
        h, w = tile.shape[:2]
        y, x = top + (cell_h - h) // 2, left + (cell_w - w) // 2
        canvas[y : y + h, x : x + w] = tile
        if captions:
            below = canvas[top + cell_h : top + cell_h + band, left : left + cell_w]
            below[:] = _caption(below, captions[index], letters)
    return canvas
