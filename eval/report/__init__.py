"""Report a run as one self-contained HTML page.

A page is a list of sections, each a title and its HTML. Images are added in two steps, so that a
run of any length fits in memory: a `PhotoRow` of a few numbers for every image, then a `Strip` of
thumbnails for those that `sample` chooses:

    chosen = sample(rows)
    strips = [photo_strip(id, image, pairs, masks) for id in chosen.ids]
    write("report.html", [summary(...), photos(rows, strips, note=chosen.rule)], title="pascal_k5")
"""

from eval.report.page import Section, render, write
from eval.report.sections import (
    Link,
    PictureRow,
    configuration,
    facts,
    links,
    photos,
    pictures,
    quarantine,
    solvers,
    summary,
    table,
)
from eval.report.strips import PhotoRow, Sample, Strip, photo_rows, photo_strip, sample

__all__ = [
    "Link",
    "PhotoRow",
    "PictureRow",
    "Sample",
    "Section",
    "Strip",
    "configuration",
    "facts",
    "links",
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
