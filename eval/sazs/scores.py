"""A test of SAZS, from weights to files: `scores.json`, a table, and a page with images.

The parameters of the fusion come from validation items of seen classes, where those have
eigenvectors; otherwise they are the method's defaults, and the result records that.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from data import weight_files
from data.files import without_nan
from data.sazs.folds import Fold, Item
from data.sealed import write_json
from eigen.store.maps import EigenFolder
from eval import report
from eval.figures import AGREEMENT, agreement
from eval.sazs import fusion, oracle
from eval.sazs.fusion import Method
from eval.sazs.scoring import (
    Counts,
    answer_figures,
    bootstrap,
    count_answers,
    figures,
    margins,
)
from eval.sazs.segmenter import SazsSegmenter

log = logging.getLogger(__name__)

SCORES, PAGE = "scores.json", "report.html"
FEWEST_TUNED = 20  # validation items; parameters from fewer would be chance


@dataclass(frozen=True)
class Subject:
    """What is scored, and with what.

    Attributes
    ----------
    names : class names by id
    texts : (1 + classes, 512), row 0 "others"
    eigen : eigenvectors, or None to score the network alone
    method : name of the fusion, see `eval.sazs.fusion.tune`
    """

    fold: Fold
    segmenter: SazsSegmenter
    names: Sequence[str]
    texts: Tensor
    eigen: EigenFolder | None = None
    method: str = fusion.AUTO


def tuned(subject: Subject, *, most: int = 300) -> tuple[Method, dict[str, Any]]:
    """The fusion with parameters chosen on seen classes, and how they were chosen."""
    items = [
        item for item in subject.fold.validation if subject.eigen and item.photo in subject.eigen
    ]
    if len(items) < FEWEST_TUNED:
        log.warning(
            "%d validation items of seen classes have eigenvectors, too few to tune on: "
            "the fusion keeps its default parameters",
            len(items),
        )
        return fusion.method(subject.method), {"tuned_on": 0}
    if len(items) > most:
        items = [items[i] for i in np.linspace(0, len(items) - 1, most).astype(int)]

    def samples():
        for _, item, margin, maps in margins(
            items, subject.segmenter, subject.texts, subject.eigen
        ):
            yield margin, maps, *item.read_truth(margin.shape), item.class_id

    chosen, miou = fusion.tune(subject.method, samples(), classes=subject.fold.benchmark.classes)
    return chosen, {"tuned_on": len(items), "seen_miou": miou}


def run(
    subject: Subject,
    out: Path,
    *,
    about: Mapping[str, Any],
    pictures: int = 6,
    seen: bool = False,
) -> dict[str, Any]:
    """Score the held-out fold and write the results to `out`.

    Parameters
    ----------
    about : what to record next to the scores: weights, recipe, command
    pictures : number of best, worst, most gained and most lost items to show
    seen : also score the seen classes of the test images (one pass, corrected counting)

    Returns
    -------
    dict
        The content of `scores.json`.
    """
    fold = subject.fold
    fuse, how = tuned(subject) if subject.eigen else (fusion.method(subject.method), {})
    counts = _counts(subject, fold.test, fuse)
    left_out = [(p.image, p.reason) for p in fold.problems if p.role == "val"] + counts.unread
    results: dict[str, Any] = {
        "benchmark": fold.benchmark.name,
        "fold": fold.number,
        "items": int(counts.scored.sum()),
        "left_out": left_out,
        "unseen": [subject.names[c] for c in fold.unseen],
        "fusion": None,
        "eigenvectors": None,
        "scores": figures(counts, fold, subject.names),
        "fused_minus_network": None,
        "about": dict(about),
    }
    if subject.eigen:
        name = fusion.name_of(fuse) if subject.method == fusion.AUTO else subject.method
        results |= {
            "fusion": {"method": name, **asdict(fuse), **how},  # type: ignore[call-overload]
            "eigenvectors": str(subject.eigen.folder),
            "fused_minus_network": bootstrap(counts),
        }
    if seen:
        found = _counts(subject, fold.seen_test, fuse)
        once = np.ones(len(fold.seen_test), np.int64)
        results["seen"] = answer_figures(found, "corrected", once, fold, subject.names)
    write_json(out / SCORES, without_nan(results))
    write_page(subject, counts, results, fuse, out / PAGE, pictures=pictures)
    return results


def _counts(subject: Subject, items: Sequence[Item], fuse: Method) -> Counts:
    return count_answers(
        items,
        subject.segmenter,
        subject.texts,
        reference=f"reference_{subject.fold.benchmark.name}",
        eigen=subject.eigen,
        fusion=fuse,
    )


def table(results: Mapping[str, Any]) -> list[list[str | float]]:
    """Rows of (protocol, counting, answer, mIoU, FB-IoU, boundary F)."""
    return [
        [protocol, counting, name, found["miou"], found["fb_iou"], found["boundary_f"]]
        for protocol, countings in results["scores"].items()
        for counting, answers in countings.items()
        for name, found in answers.items()
    ]


COLUMNS = ("protocol", "counting", "answer", "mIoU", "FB-IoU", "boundary F")


def text_table(results: Mapping[str, Any]) -> str:
    """The table for a terminal, and the gain of the fusion below it."""
    widths = (10, 18, 20)
    lines = []
    for row in [list[str | float](COLUMNS), *table(results)]:
        words = "".join(f"{row[i]:<{width}}" for i, width in enumerate(widths))
        numbers = (cell if isinstance(cell, str) else f"{cell:.2f}" for cell in row[3:])
        lines.append(words + "".join(f"{number:>12}" for number in numbers))
    if gain := results["fused_minus_network"]:
        lines.append(
            f"fused - network: {gain['gain']:+.2f} mIoU, 95 % of resampled tests between "
            f"{gain['low']:+.2f} and {gain['high']:+.2f}"
        )
    return "\n".join([*lines, scope(results)])


def scope(results: Mapping[str, Any]) -> str:
    """What the scores were computed on: items, and images that were left out."""
    text = f"{results['items']} items"
    if results["left_out"]:
        first, reason = results["left_out"][0]
        text += f"; {len(results['left_out'])} images left out (first: {first}: {reason})"
    return text


def write_page(
    subject: Subject,
    counts: Counts,
    results: Mapping[str, Any],
    fuse: Method,
    path: Path,
    *,
    pictures: int,
) -> None:
    """Scores, scores per class, and images of the best and worst items, as one HTML file."""
    network = counts.item_iou("network")
    answer = counts.item_iou("fused") if subject.eigen else network
    cases = {"Best cases": -answer, "Worst cases": answer}
    if subject.eigen is not None:
        cases["Most gained by fusion"] = network - answer
        cases["Most lost by fusion"] = answer - network
    sections = [_tested(results), *_score_grids(results), _class_table(results)]
    columns = ["image", "truth", "network"]
    if subject.eigen:
        columns += ["fused", "choice of the oracle"]
    for title, rank in cases.items():
        scored = [i for i in np.argsort(rank, kind="stable") if counts.scored[i]]
        chosen = [subject.fold.test[int(i)] for i in scored[:pictures]]
        rows = _picture_rows(subject, chosen, fuse)
        sections.append(report.pictures(title, columns, rows, legend=AGREEMENT))
    sections.append(report.configuration({k: results[k] for k in ("fusion", "about")}))
    report.write(path, sections, title=f"SAZS on {_data(results)}, {_held_out(results)}")


def provenance(weights: str | Path) -> dict[str, Any]:
    """What a page shows about weights: their file, and its recipe without names and tables."""
    recipe = weight_files.read(weights).recipe
    shown = {key: value for key, value in recipe.items() if key not in ("names", "texts")}
    if "names" in recipe and "held_out" in recipe:
        shown["held_out_names"] = [recipe["names"][c] for c in recipe["held_out"]]
    return {"weights": str(weights), "recipe": shown}


def _tested(results: Mapping[str, Any]) -> report.Section:
    """What was tested: weights, how they were trained, what they were tested on."""
    about = results["about"]
    recipe = about.get("recipe") or {}
    trained_on = recipe.get("samples") and f"{recipe['samples']} samples of {_data(results)}"
    facts = {
        "weights": about.get("weights"),
        "network": recipe.get("arch"),
        "trained on": trained_on,
        "classes held out in training": _trained_without(recipe),
        "training steps": recipe.get("trained_steps"),
        "tested on": f"{_data(results)}, {_held_out(results)}: {scope(results)}",
        "unseen classes": ", ".join(results["unseen"]),
    }
    shown = {k: "not recorded in the file" if v is None else str(v) for k, v in facts.items()}
    return report.facts("What was tested", shown)


def _held_out(results: Mapping[str, Any]) -> str:
    """The held-out classes: a fold, or those that were named."""
    if results["fold"] is not None:
        return f"fold {results['fold']}"
    return f"{', '.join(results['unseen'])} held out"


def _trained_without(recipe: Mapping[str, Any]) -> str | None:
    """What the checkpoint records of the classes that were held out; None if nothing."""
    if recipe.get("fold") is not None:
        return f"fold {recipe['fold']}"
    held_out = recipe.get("held_out_names")
    return ", ".join(held_out) if held_out else None


def _data(results: Mapping[str, Any]) -> str:
    """The data set; the generated one has the layout of PASCAL's benchmark."""
    benchmark = results["benchmark"]
    return results["about"].get("data", TITLES.get(benchmark, benchmark))


