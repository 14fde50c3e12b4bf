"""Gain and cost of refining a network's masks by shape: one table, paired over images.

    python -m pipeline.stages.words ... --hold-out "dog, horse, ..." --out fold2.safetensors
    python -m benchmarks.refinement --voc .../VOC2012 --checkpoint fold2.safetensors

Each class of each validation image that the checkpoint was not trained on (`--seen`: that it was
trained on), against all the rest, as SAZS is scored. The gain in mIoU has the 95 % interval of
300 paired bootstrap draws; F is that of the outlines. The guided filter (He, Sun and Tang, PAMI
2013) works on the same probabilities with the image as its guide.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

import eigen
from benchmarks import _harness
from data import weight_files
from data.pictures import read_image, read_label
from data.sazs.splits import IGNORE
from eigen.store.maps import EigenMaps
from eigen.upsample import guided_filter
from eval import boundary
from eval.refine import diffused, graph_of
from eval.sazs.fusion import Projection, mixed, probability
from eval.sazs.segmenter import SazsSegmenter
from eval.sazs.words import texts_of
from models.sazs.load import load

Evidence = Callable[[np.ndarray, np.ndarray, EigenMaps], np.ndarray]


def projected(margin: np.ndarray, image: np.ndarray, maps: EigenMaps) -> np.ndarray:
    return Projection(ridge=0.1).evidence(margin, maps)


def spread(mu: float, *, planes: bool) -> Evidence:
    def evidence(margin: np.ndarray, image: np.ndarray, maps: EigenMaps) -> np.ndarray:
        graph = graph_of(image, maps.planes if planes else None, margin.shape)
        return diffused(probability(margin)[None], graph, mu=mu)[0]

    return evidence


def guided(margin: np.ndarray, image: np.ndarray, maps: EigenMaps) -> np.ndarray:
    return guided_filter(image, probability(margin)[None], radius=8)[0]


WAYS: dict[str, tuple[Evidence, float]] = {
    "projection, weight 0.3": (projected, 0.3),
    "projection, weight 0.6": (projected, 0.6),
    "diffusion, colours, mu 0.03": (spread(0.03, planes=False), 1.0),
    "diffusion, colours, mu 0.1": (spread(0.1, planes=False), 1.0),
    "diffusion, colours, mu 0.3": (spread(0.3, planes=False), 1.0),
    "diffusion, colours and vectors, mu 0.03": (spread(0.03, planes=True), 1.0),
    "diffusion, colours and vectors, mu 0.1": (spread(0.1, planes=True), 1.0),
    "guided filter": (guided, 1.0),
}
"""Name -> function that computes the evidence, and its share of the mixed map."""


class Table:
    """Counts of each way and item: intersection, union, and the four of `boundary.matches`."""

    def __init__(self) -> None:
        self.classes: list[str] = []
        self.counts: dict[str, list[np.ndarray]] = defaultdict(list)
        self.seconds: dict[str, float] = defaultdict(float)

    def add(self, name: str, mask: np.ndarray, truth: np.ndarray, void: np.ndarray) -> None:
        areas = [(mask & truth & ~void).sum(), ((mask | truth) & ~void).sum()]
        self.counts[name].append(np.r_[areas, boundary.matches(mask, truth, void)])

    def miou(self, name: str, times: np.ndarray) -> float:
        counts, classes = np.array(self.counts[name]), np.array(self.classes)
        ious = []
        for c in np.unique(classes):
            inter, union = (counts[:, i][classes == c] @ times[classes == c] for i in (0, 1))
            if union:
                ious.append(100 * inter / union)
        return float(np.mean(ious))

    def rows(self, *, draws: int = 300) -> list[dict]:
        n = len(self.classes)
        rng = np.random.default_rng(0)
        drawn = [np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(draws)]
        once = np.ones(n, int)
        plain = [self.miou("network", times) for times in (once, *drawn)]
        rows = []
        for name in self.counts:
            gains = [
                self.miou(name, times) - base
                for times, base in zip((once, *drawn), plain, strict=True)
            ]
            rows.append(
                {
                    "way": name,
                    "mIoU": plain[0] + gains[0],
                    "gain": gains[0],
                    "low": float(np.quantile(gains[1:], 0.025)),
                    "high": float(np.quantile(gains[1:], 0.975)),
                    "F": 100 * boundary.f_measure(np.sum(self.counts[name], axis=0)[2:]),
                    "s/item": self.seconds[name] / n,
                }
            )
        return rows


def collect(root: Path, checkpoint: Path, photos: int, *, seen: bool, extractor: str) -> Table:
    file = weight_files.read(checkpoint)
    model, recipe = load(file)
    segmenter = SazsSegmenter(model, side=recipe["input_side"] or None)
    held = [recipe["words"].index(name) for name in recipe["held_out"]]
    wanted = [c for c in range(20) if (c in held) != seen]
    made, table = eigen.extractor(extractor), Table()
    listed = (root / "ImageSets" / "Segmentation" / "val.txt").read_text().split()
    for name in np.random.default_rng(1).permutation(listed):
        label = read_label(root / "SegmentationClassAug" / f"{name}.png")
        shown = [c for c in wanted if (label == c + 1).any()]
        if not shown:
            continue
        if photos == 0:
            break
        photos -= 1
        image = read_image(root / "JPEGImages" / f"{name}.jpg")
        texts = texts_of([recipe["words"][c] for c in shown], file)
        margins = segmenter.margins(segmenter.features(image), texts, label.shape)
        pairs = eigen.eigenvectors(image, made, 6)
        maps = replace(EigenMaps.of_pairs(pairs, label.shape), image=image)
        for c, margin in zip(shown, margins, strict=True):
            table.classes.append(recipe["words"][c])
            item(table, margin, image, maps, label == c + 1, label == IGNORE)
    return table


def item(
    table: Table,
    margin: np.ndarray,
    image: np.ndarray,
    maps: EigenMaps,
    truth: np.ndarray,
    void: np.ndarray,
) -> None:
    table.add("network", margin > 0, truth, void)
    for name, (evidence, weight) in WAYS.items():
        started = time.process_time()
        found = evidence(margin, image, maps)
        for cut in ("half", "area"):
            mask = mixed(margin, found, weight=weight, cut=cut)
            table.seconds[f"{name}, {cut}"] += time.process_time() - started
            table.add(f"{name}, {cut}", mask, truth, void)


@click.command(help=__doc__)
@click.option("--voc", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--checkpoint", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--photos", default=110, show_default=True)
@click.option("--seen", is_flag=True)
@click.option("--extractor", default="efficientnet_lite2", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/benchmarks"))
def main(voc: Path, checkpoint: Path, photos: int, seen: bool, extractor: str, out: Path) -> None:
    table = collect(voc, checkpoint, photos, seen=seen, extractor=extractor)
    kind = "seen" if seen else "unseen"
    _harness.report(f"refinement_{kind}", table.rows(), out, photos=photos, extractor=extractor)


if __name__ == "__main__":
    main()
