"""A row of numbers for every image of a report, and a strip of thumbnails for a sample.

A strip holds 30 to 50 kB of data URIs; the arrays it was made from are no longer needed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from data.errors import SettingError
from eigen.pairs import Eigenpairs
from eigen.upsample import upsample_each
from eval import figures
from eval.report import thumbnails


@dataclass(frozen=True)
class PhotoRow:
    """The numbers of one image.

    Attributes
    ----------
    id : str
    size, grid : tuple of int
        (H, W) in pixels and (h, w) in nodes.
    eigenvalues, residual : tuple of float, length K
    solver : str
    seconds : float, optional
        Time that this image took; None if it was not measured.
    """

    id: str
    size: tuple[int, int]
    grid: tuple[int, int]
    eigenvalues: tuple[float, ...]
    residual: tuple[float, ...]
    solver: str
    seconds: float | None = None

    @classmethod
    def of(cls, photo_id: str, pairs: Eigenpairs, *, seconds: float | None = None) -> PhotoRow:
        """Row of an image from its eigenpairs."""
        return cls(
            id=photo_id,
            size=pairs.size,
            grid=pairs.grid,
            eigenvalues=tuple(pairs.eigenvalues.tolist()),
            residual=tuple(pairs.residual.tolist()),
            solver=pairs.solver,
            seconds=seconds,
        )

    @property
    def worst(self) -> float:
        """Largest residual of the K pairs; NaN if one of them is."""
        return float(np.max(self.residual))


def photo_rows(
    table: Mapping[str, np.ndarray], seconds: Mapping[str, float] | None = None
) -> list[PhotoRow]:
    """Rows of a shard's images from its columns (`Shard.table`), without reading the vectors.

    `seconds` is the time per image by id, where known.
    """
    names = ("id", "size", "grid", "eigenvalues", "residual", "solver")
    columns = [table[name].tolist() for name in names] if table else []
    return [
        PhotoRow(
            *(str(id), tuple(size), tuple(grid), tuple(values), tuple(residual), str(solver)),
            seconds=(seconds or {}).get(str(id)),
        )
        for id, size, grid, values, residual, solver in zip(*columns, strict=True)
    ]


@dataclass(frozen=True)
class Strip:
    """Thumbnails of one image as data URIs: the image, outlines, K eigenvectors, K masks.

    `coverage` is the share of the image that each mask covers, in [0, 1]. The page leaves out the
    pairs in `constant`, whose vectors show nothing. `note` says why image and outlines, and perhaps
    the masks, are empty.
    """

    id: str
    photo: str
    outlines: str
    vectors: tuple[str, ...]
    masks: tuple[str, ...]
    coverage: tuple[float, ...]
    constant: frozenset[int] = frozenset()
    note: str = ""


def photo_strip(
    photo_id: str,
    image: np.ndarray | None,
    pairs: Eigenpairs,
    masks: Iterable[np.ndarray],
    *,
    note: str = "",
) -> Strip:
    """Thumbnails of one image and its eigenpairs, in memory that does not grow with K.

    Parameters
    ----------
    image : ndarray, shape (H, W, 3), uint8, optional
        None where the image can no longer be shown; `note` says why.
    pairs : Eigenpairs
        K pairs of this image.
    masks : iterable of ndarray, shape (H', W'), bool
        One mask per pair, at any size with the proportions of the image; without an image also
        none.

    Raises
    ------
    SettingError
        Image, eigenpairs and masks do not match.
    """
    size = tuple(pairs.size) if image is None else image.shape[:2]
    small = thumbnails.shrink(np.zeros((*size, 3), np.uint8) if image is None else image)
    height, width = small.shape[:2]
    small_masks, coverage = [], []
    for mask in masks:
        small_masks.append(_nearest(mask, (height, width)))
        coverage.append(float(mask.mean()))
    counts = {0, pairs.k} if image is None else {pairs.k}
    if size != tuple(pairs.size) or len(small_masks) not in counts:
        raise SettingError(
            f"{photo_id}: expected an image of {pairs.size} pixels and {pairs.k} masks, as of its "
            f"eigenpairs, found {size} and {len(small_masks)}"
        )
    colours = figures.OUTLINES
    planes = upsample_each(pairs.vectors, pairs.size, cells=pairs.cells)
    return Strip(
        id=photo_id,
        photo="" if image is None else thumbnails.picture_uri(small),
        outlines="" if image is None else _outlines(small, small_masks),
        vectors=tuple(
            thumbnails.picture_uri(_vector_rgb(vector, pixels, (height, width)))
            for vector, pixels in zip(pairs.vectors, planes, strict=True)
        ),
        masks=tuple(
            thumbnails.mask_uri(mask, colours[k % len(colours)])
            for k, mask in enumerate(small_masks)
        ),
        coverage=tuple(coverage),
        constant=frozenset(k for k, vector in enumerate(pairs.vectors) if _is_constant(vector)),
        note=note,
    )


def _outlines(small: np.ndarray, masks: Sequence[np.ndarray]) -> str:
    return thumbnails.picture_uri(figures.outlines(small, np.stack(masks), width=2))


def _vector_rgb(vector: np.ndarray, pixels: np.ndarray, shown: tuple[int, int]) -> np.ndarray:
    # Upsampled to the image first, so that vectors and masks are aligned.
    return figures.vector_rgb(pixels, limit=figures.robust_limit(vector), size=shown)


def _is_constant(vector: np.ndarray) -> bool:
    """Up to rounding; the first vector of a connected graph is, and there is nothing to see."""
    return bool(np.ptp(vector) <= 1e-4 * np.abs(vector).max())


def _nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST) > 0


@dataclass(frozen=True)
class Sample:
    """Ids of images chosen for strips, ascending, and in words how they were chosen."""

    ids: tuple[str, ...]
    rule: str


def sample(rows: Iterable[PhotoRow], limit: int = 200) -> Sample:
    """Choose the images to show, the same for the same rows in any order.

    A quarter have the largest residuals (not finite counts as largest), up to a quarter are spaced
    evenly over the images of each solver, and the rest evenly over all, by id.

    Parameters
    ----------
    limit : int, >= 1
        Largest number of images; if there are fewer, all are chosen.
    """
    rows = sorted(rows, key=lambda row: row.id)
    if len(rows) <= limit:
        return Sample(tuple(row.id for row in rows), "")
    worst = sorted(rows, key=lambda row: -np.nan_to_num(row.worst, nan=np.inf))
    chosen = {row.id for row in worst[: max(1, limit // 4)]}
    by_solver = defaultdict(list)
    for row in rows:
        by_solver[row.solver].append(row)
    share = max(1, limit // 4 // len(by_solver))
    # Rare solvers first: common ones are also among the images that are chosen by other rules.
    for solver in sorted(by_solver, key=lambda name: (len(by_solver[name]), name)):
        room = min(share, limit - len(chosen))
        chosen.update(row.id for row in _evenly(by_solver[solver], room))
    rest = [row for row in rows if row.id not in chosen]
    chosen.update(row.id for row in _evenly(rest, limit - len(chosen)))
    return Sample(
        tuple(row.id for row in rows if row.id in chosen),
        f"Thumbnails are shown for {limit:,} of {len(rows):,} images: the {max(1, limit // 4)} "
        f"with the largest residuals, up to {share} of each solver, the rest evenly spaced by id. "
        "The table below lists all images.",
    )


def _evenly(rows: Sequence[PhotoRow], number: int) -> list[PhotoRow]:
    """`number` evenly spaced rows, the first and the last included; all if there are fewer."""
    if number >= len(rows):
        return list(rows)
    return [rows[i] for i in np.linspace(0, len(rows) - 1, number).round().astype(int)]
