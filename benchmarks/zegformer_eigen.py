"""Eigenvectors inside ZegFormer: each way of using them against the same weights without.

    python -m benchmarks.zegformer_eigen --run OUTPUT_DIR --eig_dir results/pascal/eigenvectors

`--run` is the OUTPUT_DIR of a training run: its `config.yaml` and `model_final.safetensors`. Prints
GZS3 figures of an untrained network, of the trained one, and of it with each way, with the gain of
each over the trained one under a paired bootstrap over images; and ZS3 figures of the first two.
Proposals are scored a second time with a calibration of their own, `eval.zegformer.calibration`.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from data.zegformer.sets import Pair, datasets_root, labelled_set
from eigen.store.maps import EigenFolder
from eval.zegformer.build import network, segmenter
from eval.zegformer.calibration import matched
from eval.zegformer.classes import NamedClasses, named_classes, text_dim
from eval.zegformer.eigen_queries import WAYS, EigenUse
from eval.zegformer.gain import PhotoCounts, gain
from eval.zegformer.scoring import score
from models.zegformer.config import load, replaced
from models.zegformer.settings import ZegFormerSettings
from pipeline.commands import help_text
from train.checkpoint import FINAL

# Of labelled classes: small sets lack some, and the published means are then no number.
FIGURES = (
    *("seen_IoU_labelled", "unseen_IoU_labelled", "hIoU_labelled", "mIoU_labelled"),
    *("pACC", "fwIoU", "boundary_F"),
)
GAIN = "hIoU_labelled"


def built(settings: ZegFormerSettings, weights: str, classes: NamedClasses) -> Any:
    """A segmenter with `weights` ("" is untrained)."""
    settings = replaced(settings, {"MODEL.WEIGHTS": weights})
    torch.manual_seed(0)
    return segmenter(settings, network(settings, text_dim(settings)), classes)


def scored(
    settings: ZegFormerSettings,
    weights: str,
    set_name: str,
    eigen: EigenFolder | None = None,
    use: EigenUse | None = None,
) -> tuple[dict[str, float], PhotoCounts]:
    """Figures in percent of a network with `weights`, and counts per image."""
    classes = named_classes(settings, set_name, "TEST")
    model = built(settings, weights, classes)
    if use is not None:
        model.eigen_use = use
    counts = PhotoCounts(classes.vocabulary)
    found = score(
        model,
        pairs_of(settings, set_name),
        classes.vocabulary,
        short=settings.INPUT.MIN_SIZE_TEST,
        longest=settings.INPUT.MAX_SIZE_TEST,
        boundaries=True,
        eigen=eigen if use is not None else None,
        on_photo=counts,
    )
    return found.figures(classes.vocabulary), counts


def pairs_of(settings: ZegFormerSettings, set_name: str) -> list[Pair]:
    return labelled_set(set_name).pairs(datasets_root(settings.DATASETS.ROOT))


def calibration(
    settings: ZegFormerSettings, weights: str, eigen: EigenFolder, images: int
) -> float:
    """`matched` for proposals, on evenly spaced images of the training set."""
    (train,), (test,) = settings.DATASETS.TRAIN, settings.DATASETS.TEST
    pairs = pairs_of(settings, train)
    even = np.linspace(0, len(pairs) - 1, min(images, len(pairs))).round().astype(int)
    classes = named_classes(settings, test, "TEST")
    return matched(
        built(settings, weights, classes),
        EigenUse(("propose",)),
        [pairs[i] for i in even],
        classes.vocabulary,
        eigen,
        short=settings.INPUT.MIN_SIZE_TEST,
        longest=settings.INPUT.MAX_SIZE_TEST,
    )


def row(name: str, figures: dict[str, float], *more: str) -> str:
    cells = [f"{figures[key]:.1f}" if key in figures else "" for key in FIGURES]
    return "| " + " | ".join([name, *cells, *more]) + " |"


@click.command(help=help_text(__doc__))
@click.option("--run", "folder", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--eig_dir", "eigenvectors", type=click.Path(path_type=Path), required=True)
@click.option("--unseen-set", default="pascal_voc_val_unseen_sem_seg", show_default=True)
@click.option(
    "--calibrate-on",
    default=80,
    show_default=True,
    help="Training images, evenly spaced, on which proposals get their own calibration.",
)
@click.argument("opts", nargs=-1)
def main(
    folder: Path, eigenvectors: Path, unseen_set: str, calibrate_on: int, opts: tuple[str, ...]
) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    settings = load(folder / "config.yaml", opts)
    final, eigen = str(folder / FINAL), EigenFolder(eigenvectors)
    (test,) = settings.DATASETS.TEST
    click.echo("| " + " | ".join(["", *FIGURES, f"gain in {GAIN}"]) + " |")
    click.echo(row("untrained", scored(settings, "", test)[0], ""))
    figures, alone = scored(settings, final, test)
    click.echo(row("trained", figures, ""))
    gamma = calibration(settings, final, eigen, calibrate_on)
    uses = {}
    for way in WAYS:
        uses[way] = EigenUse((way,))
        if way == "propose":
            uses[f"propose, calibration {gamma:.2f}"] = EigenUse((way,), gamma=gamma)
    for name, use in uses.items():
        figures, counts = scored(settings, final, test, eigen, use)
        click.echo(row(name, figures, str(gain(counts, alone, GAIN))))
    for name, weights in (("untrained", ""), ("trained", final)):
        click.echo(row(f"ZS3, {name}", scored(settings, weights, unseen_set)[0], ""))


if __name__ == "__main__":
    main()
