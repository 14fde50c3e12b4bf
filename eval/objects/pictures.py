"""Draw objects, segments, names and joint eigenvectors, as images and as sections of a report.

Functions that end in `_rgb` return an image (H, W, 3) uint8 to be written as PNG; the others return
a section of a report. `eval.objects.cluster_pictures` draws clusters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import cv2
import numpy as np

from data.errors import SettingError
from data.pictures import IGNORE
from eigen.joint import JointEigenpairs
from eigen.leading import CONSTANT
from eigen.segments import Segments
from eigen.upsample import upsample
from eval import figures, report
from eval.report.page import Section

DARK = 0.4
"""Brightness of what lies around objects."""
_EDGE = 2
_GAP = ((_EDGE, _EDGE), (_EDGE, _EDGE), (0, 0))
LOW, HIGH = 2, 98
"""Percentiles of an eigenvector over all images of a joint graph that become 0 and 255."""


class DrawnObject(Protocol):
    """What `eigen.objects.ImageObject` and `eval.objects.scores.Found` share."""

    @property
    def mask(self) -> np.ndarray: ...
    @property
    def box(self) -> Sequence[float]: ...
    @property
    def score(self) -> float: ...


def objects_rgb(image: np.ndarray, objects: Sequence[DrawnObject]) -> np.ndarray:
    """The image, dark around the objects, with outline, box and score of each, (H, W, 3) uint8.

    Parameters
    ----------
    image : ndarray, shape (H, W, 3), uint8
    objects : sequence of ImageObject
        The first has the first colour of `eval.figures.OUTLINES`.
    """
    if not len(objects):
        return image.copy()
    masks = np.stack([one.mask for one in objects])
    dark = np.where(np.logical_or.reduce(masks)[..., None], image, np.uint8(DARK * image))
    width = max(1, min(image.shape[:2]) // 160)
    drawn = figures.outlines(dark, masks, width=2 * width)
    size = max(11, min(image.shape[:2]) // 16)
    for number, one in enumerate(objects):
        x, y, w, h = (round(side) for side in one.box)
        colour = figures.OUTLINES[number % len(figures.OUTLINES)]
        drawn = cv2.rectangle(drawn.copy(), (x, y), (x + w - 1, y + h - 1), colour, width)
        drawn = figures.draw_text(drawn, f"{one.score:.2f}", (x + 2 * size, y + size), size=size)
    return drawn


def objects_section(
    rows: Iterable[tuple[str, np.ndarray, Sequence[DrawnObject]]], *, title: str = "Objects"
) -> Section:
    """Images next to their objects.

    Parameters
    ----------
    rows : iterable of (id, image, objects)
        Consumed one by one.
    """
    caption = "Outline, box and confidence (0 to 1) of each object, the most confident first."
    drawn = (
        report.PictureRow(id, [image, objects_rgb(image, objects)], _counted(objects))
        for id, image, objects in rows
    )
    return report.pictures(title, ("image", "objects"), drawn, caption=caption)


def _counted(objects: Sequence[DrawnObject]) -> str:
    return f"{len(objects)} objects" if len(objects) > 1 else ("" if len(objects) else "no object")


def segments_rgb(
    image: np.ndarray, labels: np.ndarray, names: Mapping[int, str] | None = None
) -> np.ndarray:
    """The image with its segments coloured by number, and named if known, (H, W, 3) uint8."""
    return figures.label_overlay(
        image, labels, names, opacity=0.6, ignore=-1, colours=figures.OUTLINES
    )


def names_rgb(image: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The image with its named pixels coloured and named, (H, W, 3) uint8.

    Parameters
    ----------
    labels : ndarray, shape (H, W), uint8
        Index into `names`; 255 is without a name and stays as it is.
    """
    shown = np.where(labels == IGNORE, 0, labels.astype(np.int64) + 1)
    by_id = dict(enumerate(names, start=1))
    return figures.label_overlay(image, shown, by_id, background=0, ignore=-1)


def names_section(
    rows: Iterable[tuple[str, np.ndarray, np.ndarray, np.ndarray]],
    names: Sequence[str],
    *,
    title: str = "Named segments",
) -> Section:
    """Images next to their segments and the names of these.

    Parameters
    ----------
    rows : iterable of (id, image, segments, labels)
        Label maps (H, W): number of the segment, and index into `names` or 255. Consumed one by
        one.
    """
    drawn = (
        report.PictureRow(
            id,
            [image, segments_rgb(image, segments), names_rgb(image, labels, names)],
            ", ".join(names[i] for i in np.unique(labels) if i != IGNORE),
        )
        for id, image, segments, labels in rows
    )
    return report.pictures(title, ("image", "segments", "names"), drawn)