TITLES = {"pascal": "PASCAL VOC", "coco": "COCO"}


GRIDS = {"miou": "mIoU", "fb_iou": "FB-IoU", "boundary_f": "Boundary F"}


def _score_grids(results: Mapping[str, Any]) -> Iterator[report.Section]:
    """A table per metric, narrow enough for a phone: countings down, answers across."""
    for key, title in GRIDS.items():
        rows: list[list[str | float | None]] = []
        for protocol, countings in results["scores"].items():
            for counting, answers in countings.items():
                words = f"{protocol}, {counting}".replace("_", " ")
                rows.append([words, *(found[key] for found in answers.values())])
        columns = ["counting", *(name.replace("_", " ") for name in answers)]
        yield report.table(title, columns, rows, caption="Unseen classes, in percent.")


def _class_table(results: Mapping[str, Any]) -> report.Section:
    answers = results["scores"]["one_pass"]["corrected"]
    names = answers["network"]["class_iou"]
    rows = [[name, *(answers[a]["class_iou"][name] for a in answers)] for name in names]
    caption = "IoU in percent, one pass, corrected counting."
    columns = ["class", *(name.replace("_", " ") for name in answers)]
    return report.table("Classes", columns, rows, caption=caption)


def _picture_rows(
    subject: Subject, items: Sequence[Item], fuse: Method
) -> Iterator[report.PictureRow]:
    for _, item, margin, maps in margins(items, subject.segmenter, subject.texts, subject.eigen):
        truth, void = item.read_truth(margin.shape)
        network, image = margin > 0, item.read_image()
        fused = network if maps is None else fuse(margin, maps)
        index = -1 if maps is None else oracle.choose(network, maps.masks, truth, void)
        taken = network if maps is None or index < 0 else maps.masks[index]
        masks = {"network": network} | ({"fused": fused, "oracle": taken} if subject.eigen else {})
        drawn = (agreement(image, truth, mask, void) for mask in (truth, *masks.values()))
        ious = (f"IoU {_iou(mask, truth, void):.1f}" for mask in masks.values())
        note = subject.names[item.class_id]
        if subject.eigen:
            note += f"; the oracle chooses {'the network' if index < 0 else f'mask {index}'}"
        yield report.PictureRow(item.photo, [image, *drawn], note, captions=["", "", *ious])


def _iou(mask: np.ndarray, truth: np.ndarray, void: np.ndarray) -> float:
    """IoU in percent, void pixels left out."""
    union = ((mask | truth) & ~void).sum()
    return 100.0 * float((mask & truth & ~void).sum() / max(union, 1))
