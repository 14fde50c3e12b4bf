"""A small SAZS on the generated world: trained, scored on seen and unseen classes, in minutes.

Two cores and nothing downloaded. The text embeddings are compositional (a class is the sum of its
words), so the words that the network learns with seen classes also describe the unseen ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.files import without_nan
from data.sazs.folds import Fold, open_fold
from data.sazs.options import Recipe, Running
from data.sealed import write_json
from data.synthetic import world
from eigen.store.maps import EigenFolder
from eval.sazs import scores as sazs_scores
from eval.sazs.fusion import method
from eval.sazs.scoring import count_answers
from eval.sazs.segmenter import SazsSegmenter
from models.sazs.texts import open_texts
from train import checkpoint, distributed
from train.sazs import train as sazs

# Images at half their size: a crop then shows most of a scene, at little cost.
RECIPE = Recipe(
    arch="drn_d_22_slim",
    init="none",
    epochs=10,
    batch_size=8,
    lr=0.05,
    drop_rate=0.0,
    crop=96,
    scale=1.2,
    rotate=0,
    reduce=2,
)
RUNNING = Running(workers=0, channels_last=True)
INPUT_SIDE = 144  # pixels
SUMMARY = "summary.json"


def run(
    data_dir: Path, eigenvectors: Path, out: Path, *, fold: int = 0, device: str = "auto"
) -> dict[str, Any]:
    """Train on the world below `data_dir` with one fold held out, and score it.

    Parameters
    ----------
    data_dir : path
        Folder written by `data.synthetic.world.write`.
    eigenvectors : path
        Shards or PNGs of its images.
    out : path
        Folder for checkpoints, `scores.json`, `report.html` and `summary.json`.

    Returns
    -------
    dict
        The content of `summary.json`: mIoU in percent of `unseen` and `seen` classes for each
        answer, of an `untrained` network on unseen classes, and the gain of the fusion.

    Raises
    ------
    The errors of `data.sazs.folds.open_fold`, `EigenFolder` and `train.sazs.train.train`.
    """
    vocabulary = world.vocabulary(fold)
    texts = open_texts(data_dir / "VOC2012" / "text_embeddings.npy", vocabulary)
    items = open_fold("pascal", data_dir, fold)
    eigen = EigenFolder(eigenvectors)
    eigen.require(item.photo for item in [*items.test, *items.seen_test, *items.validation])
    latest = out / checkpoint.LATEST
    with distributed.start(device) as processes:
        model = sazs.train(
            RECIPE,
            items,
            texts,
            out,
            processes,
            names=vocabulary.names,
            running=RUNNING,
            input_side=INPUT_SIDE,
            resume=latest if latest.is_file() else None,
        )
        texts = texts.to(processes.device)
        segmenter = SazsSegmenter(model, side=INPUT_SIDE)
        subject = sazs_scores.Subject(items, segmenter, vocabulary.names, texts, eigen)
        about = {**sazs_scores.provenance(out / checkpoint.FINAL), "data": "the generated world"}
        results = sazs_scores.run(subject, out, about=about, seen=True)
        baseline = _untrained_miou(items, texts)
    answers = results["scores"]["one_pass"]["corrected"]
    summary = {
        "unseen": {name: figures["miou"] for name, figures in answers.items()},
        "seen": {name: figures["miou"] for name, figures in results["seen"].items()},
        "untrained": baseline,
        "fused_minus_network": results["fused_minus_network"],
        "fusion": results["fusion"],
    }
    write_json(out / SUMMARY, without_nan(summary))
    return summary


def _untrained_miou(fold: Fold, texts: Tensor, *, seeds: int = 3) -> float:
    """Mean mIoU on unseen classes of randomly initialised networks."""
    mious = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        model = sazs.start(RECIPE).to(texts.device)
        counts = count_answers(
            fold.test,
            SazsSegmenter(model, side=INPUT_SIDE),
            texts,
            reference="reference_pascal",
            fusion=method("agreement"),
        )
        once = np.ones(len(fold.test), np.int64)
        tally = counts.tally("network", "corrected", once, fold.benchmark.classes)
        mious.append(tally.miou(counts.classes))
    return float(np.mean(mious))