def joint_rgb(joint: JointEigenpairs) -> list[np.ndarray]:
    """The first three informative joint eigenvectors as red, green and blue, an image of each.

    Each channel is stretched once over all images, so a colour means the same in each of them.
    """
    first = _first_informative(joint)
    parts = [pairs.vectors[first : first + 3] for pairs in joint.images]
    rows = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
    low, high = np.percentile(rows, (LOW, HIGH), axis=1)
    span = np.where(high > low, high - low, 1)
    images = []
    for part, pairs in zip(parts, joint.images, strict=True):
        planes = upsample(part, pairs.size, cells=pairs.cells)
        image = np.full((*pairs.size, 3), 128, np.uint8)
        for channel, plane in enumerate(planes):
            scaled = np.clip((plane - low[channel]) / span[channel], 0, 1)
            image[..., channel] = np.rint(scaled * 255)
        images.append(image)
    return images


def joint_strip_rgb(
    images: Sequence[np.ndarray],
    joint: JointEigenpairs,
    segments: Sequence[Segments],
    *,
    height: int = 160,
) -> np.ndarray:
    """The images in a row, their joint eigenvectors and segments below them, (H, W, 3) uint8.

    Parameters
    ----------
    images : sequence of ndarray, shape (H, W, 3), uint8
        Those that `joint` was made of, in its order.
    segments : sequence of Segments
        From `eigen.joint.joint_segments`.
    height : int
        Of each tile in pixels.

    Raises
    ------
    SettingError
        Another number of images or segments than `joint` has, or images of another size.
    """
    _check_strip(images, joint, segments)
    labels = [segments_rgb(i, s.labels) for i, s in zip(images, segments, strict=True)]
    rows = [
        np.concatenate(
            [np.pad(_of_height(tile, height), _GAP, constant_values=255) for tile in row], 1
        )
        for row in (images, joint_rgb(joint), labels)
    ]
    return np.concatenate(rows)[_EDGE:-_EDGE, _EDGE:-_EDGE]


def joint_section(
    images: Sequence[np.ndarray],
    joint: JointEigenpairs,
    segments: Sequence[Segments],
    *,
    labels: Sequence[str] = (),
    title: str = "Joint graph",
) -> Section:
    """Each image with its part of the joint eigenvectors and segments; raises as `joint_strip_rgb`.

    Parameters
    ----------
    labels : sequence of str
        Of the images; by default their numbers.
    """
    _check_strip(images, joint, segments)
    first = _first_informative(joint)
    limits = [
        max(figures.robust_limit(pairs.vectors[k]) for pairs in joint.images)
        for k in range(first, joint.images[0].k)
    ]
    rows = []
    for number, (image, colours, pairs, part) in enumerate(
        zip(images, joint_rgb(joint), joint.images, segments, strict=True)
    ):
        planes = upsample(pairs.vectors[first:], pairs.size, cells=pairs.cells)
        vectors = [
            figures.vector_rgb(plane, limit=limit)
            for plane, limit in zip(planes, limits, strict=True)
        ]
        drawn = [image, colours, segments_rgb(image, part.labels), *vectors]
        rows.append(report.PictureRow(labels[number] if labels else str(number + 1), drawn))
    columns = ["image", "three vectors", "segments", *(f"k{first + k}" for k in range(len(limits)))]
    nodes = sum(pairs.grid[0] * pairs.grid[1] for pairs in joint.images)
    caption = (
        f"Eigenvectors of one graph over all {len(images)} images ({nodes:,} patches, solver "
        f"{joint.solver}, largest residual {joint.residual.max():.1e}). A colour has the same "
        "meaning in every image of a column."
    )
    return report.pictures(title, columns, rows, caption=caption)


def _first_informative(joint: JointEigenpairs) -> int:
    """1 if the first vector is constant over all images, else 0."""
    ends = [(part.vectors[0].min(), part.vectors[0].max()) for part in joint.images]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return int(high - low <= CONSTANT * max(abs(low), abs(high)))


def _check_strip(
    images: Sequence[np.ndarray], joint: JointEigenpairs, segments: Sequence[Segments]
) -> None:
    counts = {len(images), len(joint.images), len(segments)}
    sizes = [tuple(image.shape[:2]) for image in images]
    if len(counts) > 1 or sizes != [tuple(pairs.size) for pairs in joint.images]:
        raise SettingError(
            f"images: expected the {len(joint.images)} images of the joint graph, of "
            f"{[pairs.size for pairs in joint.images]} pixels; found {len(images)} of {sizes} and "
            f"segments of {len(segments)}"
        )


def _of_height(image: np.ndarray, height: int) -> np.ndarray:
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    how = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=how)
