"""GZS3 scores as one page: figures, classes, and example images with truth and prediction."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data.text.vocabulary import Vocabulary
from data.zegformer.sets import Pair
from eval import report
from eval.figures import label_overlay
from eval.zegformer.metrics import class_figures

FIGURES = {
    "mIoU": "mIoU (divided by labelled or predicted classes, as published)",
    "mIoU_labelled": "mIoU (divided by labelled classes)",
    "seen_IoU": "IoU of seen classes",
    "unseen_IoU": "IoU of unseen classes",
    "hIoU": "harmonic mean of the two",
    "pACC": "pixel accuracy",
    "mACC": "mean accuracy",
    "fwIoU": "frequency-weighted IoU",
    "boundary_F": "boundary F",
}


def text_table(figures: Mapping[str, float]) -> str:
    """Figures in percent as lines of text, one column per test set ("{set}/" before the key)."""
    columns: dict[str, dict[str, float]] = {}
    for key, value in figures.items():
        name, _, figure = key.rpartition("/")
        columns.setdefault(name, {})[figure] = value
    keys = list(dict.fromkeys(key for column in columns.values() for key in column))
    labels = {key: FIGURES.get(key, key.replace("_", " ")) for key in keys}
    width = max(map(len, labels.values()))
    widths = {name: max(len(name), 8) for name in columns}
    lines = []
    if any(columns):
        lines.append(" " * width + "".join(f"  {name:>{widths[name]}}" for name in columns))
    for key in keys:
        cells = (
            f"{column[key]:>{widths[name]}.2f}" if key in column else " " * widths[name]
            for name, column in columns.items()
        )
        lines.append(f"{labels[key]:<{width}}  {'  '.join(cells)}")
    return "\n".join(lines)


class Examples:
    """Keeps the first scored images with truth and prediction; handed to `scoring.score`."""

    def __init__(self, vocabulary: Vocabulary, *, photos: int = 12) -> None:
        self.vocabulary, self.photos = vocabulary, photos
        self.rows: list[report.PictureRow] = []

    def __call__(
        self, pair: Pair, image: np.ndarray, label: np.ndarray, prediction: np.ndarray
    ) -> None:
        if len(self.rows) >= self.photos:
            return
        void = label == self.vocabulary.ignore
        # Id 0 would be black: colours start at 1.
        names = {c + 1: self.vocabulary.synonyms(c)[0] for c in range(len(self.vocabulary))}
        drawn = [image]
        for labels in (label, prediction):
            shown = np.where(void & (labels is label), 0, labels.astype(np.int64) + 1)
            drawn.append(label_overlay(image, shown, names, background=0, ignore=-1))
        self.rows.append(report.PictureRow(pair.id, drawn))


def write(
    path: Path,
    title: str,
    answers: Mapping[str, Mapping[str, float]],
    confusion: np.ndarray,
    vocabulary: Vocabulary,
    examples: Examples | None = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write the page.

    Parameters
    ----------
    answers : name of a way of answering -> its figures in percent
    confusion : of the first answer, for the table of classes
    about : what to show as configuration
    """
    rows = [
        [text, *(_number(own.get(key)) for own in answers.values())]
        for key, text in FIGURES.items()
        if any(key in own for own in answers.values())
    ]
    sections = [report.table("Scores", ["in percent", *answers], rows)]
    iou, accuracy = class_figures(confusion)
    per_class = [
        [
            name,
            "unseen" if c in vocabulary.unseen else "seen",
            _number(iou[c]),
            _number(accuracy[c]),
        ]
        for c, name in enumerate(vocabulary.names)
    ]
    sections.append(report.table("Classes", ["class", "", "IoU", "accuracy"], per_class))
    if examples is not None and examples.rows:
        columns = ["photo", "truth", "prediction"]
        sections.append(report.pictures("Photos", columns, examples.rows))
    if about:
        sections.append(report.configuration(about))
    report.write(path, sections, title=title)


def _number(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)
