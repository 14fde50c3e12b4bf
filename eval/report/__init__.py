"""A run as one HTML page that needs nothing but itself.

A page is a list of sections, and a section is a title and its HTML. Photos are fed in two steps, so
that a run of any length fits in memory: a `PhotoRow` of a few numbers for every photo, then a
`Strip` of pictures for those that `sample` picks out:

    chosen = sample(rows)
    strips = [photo_strip(id, image, pairs, masks) for id in chosen.ids]
    write("report.html", [summary(...), photos(rows, strips, note=chosen.rule)], title="pascal_k5")
"""

from eval.report.page import Section, render, write
from eval.report.sections import (
    PictureRow,
    configuration,
    photos,
    pictures,
    quarantine,
    solvers,
    summary,
    table,
)
from eval.report.strips import PhotoRow, Sample, Strip, photo_rows, photo_strip, sample

__all__ = [
    "PhotoRow",
    "PictureRow",
    "Sample",
    "Section",
    "SettingError",
    "Strip",
    "configuration",
    "photo_rows",
    "photo_strip",
    "photos",
    "pictures",
    "quarantine",
    "render",
    "sample",
    "solvers",
    "summary",
    "table",
    "write",
]
