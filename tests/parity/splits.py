"""Published splits: class ids, counts, the order of the lists, and the 1000 draws of COCO's test.

Errors count what differs. The lists themselves are not part of the goldens, so the draws run over
stand-ins of the published lengths: which class is drawn when, and how often the same photo comes
again, depends on the lengths alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from data.sazs.benchmark import FOLDS, ROLES
from data.sazs.episodes import draw
from data.sazs.published import published
from data.sazs.splits import BENCHMARKS, Lists
from data.trees.coco import COCO_20I as COCO
from tests.parity.case import Case, Entries, available

FILES = ("splits.json",)


def cases(folder: Path) -> Iterator[Case]:
    path = folder / "splits.json"
    if not path.exists():
        return
    golden = Entries(path.stem, json.loads(path.read_text()))
    for check in (_class_ids, _pascal, _coco_lists, _coco_draws):
        yield from available(check(golden))


def _class_ids(golden: Entries) -> Iterator[Case]:
    for name, folds in golden["class_ids"].items():
        wrong = sum(
            BENCHMARKS[name].class_ids(fold, role) != folds[f"fold{fold}"][role]
            for fold in range(FOLDS)
            for role in ROLES
        )
        yield Case(f"splits/class_ids/{name}", wrong, 0)


def _stand_ins(name: str) -> Lists:
    counts = {role: published()[name][role]["pairs"] for role in ROLES}
    return Lists(
        BENCHMARKS[name],
        {
            role: {c: [f"{c}/{i:05d}" for i in range(n)] for c, n in enumerate(counts[role])}
            for role in ROLES
        },
    )


def _pascal(golden: Entries) -> Iterator[Case]:
    lists = _stand_ins("pascal")
    for fold in range(FOLDS):
        expected = golden["pascal"][f"fold{fold}"]
        training, testing = lists.train_pairs(fold), lists.test_pairs(fold)
        wrong = abs(len(training) - expected["train_list"]["entries"])
        wrong += abs(len(testing) - expected["val_file"]["entries"])
        for pairs, key in ((training, "train_per_class"), (testing, "val_per_class")):
            found = Counter(str(pair.class_id) for pair in pairs)
            wrong += sum(abs(found[c] - n) for c, n in expected[key].items())
        yield Case(f"splits/pascal/fold{fold}/counts", wrong, 0)

        ends = expected["train_list"]["first"] + expected["train_list"]["last"]
        first_class, last_class = (int(end[-2:]) - 1 for end in (ends[0], ends[-1]))
        order = [training[0].class_id != first_class, training[-1].class_id != last_class]
        yield Case(f"splits/pascal/fold{fold}/order", sum(order), 0)
        hashes = [published()["pascal"][role]["sha256"][fold] for role in ROLES]
        golden_hashes = [expected[f"{role}_file"]["sha256_sorted"] for role in ROLES]
        yield Case(f"splits/pascal/fold{fold}/hashes", int(hashes != golden_hashes), 0)


def _coco_lists(golden: Entries) -> Iterator[Case]:
    wrong = 0
    for role in ROLES:
        ours = published()["coco"][role]
        for c in range(COCO.classes):
            expected = golden["coco_per_class"][str(c)][role]
            found = (ours["pairs"][c], ours["sha256"][c])
            wrong += found != (expected["entries"], expected["sha256_sorted"])
    yield Case("splits/coco/counts", wrong, 0)


def _coco_draws(golden: Entries) -> Iterator[Case]:
    lists = _stand_ins("coco")
    for fold in range(FOLDS):
        expected = golden["coco_test_draws"][f"fold{fold}"]
        held_out = COCO.class_ids(fold, "val")
        drawn = draw({c: lists.images["val"][c] for c in held_out})
        per_class = Counter(str(pair.class_id) for pair in drawn)
        wrong = sum(abs(per_class[c] - n) for c, n in expected["per_class"].items())
        wrong += abs(len(set(drawn)) - expected["distinct"])
        ends = [*expected["first"], *expected["last"]]
        drawn_ends = [*drawn[: len(expected["first"])], *drawn[-len(expected["last"]) :]]
        wrong += sum(
            pair.class_id != int(end.split()[0]) for pair, end in zip(drawn_ends, ends, strict=True)
        )
        yield Case(f"splits/coco/fold{fold}/draws", wrong, 0)
