"""Counts and percentages against `metric` (counts exact, percentages in points)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from eval.sazs.metrics import Tally, count
from tests.parity.case import Case, available
from tests.parity.golden import Golden

FILES = ("metric.npz",)
COUNTINGS = {"pascal": "reference_pascal", "coco": "reference_coco", "hsnet": "corrected"}
PERCENT = 1e-4


def cases(folder: Path) -> Iterator[Case]:
    golden = Golden.find(folder, "metric")
    if golden is not None:
        yield from available(_countings(golden))


def _countings(golden: Golden) -> Iterator[Case]:
    given, fold = golden.file, golden.info["class_ids"]
    for theirs, ours in COUNTINGS.items():
        tally, running = Tally(1 + max(*fold, *given["class_id"])), []
        areas = []
        for mask, prediction, class_id in zip(
            given["mask"], given["pred"], given["class_id"], strict=True
        ):
            truth, void = mask == class_id + 1, mask == 255
            areas.append(count(prediction.astype(bool), truth, void, counting=ours))
            tally.add(int(class_id), areas[-1])
            running.append(tally.miou(fold))
        yield golden.case(f"{theirs}_inter", np.array(areas)[:, 0], 0)
        yield golden.case(f"{theirs}_union", np.array(areas)[:, 1], 0)
        yield golden.case(f"{theirs}_running_miou", np.array(running), PERCENT)
        yield golden.case(f"{theirs}_miou", np.array(tally.miou(fold)), PERCENT)
        yield golden.case(f"{theirs}_class_iou", 100 * tally.class_iou(fold), PERCENT)
        yield golden.case(f"{theirs}_fb_iou", np.array(tally.fb_iou(fold)), PERCENT)
