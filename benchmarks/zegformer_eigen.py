"""Eigenvectors inside ZegFormer: each way of using them against the same weights without.

    python -m benchmarks.zegformer_eigen --run OUTPUT_DIR --eig_dir results/pascal/eigenvectors

`--run` is the OUTPUT_DIR of a training run: its `config.yaml` and `model_final.safetensors`. Prints
GZS3 figures of an untrained network, of the trained one, and of it with each way, with the gain of
each over the trained one under a paired bootstrap over images; and ZS3 figures of the first two.
"""

from __future__ import annotations

import logging
from pathlib import Path

import click
import torch

from data.zegformer.sets import datasets_root, labelled_set
from eigen.store.maps import EigenFolder
from eval.zegformer.build import network, segmenter
from eval.zegformer.classes import named_classes, text_dim
from eval.zegformer.eigen_queries import WAYS, EigenUse
from eval.zegformer.gain import PhotoCounts, gain
from eval.zegformer.scoring import score
from models.zegformer.config import load, replaced
from models.zegformer.settings import ZegFormerSettings
from train.checkpoint import FINAL

# Of labelled classes: small sets lack some, and the published means are then no number.
FIGURES = (
    *("seen_IoU_labelled", "unseen_IoU_labelled", "hIoU_labelled", "mIoU_labelled"),
    *("pACC", "fwIoU", "boundary_F"),
)
GAIN = "hIoU_labelled"


def scored(
    settings: ZegFormerSettings, weights: str, set_name: str, eigen: EigenFolder | None, *ways: str
) -> tuple[dict[str, float], PhotoCounts]:
    """Figures in percent of a network with `weights` ("" is untrained), and counts per image."""
    settings = replaced(settings, {"MODEL.WEIGHTS": weights})
    classes = named_classes(settings, set_name, "TEST")
    torch.manual_seed(0)
    model = segmenter(settings, network(settings, text_dim(settings)), classes)
    if ways:
        model.eigen_use = EigenUse(ways)  # type: ignore[attr-defined]
    counts = PhotoCounts(classes.vocabulary)
    found = score(
        model,
        labelled_set(set_name).pairs(datasets_root(settings.DATASETS.ROOT)),
        classes.vocabulary,
        short=settings.INPUT.MIN_SIZE_TEST,
        longest=settings.INPUT.MAX_SIZE_TEST,
        boundaries=True,
        eigen=eigen if ways else None,
        on_photo=counts,
    )
    return found.figures(classes.vocabulary), counts


def row(name: str, figures: dict[str, float], *more: str) -> str:
    cells = [f"{figures[key]:.1f}" if key in figures else "" for key in FIGURES]
    return "| " + " | ".join([name, *cells, *more]) + " |"


@click.command(help=__doc__)
@click.option("--run", "folder", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--eig_dir", "eigenvectors", type=click.Path(path_type=Path), required=True)
@click.option("--unseen-set", default="pascal_voc_val_unseen_sem_seg", show_default=True)
@click.argument("opts", nargs=-1)
def main(folder: Path, eigenvectors: Path, unseen_set: str, opts: tuple[str, ...]) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    settings = load(folder / "config.yaml", opts)
    final, eigen = str(folder / FINAL), EigenFolder(eigenvectors)
    (test,) = settings.DATASETS.TEST
    click.echo("| " + " | ".join(["", *FIGURES, f"gain in {GAIN}"]) + " |")
    click.echo(row("untrained", scored(settings, "", test, None)[0], ""))
    figures, alone = scored(settings, final, test, None)
    click.echo(row("trained", figures, ""))
    for way in WAYS:
        figures, counts = scored(settings, final, test, eigen, way)
        click.echo(row(way, figures, str(gain(counts, alone, GAIN))))
    for name, weights in (("untrained", ""), ("trained", final)):
        click.echo(row(f"ZS3, {name}", scored(settings, weights, unseen_set, None)[0], ""))


if __name__ == "__main__":
    main()
