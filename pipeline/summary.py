"""The last lines of a run: images done and quarantined, and where the results are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from data.errors import RunError
from data.sealed import read_json
from pipeline.layout import Layout
from pipeline.stages.index import read_quarantine


def lines(layout: Layout, datasets: Iterable[str]) -> list[str]:
    """A few lines for each data set whose index and report are written."""
    text, datasets = [], list(datasets)
    for dataset in datasets:
        index, report = Path(layout.index(dataset)), Path(layout.report(dataset))
        if not (index.exists() and report.exists()):
            continue
        try:
            shards = _read(index)["shards"]
            set_aside = len(read_quarantine(Path(layout.quarantine(dataset))))
        except RunError as error:
            text.append(f"{dataset}: {error}")
            continue
        done = sum(len(shard["ids"]) for shard in shards.values())
        text += [
            f"{dataset}: {done + set_aside} images in, {done} done, {set_aside} in quarantine"
            + (f" ({layout.quarantine(dataset)})" if set_aside else ""),
            f"  eigenvectors  {index.parent}/ ({len(shards)} shards)",
            f"  masks         {layout.masks(dataset)}/",
            f"  report        {report}",
        ]
        for name in ("discovery", "words"):
            if (page := Path(getattr(layout, name)(dataset))).exists():
                text.append(f"  {name:<14}{page}")
        results = Path(layout.results_root) / dataset
        for name, lines_of in (("sazs", _sazs), ("zegformer", _zegformer)):
            path = results / name / "summary.json"
            if path.exists():
                text += _lines_of_scores(path, lines_of)
    if "samples" in datasets and Path(layout.demo_page()).exists():
        text.append(f"all pages: {layout.demo_page()}")
    return text


def _read(path: Path) -> dict[str, Any]:
    return read_json(path, RunError, unsealed=("version", 1))


def _lines_of_scores(
    path: Path, lines_of: Callable[[Path, dict[str, Any]], list[str]]
) -> list[str]:
    try:
        return lines_of(path, _read(path))
    except RunError as error:
        return [f"  {error}"]


def _sazs(path: Path, scores: dict[str, Any]) -> list[str]:
    """Scores of the small SAZS of the demo."""
    unseen = ", ".join(f"{name} {miou:.1f}" for name, miou in scores["unseen"].items())
    return [
        f"  SAZS          unseen mIoU: {unseen} (untrained {scores['untrained']:.1f})",
        f"                {path.with_name('report.html')}",
    ]


def _zegformer(path: Path, scores: dict[str, Any]) -> list[str]:
    """Scores of the small ZegFormer of the demo."""
    names = {"seen_IoU": "seen", "unseen_IoU": "unseen", "hIoU": "harmonic"}
    shown = {
        answer: ", ".join(f"{name} {scores[answer][key]:.1f}" for key, name in names.items())
        for answer in ("zegformer", "untrained")
    }
    return [
        f"  ZegFormer     IoU: {shown['zegformer']} (untrained: {shown['untrained']})",
        f"                {path.with_name('report.html')}",
    ]
