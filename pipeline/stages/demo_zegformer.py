"""A small ZegFormer on the generated world: trained, and scored on seen and unseen classes.

    python -m pipeline.stages.demo_zegformer --data-dir WORLD --out results/world/zegformer

Two cores, nothing downloaded. Text embeddings are compositional (a class is the sum of its words),
so the words learned with seen classes also describe the unseen ones. The classes of fold 3 are held
out: they have the numbers of VOC's unseen classes, so VOC's preparation applies.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from data.files import atomic_path, without_nan
from data.sealed import write_json
from data.synthetic import world
from data.zegformer.prepare_sets import prepare
from data.zegformer.sets import labelled_set
from eigen.store.maps import EigenFolder
from eval.zegformer import page as gzs_page
from eval.zegformer.build import network, segmenter
from eval.zegformer.classes import named_classes, text_dim
from eval.zegformer.eigen_queries import EigenUse
from eval.zegformer.page import Examples
from eval.zegformer.scoring import Score, score
from eval.zegformer.segmenter import Segmenter
from models.zegformer.config import flat, load
from models.zegformer.settings import ZegFormerSettings
from pipeline.click_options import FilledPath
from pipeline.commands import help_text
from train import checkpoint, distributed
from train.zegformer import train as zegformer
from train.zegformer.evaluate import weights_facts

FOLD = 3
CONFIG = Path(__file__).parents[2] / "configs" / "world" / "zegformer_R14_world.yaml"
SUMMARY, PAGE = "summary.json", "report.html"
REPORTED = ("seen_IoU", "unseen_IoU", "hIoU", "mIoU", "pACC", "boundary_F")

log = logging.getLogger(__name__)


def run(
    data_dir: Path, out: Path, *, eigenvectors: Path | None = None, device: str = "auto"
) -> dict[str, dict[str, float]]:
    """Train, score, and write `summary.json` and `report.html` into `out`.

    Parameters
    ----------
    data_dir : path
        Folder written by `data.synthetic.world.write`.
    out : path
    eigenvectors : path, optional
        Shards or PNGs of its images; with them, refined masks are scored too.

    Returns
    -------
    dict
        Figures in percent of the trained network (`zegformer`), of its masks `refined` where there
        are eigenvectors, and of the randomly initialised network (`untrained`).
    """
    overrides = _prepared(data_dir, out, device)
    settings = load(CONFIG, overrides)
    test = settings.DATASETS.TEST[0]
    classes = named_classes(settings, test, "TEST")
    with distributed.start(device) as processes:
        torch.manual_seed(0)
        fresh = network(settings, text_dim(settings)).to(processes.device)
        untrained = _score(settings, segmenter(settings, fresh, classes), classes)
        model, _ = zegformer.train(settings, processes)
        trained = segmenter(settings, model, classes)
    examples = Examples(classes.vocabulary)
    scores = {"zegformer": _score(settings, trained, classes, on_photo=examples)}
    if eigenvectors is not None and isinstance(trained, Segmenter):
        trained.eigen_use = EigenUse(("refine",))
        scores["refined"] = _score(settings, trained, classes, eigen=EigenFolder(eigenvectors))
    scores["untrained"] = untrained
    figures = {name: score.figures(classes.vocabulary) for name, score in scores.items()}
    summary = {name: {key: row[key] for key in REPORTED} for name, row in figures.items()}
    write_json(out / SUMMARY, without_nan(summary))
    confusion = scores["zegformer"].confusion
    title = "ZegFormer on the generated world"
    tested = weights_facts(out / checkpoint.FINAL, settings.SOLVER.MAX_ITER)
    gzs_page.write(
        out / PAGE, title, figures, confusion, classes.vocabulary, examples, flat(settings), tested
    )
    return summary


def _prepared(data_dir: Path, out: Path, device: str) -> list[str]:
    """Labels, class names and embeddings in `out`; returns the overrides that name them."""
    root = out / "datasets"
    root.mkdir(parents=True, exist_ok=True)
    if not (root / "VOC2012").exists():
        (root / "VOC2012").symlink_to((data_dir / "VOC2012").resolve())
    prepare("voc", root)
    vocabulary = world.vocabulary(FOLD)
    names, table = root / "classes.json", root / "text_embeddings.npy"
    content = {
        "names": vocabulary.names,
        "unseen": vocabulary.unseen_ids,
        "label_ids": vocabulary.label_ids,
    }
    with atomic_path(names) as temporary:
        temporary.write_text(json.dumps(content))
    with atomic_path(table) as temporary:
        np.save(temporary, world.text_embeddings(vocabulary.names))
    values = {
        "DATASETS.ROOT": root,
        "MODEL.DEVICE": device,
        "MODEL.TEXT_EMBEDDINGS": table,
        "MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON": names,
        "MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON": names,
        "OUTPUT_DIR": out,
    }
    return [str(part) for pair in values.items() for part in pair]


def _score(settings: ZegFormerSettings, model: Any, classes: Any, **more: Any) -> Score:
    root = Path(settings.DATASETS.ROOT)
    return score(
        model,
        labelled_set(settings.DATASETS.TEST[0]).pairs(root),
        classes.vocabulary,
        short=settings.INPUT.MIN_SIZE_TEST,
        longest=settings.INPUT.MAX_SIZE_TEST,
        boundaries=True,
        **more,
    )


@click.command(help=help_text(__doc__))
@click.option("--data-dir", type=FilledPath(path_type=Path), required=True)
@click.option("--eig_dir", "eigenvectors", type=FilledPath(path_type=Path))
@click.option("--out", type=FilledPath(path_type=Path), required=True)
@click.option("--device", default="auto", show_default=True)
def main(data_dir: Path, eigenvectors: Path | None, out: Path, device: str) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("PIL").setLevel(logging.WARNING)
    # The demo of SAZS runs at the same time: more threads would only wait, and change the weights.
    torch.set_num_threads(1)
    for name, row in run(data_dir, out, eigenvectors=eigenvectors, device=device).items():
        click.echo(f"{name}: " + ", ".join(f"{key} {value:.1f}" for key, value in row.items()))


if __name__ == "__main__":
    main()
