"""The kinds of section of a report: each function takes plain data and returns a `Section`."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from data.errors import SettingError
from eval.figures import RGB
from eval.report import spectrum, thumbnails
from eval.report.page import Section
from eval.report.strips import PhotoRow, Strip
from eval.report.templates import UNKNOWN, fill


def summary(
    *,
    photos: int,
    done: int,
    quarantined: int,
    seconds: float | None = None,
    facts: Mapping[str, str] | None = None,
    title: str = "Summary",
) -> Section:
    """Counts and speed of a run, then facts: versions, weights, machine, where the results are.

    The section warns if images are neither done nor quarantined, or counted twice.
    """
    return Section(
        title,
        fill(
            "summary.html",
            photos=photos,
            done=done,
            quarantined=quarantined,
            missing=photos - done - quarantined,
            seconds=seconds,
            speed=done / seconds if seconds else None,
            facts=facts or {},
        ),
    )


def photos(
    rows: Iterable[PhotoRow], strips: Iterable[Strip], *, note: str = "", title: str = "Images"
) -> Section:
    """Strips of some images, and the spectrum and the numbers of all, by id.

    Parameters
    ----------
    rows : iterable of PhotoRow
        Every image of the run, each id once.
    strips : iterable of Strip
        Thumbnails of some of them.
    note : str
        How these were chosen (`Sample.rule`).

    Raises
    ------
    SettingError
        An id occurs twice, or a strip has no row with as many eigenvectors.
    """
    rows = sorted(rows, key=lambda row: row.id)
    index = {row.id: number for number, row in enumerate(rows)}
    if len(index) != len(rows):
        raise SettingError(
            f"report: expected one row per image, found {len(rows)} rows with {len(index)} ids"
        )
    cards = []
    for strip in sorted(strips, key=lambda strip: strip.id):
        if strip.id not in index or len(strip.vectors) != len(rows[index[strip.id]].eigenvalues):
            raise SettingError(
                f"{strip.id}: expected a row of {len(strip.vectors)} eigenpairs, as in its strip; "
                "make row and strip from the same eigenpairs"
            )
        row = rows[index[strip.id]]
        cards.append((index[strip.id], row, strip, spectrum.stems(row.eigenvalues)))
    spreads, top = _spreads(rows)
    return Section(
        title,
        fill(
            "photos.html",
            rows=rows,
            cards=cards,
            note=note,
            spreads=spreads,
            top=top,
            data=_compact(rows),
        ),
        filterable=bool(rows),
        ordered=bool(rows),
    )


def _spreads(rows: Sequence[PhotoRow]) -> tuple[list[spectrum.Spread], float]:
    k = max((len(row.eigenvalues) for row in rows), default=0)
    table = np.full((len(rows), k), np.nan)
    for number, row in enumerate(rows):
        table[number, : len(row.eigenvalues)] = row.eigenvalues
    return spectrum.spreads(table)


def _compact(rows: Sequence[PhotoRow]) -> dict[str, Any]:
    """Rows as the page's script reads them, with as many digits as it shows."""
    solver_names = sorted({row.solver for row in rows})
    return {
        "solvers": solver_names,
        "rows": [
            [
                row.id,
                *row.size,
                *row.grid,
                [_rounded(x, 4) for x in row.eigenvalues],
                _rounded(row.worst, 2),
                solver_names.index(row.solver),
                None if row.seconds is None else _rounded(row.seconds, 3),
            ]
            for row in rows
        ],
    }


def _rounded(number: float, digits: int) -> float | None:
    return float(f"{number:.{digits - 1}e}") if math.isfinite(number) else None


def solvers(rows: Iterable[PhotoRow], *, title: str = "Solvers") -> Section:
    """Number of images, largest and median residual, and time of each solver."""
    by_solver = defaultdict(list)
    for row in rows:
        by_solver[row.solver].append(row)
    lines = []
    for solver, members in sorted(by_solver.items(), key=lambda item: -len(item[1])):
        worst = np.array([row.worst for row in members])
        times = [row.seconds for row in members if row.seconds is not None]
        lines.append(
            {
                "solver": solver,
                "photos": len(members),
                "largest": float(worst.max()),
                "median": float(np.median(worst)),
                "seconds": sum(times) if len(times) == len(members) else None,
                "each": float(np.median(times)) if times else None,
            }
        )
    return Section(title, fill("solvers.html", lines=lines))


