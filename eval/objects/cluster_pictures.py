"""Draw the clusters of a data set's segments: what is in each, and how they match the classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data.errors import SettingError
from eval import figures
from eval.objects.boxes import context_box
from eval.report import thumbnails
from eval.report.page import Section
from eval.report.templates import fill

SIDE = 144
HEADING = 28
FADED = 0.3
"""Opacity of what lies around a segment."""


@dataclass(frozen=True, eq=False)
class Member:
    """A segment that is shown for its cluster: the id of its image, and its crop."""

    cluster: int
    label: str
    crop: np.ndarray


def segment_crop(image: np.ndarray, mask: np.ndarray, *, side: int = SIDE) -> np.ndarray:
    """The part of an image around a segment, its surroundings faded, (h, w, 3) uint8.

    Parameters
    ----------
    image : ndarray, shape (H, W, 3), uint8
    mask : ndarray, shape (H, W), bool
    side : int
        The longer side in pixels, at most.
    """
    part = context_box(mask)
    inside, shown = mask[part][..., None], image[part]
    faded = np.rint(FADED * shown + (1 - FADED) * np.float32(230)).astype(np.uint8)
    return thumbnails.shrink(np.where(inside, shown, faded), side)


def clusters_section(
    members: Iterable[Member], notes: Mapping[int, str], *, title: str = "Clusters"
) -> Section:
    """The segments of each cluster, a card per cluster.

    Parameters
    ----------
    members : iterable of Member
        In the order in which they are shown.
    notes : mapping of int to str
        What is known of each cluster, such as "cat; 120 segments"; clusters without members have
        a card too.
    """
    by_cluster = _by_cluster(members)
    cards = [
        (
            f"cluster {cluster}",
            notes.get(cluster, ""),
            [(one.label, thumbnails.picture_uri(one.crop)) for one in by_cluster.get(cluster, ())],
        )
        for cluster in sorted({*notes, *by_cluster})
    ]
    return Section(title, fill("gallery.html", cards=cards))


def clusters_rgb(members: Iterable[Member], notes: Mapping[int, str]) -> np.ndarray:
    """The segments of each cluster, a row per cluster under its number and note, (H, W, 3) uint8.

    Raises
    ------
    SettingError
        There is no cluster.
    """
    by_cluster = _by_cluster(members)
    bands = []
    for cluster in sorted({*notes, *by_cluster}):
        text = f"cluster {cluster}  {notes.get(cluster, '')}".rstrip()
        heading = np.full((HEADING, max(SIDE, 8 * len(text)), 3), 255, np.uint8)
        bands.append(figures.draw_text(heading, text, (0, HEADING // 2), size=13))
        if tiles := [one.crop for one in by_cluster.get(cluster, ())]:
            bands.append(figures.mosaic(tiles, columns=len(tiles), gap=4))
    if not bands:
        raise SettingError("clusters: expected at least one cluster, found none")
    width = max(band.shape[1] for band in bands)
    return np.concatenate(
        [
            np.pad(band, ((0, 0), (0, width - band.shape[1]), (0, 0)), constant_values=255)
            for band in bands
        ]
    )


def _by_cluster(members: Iterable[Member]) -> dict[int, list[Member]]:
    by_cluster: dict[int, list[Member]] = defaultdict(list)
    for member in members:
        by_cluster[member.cluster].append(member)
    return by_cluster


def confusion_rgb(
    table: np.ndarray, classes: Sequence[str], class_of_cluster: Sequence[int]
) -> np.ndarray:
    """Pixels of each class by cluster, as shares of the class, (H, W, 3) uint8.

    Parameters
    ----------
    table : ndarray, shape (classes, clusters), integer
        As `eval.objects.clusters.Confusion.table`.
    classes : sequence of str
        A name per row. Classes without pixels are left out.
    class_of_cluster : sequence of int
        Class that each cluster is matched with, -1 for none; columns are in this order.

    Raises
    ------
    SettingError
        Another number of names or matches than the table has rows or columns.
    """
    if (len(classes), len(class_of_cluster)) != table.shape:
        raise SettingError(
            f"confusion: expected {table.shape[0]} names and {table.shape[1]} matches, found "
            f"{len(classes)} and {len(class_of_cluster)}"
        )
    matches = np.asarray(class_of_cluster)
    order = np.argsort(np.where(matches < 0, len(classes), matches), kind="stable")
    rows: list[int] = np.flatnonzero(table.sum(axis=1)).tolist()
    columns: list[int] = order.tolist()
    shares = table[np.ix_(rows, columns)] / table[rows].sum(axis=1, keepdims=True)
    marked = [
        (rows.index(class_of_cluster[cluster]), column)
        for column, cluster in enumerate(columns)
        if class_of_cluster[cluster] in rows
    ]
    return _heat_map(shares, [classes[row] for row in rows], [str(c) for c in columns], marked)


def _heat_map(
    shares: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    marked: Iterable[tuple[int, int]],
) -> np.ndarray:
    """Shares as colours and percentages; marked cells are framed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(2.2 + 0.36 * len(columns), 0.9 + 0.3 * len(rows)), dpi=110)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_xlabel("cluster, by the class that it is matched with (framed)", fontsize=8)
    for row, column in np.argwhere(shares >= 0.005):
        share = shares[row, column]
        ink = "white" if share > 0.55 else "black"
        text = f"{100 * share:.0f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=ink)
    for row, column in marked:
        frame = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="#d55e00", lw=1.5)
        axes.add_patch(frame)
    figure.tight_layout()
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def confusion_section(
    table: np.ndarray,
    classes: Sequence[str],
    class_of_cluster: Sequence[int],
    *,
    title: str = "Confusion",
) -> Section:
    """The image of `confusion_rgb`, at its original size."""
    uri = thumbnails.picture_uri(confusion_rgb(table, classes, class_of_cluster))
    caption = "Percentage of the pixels of each class (row) in each cluster (column)."
    return Section(title, fill("figure.html", uri=uri, alt=title, caption=caption))
