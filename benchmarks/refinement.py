"""Gain and cost of refining masks by shape: many methods, several networks, paired over images.

    python -m pipeline.stages.words ... --hold-out "dog, horse, ..." --seed 0 --out f2-0.safetensors
    python -m benchmarks.refinement measure --voc .../VOC2012 --checkpoint f2-0.safetensors ...
    python -m benchmarks.refinement table
    python -m benchmarks.refinement times --voc .../VOC2012 --checkpoint f2-0.safetensors

`measure` fuses each class of each validation image, against all the rest, as SAZS is scored, by
every method of `benchmarks.fusion_ways`, and keeps the counts per image: an interrupted run
resumes. `table` splits the images: the method is chosen on the first `--choose` of them by
seen classes alone, as the one whose gain has the highest lower bound; gains are reported on the
others. Networks with the same classes held out are seeds of one fold, and their gains are averaged.
Intervals hold 95 % of 500 bootstrap resamples of the images. F is the boundary F-measure, as SAZS
reports it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks import _harness
from benchmarks.fusion_ways import EXTRACTORS, Scene, Way, extractors, ways
from benchmarks.item_counts import ItemCounts, chosen, joined, summary
from data import weight_files
from data.pictures import read_image, read_label
from data.sazs.splits import IGNORE
from eval import boundary
from eval.refine import offsets
from eval.sazs import oracle
from eval.sazs.cuts import cut, probability
from eval.sazs.segmenter import SazsSegmenter, label_map
from eval.sazs.words import texts_of
from models.sazs.load import load
from models.sazs.networks import normalised
from pipeline.commands import help_text

TOGETHER = "diffusion, colours and 5 of efficientnet_lite2, mu 0.1"
"""The way with which all classes of an image are fused at once."""


@dataclass(frozen=True)
class Network:
    """A head of `lite2_frozen`, its words, and the classes held out (ids)."""

    name: str
    segmenter: SazsSegmenter
    words: list[str]
    texts: Tensor
    held_out: frozenset[int]


def networks(paths: Sequence[Path]) -> list[Network]:
    found = []
    for path in paths:
        file = weight_files.read(path)
        model, recipe = load(file)
        if recipe["arch"] != "lite2_frozen":
            raise click.UsageError(f"{path}: expected lite2_frozen, found {recipe['arch']}")
        words = list(recipe["words"][:20])
        held_out = frozenset(words.index(name) for name in recipe["held_out"])
        segmenter = SazsSegmenter(model, side=None)
        found.append(Network(path.stem, segmenter, words, texts_of(words, file), held_out))
    return found


@torch.inference_mode()
def all_margins(
    trained: Sequence[Network], image: np.ndarray, classes: Sequence[int]
) -> list[np.ndarray]:
    """Margins (C, H, W) of the classes by each network; the backbone runs once."""
    stages = trained[0].segmenter.model.stages(normalised(torch.from_numpy(image)[None]))
    rows = [0, *(1 + c for c in classes)]
    return [
        n.segmenter.margins(n.segmenter.model.head(stages)[1], n.texts[rows], image.shape[:2])
        for n in trained
    ]


def shape_of(mask: np.ndarray) -> tuple[float, float, float]:
    """Share of the image, compactness 4 pi A / P^2, and the number of 4-connected parts.

    Parts of less than a hundredth of the area do not count, nor does the frame of the image as
    perimeter; of several parts A and P are summed, so that splitting lowers the compactness.
    """
    outlines, _ = cv2.findContours(
        np.pad(mask, 1).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    perimeter = sum(cv2.arcLength(line, True) for line in outlines)
    _, _, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    area = float(mask.sum())
    parts = np.count_nonzero(areas >= 0.01 * area)
    return area / mask.size, 4 * np.pi * area / max(perimeter, 1) ** 2, float(parts)


def measure_image(
    trained: Sequence[Network],
    image: np.ndarray,
    label: np.ndarray,
    scene: Scene,
    compared: dict[str, Way],
) -> ItemCounts:
    """Counts of every answer to every class of an image, by every network."""
    classes = [int(c) - 1 for c in np.unique(label) if c not in (0, IGNORE)]
    margins = np.concatenate(all_margins(trained, image, classes))
    numbers = [(n, c) for n in range(len(trained)) for c in classes]
    void = label == IGNORE
    matchers = {c: boundary.matcher(label == c + 1, void) for c in classes}
    table = ItemCounts.empty(
        numbers, seen=[c not in trained[n].held_out for n, c in numbers], names=trained
    )

    def add(name: str, masks: Sequence[np.ndarray]) -> None:
        rows = []
        for mask, (_, c) in zip(masks, numbers, strict=True):
            truth = label == c + 1
            areas = [(mask & truth & ~void).sum(), ((mask | truth) & ~void).sum()]
            rows.append(np.r_[areas, matchers[c](mask)])
        table.counts[name] = np.array(rows)

    table.shapes = np.array([shape_of(label == c + 1) for _, c in numbers])
    plain = margins > 0
    add("network", plain)
    for name in EXTRACTORS:
        masks = scene.maps(name).masks
        chosen = [
            oracle.choose(own, masks, label == c + 1, void)
            for own, (_, c) in zip(plain, numbers, strict=True)
        ]
        add(
            f"oracle, {name}",
            [own if i < 0 else masks[i] for i, own in zip(chosen, plain, strict=True)],
        )
    for name, way in compared.items():
        smooth = way.smooth(margins, scene)
        for shown, weight, rule in way.labels(name):
            mixes = (1 - weight) * probability(margins) + weight * smooth
            add(shown, [cut(m, x, rule) for m, x in zip(margins, mixes, strict=True)])
        if name == TOGETHER:
            for shown, masks in together(margins, smooth, len(trained)).items():
                add(shown, masks)
    return table


def together(margins: np.ndarray, smooth: np.ndarray, count: int) -> dict[str, list[np.ndarray]]:
    """Masks of all classes at once, each pixel one class: of the networks, and fused two ways."""
    answers: dict[str, list[np.ndarray]] = {}
    for own, fused in zip(np.split(margins, count), np.split(smooth, count), strict=True):
        kept = np.stack([cut(m, x, "area") for m, x in zip(own, fused, strict=True)])
        labels = {
            "at once: network": label_map(own, own > 0),
            "at once: fused one by one | area": label_map(own, kept),
            "at once: compared | area": compared_at_once(own, fused),
        }
        for name, found in labels.items():
            masks = [found == row + 1 for row in range(len(own))]
            answers.setdefault(name, []).extend(masks)
    return answers


def compared_at_once(margins: np.ndarray, smooth: np.ndarray) -> np.ndarray:
    """Label map of the smoothed maps of all classes and of the rest, each class keeping its area.

    The rest has the probability that no class is there.
    """
    rest = np.prod(1 - smooth, axis=0, keepdims=True)
    maps = np.concatenate([rest, smooth])
    areas = np.bincount(label_map(margins, margins > 0).ravel(), minlength=len(maps))
    return (maps + offsets(maps, areas)[:, None, None]).argmax(0)


def images_of(voc: Path, first: int, last: int) -> list[str]:
    """Names of validation images with a class, in a fixed random order."""
    listed = (voc / "ImageSets" / "Segmentation" / "val.txt").read_text().split()
    return list(np.random.default_rng(1).permutation(listed))[first:last]


@click.group(help=help_text(__doc__))
def main() -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


VOC = click.option("--voc", type=click.Path(exists=True, path_type=Path), required=True)
CHECKPOINTS = click.option(
    "--checkpoint",
    "checkpoints",
    type=click.Path(exists=True, path_type=Path),
    multiple=True,
    required=True,
)
COUNTS = click.option(
    "--counts", type=click.Path(path_type=Path), default=Path("results/benchmarks/refinement")
)


@main.command()
@VOC
@CHECKPOINTS
@COUNTS
@click.option(
    "--first", default=0, show_default=True, help="First image to measure, in random order."
)
@click.option("--last", default=10_000, show_default=True)
@click.option("--without", multiple=True, help="Leave out methods whose names contain this.")
def measure(
    voc: Path, checkpoints: list[Path], counts: Path, first: int, last: int, without: list[str]
) -> None:
    """Count, one file per image."""
    trained, made = networks(checkpoints), extractors()
    compared = {n: way for n, way in ways().items() if not any(part in n for part in without)}
    counts.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(images_of(voc, first, last), start=first):
        path = counts / f"{number:04d}_{name}.npz"
        if path.is_file():
            continue
        label = read_label(voc / "SegmentationClassAug" / f"{name}.png")
        image = read_image(voc / "JPEGImages" / f"{name}.jpg")
        started = time.perf_counter()
        if np.setdiff1d(label, (0, IGNORE)).size:
            measure_image(trained, image, label, Scene(image, made), compared).write(path)
        print(f"{number} {name}: {time.perf_counter() - started:.1f} s", flush=True)


def chosen_from(counts: Path, choose: int) -> list[Path]:
    """Counts of the images on which the way to fuse is chosen."""
    return [path for path in sorted(counts.glob("*.npz")) if int(path.stem[:4]) < choose]


def reported_on(counts: Path, choose: int) -> list[Path]:
    """Counts of the others.

    Raises
    ------
    click.UsageError
        There is none.
    """
    paths = [path for path in sorted(counts.glob("*.npz")) if int(path.stem[:4]) >= choose]
    if not paths:
        raise click.UsageError(f"--counts {counts}: no image beyond the first {choose}")
    return paths


@main.command()
@COUNTS
@click.option(
    "--choose", default=120, show_default=True, help="Number of images to choose the method on."
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/benchmarks"))
def table(counts: Path, choose: int, out: Path) -> None:
    """Gains in mIoU and F by fold, on seen and on unseen classes."""
    chosen_on, others = (
        joined([ItemCounts.read(path) for path in paths])
        for paths in (chosen_from(counts, choose), reported_on(counts, choose))
    )
    rows = summary(chosen_on, others)
    for extractor in EXTRACTORS:
        print(f"chosen with vectors of {extractor}: {chosen(chosen_on, of=extractor)}")
    print(f"chosen of all: {chosen(chosen_on)}")
    _harness.report("refinement", rows, out, choose=choose)


@main.command()
@VOC
@CHECKPOINTS
@click.option("--images", default=8, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("results/benchmarks"))
def times(voc: Path, checkpoints: list[Path], images: int, out: Path) -> None:
    """Processor seconds per image of one class, features and eigenvectors apart."""
    trained, made, spent = networks(checkpoints[:1]), extractors(), {}
    for name in images_of(voc, 0, images):
        image = read_image(voc / "JPEGImages" / f"{name}.jpg")
        margins = all_margins(trained, image, [0])[0]
        known = Scene(image, made)
        for extractor in EXTRACTORS:
            started = time.process_time()
            known.maps(extractor)
            took = time.process_time() - started
            spent.setdefault(f"features and eigenvectors of {extractor}", []).append(took)
        for shown, way in ways().items():
            scene = known.copy()
            started = time.process_time()
            smooth = way.smooth(margins, scene)
            cut(margins[0], smooth[0], way.cuts[-1])
            spent.setdefault(shown, []).append(time.process_time() - started)
    rows = [{"way": shown, "s/image": float(np.median(s))} for shown, s in spent.items()]
    _harness.report("refinement_times", rows, out, images=images)


if __name__ == "__main__":
    main()