def quarantine(rows: Iterable[tuple[str, str, str]], *, title: str = "Quarantine") -> Section:
    """Quarantined images, (id, stage, reason) each, in the order given."""
    rows = list(rows)
    return Section(title, fill("quarantine.html", rows=rows), filterable=bool(rows))


def configuration(settings: Mapping[str, Any], *, title: str = "Configuration") -> Section:
    """A resolved configuration, collapsed; nested keys are joined by dots."""
    return Section(title, fill("configuration.html", settings=list(_flat(settings))))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, setting in settings.items():
        if isinstance(setting, Mapping) and setting:
            yield from _flat(setting, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(setting, ensure_ascii=False, default=str)


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str | float | None]],
    *,
    caption: str = "",
    digits: int = 2,
    noun: str = "",
) -> Section:
    """A table, for example of scores.

    Parameters
    ----------
    rows : iterable of sequences as long as `columns`
        The first cell names the row. A float is shown with `digits` decimals, None as a dash.
    caption : str
        What the numbers are, and their unit.
    noun : str
        What the rows are, such as "images". A table with it is shown a part at a time, and the
        filter box searches it.

    Raises
    ------
    SettingError
        A row has another length than `columns`.
    """
    rows = [list(row) for row in rows]
    for row in rows:
        if len(row) != len(columns):
            raise SettingError(
                f"table {title!r}: row {row[0] if row else row!r} has {len(row)} cells, "
                f"expected one for each of {list(columns)}"
            )
    cells = [[_cell(cell, digits) for cell in row] for row in rows]
    numeric = [any(row[n][1] for row in cells) for n in range(len(columns))]
    content = fill(
        "table.html", columns=columns, rows=cells, numeric=numeric, caption=caption, noun=noun
    )
    return Section(title, content, filterable=bool(noun and rows))


def facts(title: str, named: Mapping[str, str]) -> Section:
    """A table of named facts in two columns; long paths in it wrap."""
    return Section(title, fill("facts.html", facts=named))


def _cell(cell: str | float | None, digits: int) -> tuple[str, bool]:
    """Text of a cell, and whether it is aligned as a number."""
    if cell is None:
        return UNKNOWN, True
    if isinstance(cell, str):
        return cell, False
    return (f"{cell:,}" if isinstance(cell, Integral) else f"{cell:.{digits}f}"), True


PICTURE_SIDE = 420
"""Pixels of the longer side of the images of a `PictureRow`."""


@dataclass(frozen=True)
class PictureRow:
    """Images of one example, (H_i, W_i, 3) uint8 each, with its name and a note.

    `captions`, one per image if there are any, follow the headings of the columns.
    """

    label: str
    images: Sequence[np.ndarray]
    note: str = ""
    captions: Sequence[str] = ()


def pictures(
    title: str,
    columns: Sequence[str],
    rows: Iterable[PictureRow],
    *,
    caption: str = "",
    legend: Mapping[str, RGB] | None = None,
) -> Section:
    """One row of images per example, with a common heading for each column.

    Parameters
    ----------
    columns : sequence of str
        Headings, such as image, truth, network, fused.
    rows : iterable of PictureRow
        Consumed one by one; only the encoded thumbnails are kept.
    legend : mapping from class name to colour, optional

    Raises
    ------
    SettingError
        A row has another number of images than `columns`.
    """
    lines = []
    for row in rows:
        if len(row.images) != len(columns):
            raise SettingError(
                f"images {title!r}: {row.label} has {len(row.images)} images, "
                f"expected one for each of {list(columns)}"
            )
        small = (thumbnails.picture_uri(thumbnails.shrink(i, PICTURE_SIDE)) for i in row.images)
        captions = row.captions or [""] * len(columns)
        lines.append((row.label, row.note, list(zip(small, captions, strict=True))))
    return Section(
        title,
        fill("pictures.html", columns=columns, lines=lines, caption=caption, legend=legend or {}),
    )


@dataclass(frozen=True)
class Link:
    """Another page: its address, title, a sentence on it, and the data URI of an image or ""."""

    href: str
    title: str
    text: str
    picture: str = ""


def links(title: str, items: Sequence[Link]) -> Section:
    """Links to other pages, each as a card."""
    return Section(title, fill("links.html", links=items))
