"""Score a ZegFormer on its configured test sets, images dealt out among the processes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from data.errors import DatasetError
from data.files import without_nan
from data.sealed import write_json
from data.text.vocabulary import Vocabulary
from data.zegformer.sets import Pair, datasets_root, labelled_set
from eval.zegformer import page
from eval.zegformer.build import segmenter
from eval.zegformer.classes import NamedClasses, TrainedClasses, honest_split, named_classes
from eval.zegformer.metrics import class_figures
from eval.zegformer.page import Examples
from eval.zegformer.scoring import Predicts, Score, join_predictions, score
from eval.zegformer.segmenter import Segmenter
from eval.zegformer.tta import Augmented
from models.zegformer.config import flat
from models.zegformer.settings import ZegFormerSettings
from train.distributed import World

log = logging.getLogger(__name__)

_PREDICTIONS = "sem_seg_predictions.json"


def pairs_of(settings: ZegFormerSettings, set_name: str) -> list[Pair]:
    """The images and label maps of a data set under the configured root."""
    return labelled_set(set_name).pairs(datasets_root(settings.DATASETS.ROOT))


def test_classes(
    settings: ZegFormerSettings, set_name: str, trained: TrainedClasses | None
) -> NamedClasses:
    """The classes of a test set, checked against those that the network was trained on.

    Raises
    ------
    SettingError, VocabularyError
        See `named_classes` and `honest_split`.
    """
    return honest_split(named_classes(settings, set_name, "TEST"), trained)


def weights_facts(path: str | Path, steps: int | None) -> dict[str, Any]:
    """What a page says of weights: their file, and the steps that they were trained for."""
    return {"weights": str(path), "training steps": steps}


def selected_figure(settings: ZegFormerSettings) -> str:
    """The figure that marks the best weights: mIoU of the first test set; "" without test sets."""
    names = settings.DATASETS.TEST
    return f"{names[0]}/mIoU" if len(names) > 1 else "mIoU" if names else ""


def evaluate(
    settings: ZegFormerSettings,
    model: nn.Module,
    world: World,
    *,
    trained: TrainedClasses | None = None,
    out: Path | None = None,
    weights: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Score every configured test set.

    Parameters
    ----------
    trained : what the checkpoint of `model` records about its classes, if anything
    out : folder for `scores.json`, `report.html` and the predictions; with TEST.AUG also those of
        augmented tests
    weights : what the page says of them, see `weights_facts`

    Returns
    -------
    Figures in percent; with several test sets, each key after "{set}/".
    """
    figures: dict[str, float] = {}
    for name in settings.DATASETS.TEST:
        classes = test_classes(settings, name, trained)
        plain = segmenter(settings, model, classes, trained=trained)
        segmenters: dict[str, Predicts] = {"": plain}
        augmentation = settings.TEST.AUG
        if augmentation.ENABLED and out is not None and isinstance(plain, Segmenter):
            segmenters["_TTA"] = Augmented(
                plain,
                shorts=augmentation.MIN_SIZES,
                longest=augmentation.MAX_SIZE,
                flip=augmentation.FLIP,
            )
        elif augmentation.ENABLED and out is not None:
            log.warning("TEST.AUG has no effect on the per-pixel baseline")
        for suffix, predicts in segmenters.items():
            folder = None if out is None else out / f"inference{suffix}" / name
            scores = _scored(
                settings, predicts, name, classes.vocabulary, world, weights or {}, folder
            )
            prefix = f"{name}{suffix}/" if len(settings.DATASETS.TEST) > 1 or suffix else ""
            figures |= {prefix + key: value for key, value in scores.items()}
    return figures


def _scored(
    settings: ZegFormerSettings,
    model: Predicts,
    name: str,
    vocabulary: Vocabulary,
    world: World,
    weights: Mapping[str, Any],
    folder: Path | None,
) -> dict[str, float]:
    pairs = pairs_of(settings, name)
    first, last = (len(pairs) * (world.rank + n) // world.size for n in (0, 1))
    parts = [_PREDICTIONS.replace(".", f"_{rank}.") for rank in range(world.size)]
    examples = Examples(vocabulary)
    share = score(
        model,
        pairs[first:last],
        vocabulary,
        short=settings.INPUT.MIN_SIZE_TEST,
        longest=settings.INPUT.MAX_SIZE_TEST,
        boundaries=folder is not None,
        predictions=None if folder is None else folder / parts[world.rank],
        on_photo=None if folder is None else examples,
    )
    whole = Score(world.sum(share.confusion), world.sum(share.outlines))
    whole.photos = int(world.sum(np.array([share.photos]))[0])
    whole.unread = world.gather(share.unread)
    examples = examples.joined(world.gather([examples]))
    if whole.unread and not whole.photos:
        raise DatasetError(
            f"{name}: none of {len(whole.unread)} images can be scored; the first: "
            f"{whole.unread[0][1]}"
        )
    figures = whole.figures(vocabulary)
    if folder is not None and world.is_first:
        join_predictions([folder / part for part in parts], folder / _PREDICTIONS)
        _write_scores(folder, whole, figures, vocabulary)
        page.write(
            folder / "report.html",
            name,
            {"ZegFormer": figures},
            whole.confusion,
            vocabulary,
            examples,
            flat(settings),
            {**weights, "images": f"{whole.photos}, {len(whole.unread)} left out"},
        )
    if whole.unread:
        log.warning("%s: %d images could not be used and are left out", name, len(whole.unread))
    return figures


def _write_scores(
    folder: Path, score: Score, figures: dict[str, float], vocabulary: Vocabulary
) -> None:
    iou, accuracy = class_figures(score.confusion)
    content = {
        "photos": score.photos,
        "unread": [{"id": id, "reason": reason} for id, reason in score.unread],
        "figures": dict(figures),
        "classes": [
            {
                "name": name,
                "unseen": c in vocabulary.unseen,
                "IoU": float(iou[c]),
                "ACC": float(accuracy[c]),
            }
            for c, name in enumerate(vocabulary.names)
        ],
    }
    write_json(folder / "scores.json", without_nan(content))
