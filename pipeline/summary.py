"""The last lines of a run: what was done, what was set aside, where the results are."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pipeline.layout import Layout
from pipeline.stages.index import read_quarantine


def lines(layout: Layout, datasets: Iterable[str]) -> list[str]:
    """A few lines for each of some data sets whose index is written."""
    text = []
    for dataset in datasets:
        index, report = Path(layout.index(dataset)), Path(layout.report(dataset))
        if not (index.exists() and report.exists()):
            continue
        shards = json.loads(index.read_text())["shards"]
        done = sum(len(shard["ids"]) for shard in shards.values())
        set_aside = len(read_quarantine(Path(layout.quarantine(dataset))))
        text += [
            f"{dataset}: {done + set_aside} photos in, {done} done, {set_aside} in quarantine"
            + (f" ({layout.quarantine(dataset)})" if set_aside else ""),
            f"  eigenvectors  {index.parent}/ ({len(shards)} shards)",
            f"  masks         {layout.masks(dataset)}/",
            f"  report        {report}",
        ]
        results = Path(layout.results_root) / dataset
        text += _sazs(results / "sazs" / "summary.json")
        text += _zegformer(results / "zegformer" / "summary.json")
    return text


def _sazs(path: Path) -> list[str]:
    """Scores of the small SAZS of the demo, if it was trained."""
    if not path.exists():
        return []
    scores = json.loads(path.read_text())
    unseen = ", ".join(f"{name} {miou:.1f}" for name, miou in scores["unseen"].items())
    return [
        f"  SAZS          unseen mIoU: {unseen} (untrained {scores['untrained']:.1f})",
        f"                {path.with_name('report.html')}",
    ]


def _zegformer(path: Path) -> list[str]:
    """Scores of the small ZegFormer of the demo, if it was trained."""
    if not path.exists():
        return []
    scores = json.loads(path.read_text())
    names = {"seen_IoU": "seen", "unseen_IoU": "unseen", "hIoU": "harmonic"}
    shown = {
        answer: ", ".join(f"{name} {scores[answer][key]:.1f}" for key, name in names.items())
        for answer in ("zegformer", "untrained")
    }
    return [
        f"  ZegFormer     IoU: {shown['zegformer']} (untrained: {shown['untrained']})",
        f"                {path.with_name('report.html')}",
    ]
