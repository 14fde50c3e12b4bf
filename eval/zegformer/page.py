"""GZS3 scores as one page: metrics, classes, and example images with truth and prediction."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.text.vocabulary import Vocabulary
from data.zegformer.sets import Pair
from eval import report
from eval.figures import AGREEMENT, agreement, label_overlay
from eval.report import thumbnails
from eval.zegformer.metrics import class_figures, confusion

LEGEND = {
    "correct": AGREEMENT["true, or true positive"],
    "wrong": AGREEMENT["false positive"],
}
"""Colours of the last image of a case, which colour-blind readers can distinguish too."""

FIGURES = {
    "mIoU": "mIoU over labelled or predicted classes (as published)",
    "mIoU_labelled": "mIoU over labelled classes",
    "seen_IoU": "IoU of seen classes",
    "unseen_IoU": "IoU of unseen classes",
    "hIoU": "harmonic mean of seen and unseen IoU",
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
    """Scores each image, and keeps the best and the worst; handed to `scoring.score`.

    Parameters
    ----------
    photos : images that are drawn of either kind
    """

    def __init__(self, vocabulary: Vocabulary, *, photos: int = 6) -> None:
        self.vocabulary, self.photos = vocabulary, photos
        self.scores: list[ImageScore] = []
        self._best: list[tuple[float, int, report.PictureRow]] = []
        self._worst: list[tuple[float, int, report.PictureRow]] = []

    def __call__(
        self, pair: Pair, image: np.ndarray, label: np.ndarray, prediction: np.ndarray
    ) -> None:
        found = image_score(pair.id, label, prediction, self.vocabulary)
        if found is None:
            return
        place = -len(self.scores)  # of equal scores the first image is kept
        self.scores.append(found)
        row = None
        for heap, rank in ((self._best, found.miou), (self._worst, -found.miou)):
            if len(heap) < self.photos or (rank, place) > heap[0][:2]:
                row = row or self._row(found, image, label, prediction)
                add = heapq.heappush if len(heap) < self.photos else heapq.heapreplace
                add(heap, (rank, place, row))

    def _row(
        self, found: ImageScore, image: np.ndarray, label: np.ndarray, prediction: np.ndarray
    ) -> report.PictureRow:
        void = label == self.vocabulary.ignore
        # Id 0 would be black: colours start at 1.
        names = {c + 1: self.vocabulary.synonyms(c)[0] for c in range(len(self.vocabulary))}
        drawn = [image]
        for labels in (label, prediction):
            shown = np.where(void & (labels is label), 0, labels.astype(np.int64) + 1)
            drawn.append(label_overlay(image, shown, names, background=0, ignore=-1))
        right = label == prediction
        drawn.append(agreement(image, right, np.ones_like(right), void))
        note = f"mIoU {found.miou:.1f}, pixel accuracy {found.accuracy:.1f}"
        return report.PictureRow(found.id, [thumbnails.shrink(i, 640) for i in drawn], note)

    def joined(self, parts: Iterable[Examples]) -> Examples:
        """The examples of all parts of a data set, in their order."""
        whole = Examples(self.vocabulary, photos=self.photos)
        for part in parts:
            # An image's place is the negative of its number; parts are numbered consecutively.
            for heap, rows in ((whole._best, part._best), (whole._worst, part._worst)):
                heap += [(rank, place - len(whole.scores), row) for rank, place, row in rows]
            whole.scores += part.scores
        for heap in (whole._best, whole._worst):
            heap[:] = heapq.nlargest(self.photos, heap, key=lambda kept: kept[:2])
            heapq.heapify(heap)
        return whole

    def sections(self) -> Iterator[report.Section]:
        """Best and worst images, and the scores of all, the lowest first."""
        columns = ["image", "truth", "prediction", "correct and wrong"]
        for title, heap in (("Best images", self._best), ("Worst images", self._worst)):
            rows = [row for *_, row in sorted(heap, key=lambda kept: kept[:2], reverse=True)]
            yield report.pictures(title, columns, rows, legend=LEGEND)
        caption = "In percent, over the classes labelled or predicted in the image; lowest first."
        scores: list[list[str | float | None]] = [
            [found.id, found.miou, found.accuracy]
            for found in sorted(self.scores, key=lambda found: found.miou)
        ]
        columns = ["image", "mIoU", "pixel accuracy"]
        yield report.table("Images", columns, scores, caption=caption, noun="images")


@dataclass(frozen=True)
class ImageScore:
    """mIoU and pixel accuracy of one image, in percent."""

    id: str
    miou: float
    accuracy: float


def image_score(
    id: str, label: np.ndarray, prediction: np.ndarray, vocabulary: Vocabulary
) -> ImageScore | None:
    """Score of one image over its labelled or predicted classes; None where all is void."""
    counts = confusion(prediction, label, len(vocabulary), ignore=vocabulary.ignore)[:-1, :-1]
    both = np.diag(counts)
    union = counts.sum(0) + counts.sum(1) - both
    if not counts.sum():
        return None
    miou = 100 * float((both[union > 0] / union[union > 0]).mean())
    return ImageScore(id, miou, 100 * float(both.sum() / counts.sum()))


def write(
    path: Path,
    title: str,
    answers: Mapping[str, Mapping[str, float]],
    confusion: np.ndarray,
    vocabulary: Vocabulary,
    examples: Examples | None = None,
    about: Mapping[str, Any] | None = None,
    tested: Mapping[str, Any] | None = None,
) -> None:
    """Write the page.

    Parameters
    ----------
    answers : name of a way of answering -> its figures in percent
    confusion : of the first answer, for the table of classes
    about : what to show as configuration
    tested : what was scored, such as the weights and their training steps; None is "not recorded"
    """
    rows = [
        [text, *(_number(own.get(key)) for own in answers.values())]
        for key, text in FIGURES.items()
        if any(key in own for own in answers.values())
    ]
    sections = [report.table("Scores", ["metric", *answers], rows, caption="In percent.")]
    if tested:
        facts = {k: "not recorded" if v is None else str(v) for k, v in tested.items()}
        sections.insert(0, report.facts("What was tested", facts))
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
    columns = ["class", "in training", "IoU", "accuracy"]
    sections.append(report.table("Classes", columns, per_class, caption="In percent."))
    if examples is not None and examples.scores:
        sections += examples.sections()
    if about:
        sections.append(report.configuration(about))
    report.write(path, sections, title=title)


def _number(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)
