"""Train the head that is distributed with this software, and score it on unseen classes.

    python -m pipeline.stages.words --voc VOC2012 --coco COCO --texts DIR --out words.safetensors
    python -m pipeline.stages.words --voc VOC2012 --coco COCO --texts DIR --hold-out cat
    python -m pipeline.stages.words --voc VOC2012 --coco COCO --texts DIR --checkpoint FILE

VOC needs `JPEGImages`, `SegmentationClassAug` and lists in `ImageSets/Segmentation`; COCO needs
`annotations/instances_{train,val}2017.json`; images that are missing are left out. DIR holds
tables of CLIP ViT-B/16 text embeddings: `clip_vitb16_voc20.npy`, `clip_vitb16_coco_stuff171.npy`
and `clip_vitb16_ade150.npy`. With `--hold-out` images that show these classes are left out of the
training. Then the held-out classes and the others are scored on VOC's validation images, each class
of an image once; with `--checkpoint` those of a head that was trained before.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import click
import numpy as np
import torch
from torch import Tensor, nn

from data import weight_files
from data.errors import SettingError, WeightsError
from data.pictures import read_label, write_png
from data.sazs.benchmark import Benchmark
from data.sazs.folds import Fold, Item
from data.sazs.options import Autocast, Recipe, Running
from data.sazs.splits import IGNORE
from data.text.embeddings import load_embeddings
from data.text.vocabulary import builtin
from data.trees.coco_masks import AnnotatedPhoto, Instances, index_instances, paint
from eval.sazs.fusion import method
from eval.sazs.metrics import Tally
from eval.sazs.scoring import count_answers
from eval.sazs.segmenter import SazsSegmenter
from eval.sazs.words import has_words
from models.sazs.lite import BACKBONE
from models.sazs.load import load
from models.sazs.stored import open_store
from pipeline.click_options import FilledPath
from pipeline.commands import help_text, one_line_errors
from train import distributed
from train.checkpoint import LATEST
from train.sazs.train import LITE, train

log = logging.getLogger(__name__)

ARCH = "lite2_frozen"
VOC_TABLE = "clip_vitb16_voc20.npy"
STUFF_TABLE = "clip_vitb16_coco_stuff171.npy"
ADE_TABLE = "clip_vitb16_ade150.npy"
SAME = {
    "airplane": "aeroplane",
    "motorcycle": "motorbike",
    "couch": "sofa",
    "tv": "tv monitor",
}
"""COCO's names of classes of VOC, where they differ."""


@dataclass(frozen=True, eq=False)
class Words:
    """Names and their text embeddings (N, 512) float32, unit rows; each name once."""

    names: list[str]
    rows: np.ndarray

    def __post_init__(self) -> None:
        if len(self.names) != len(self.rows):
            raise SettingError(
                f"text embeddings: expected {len(self.names)} rows, found {len(self.rows)}"
            )

    def without(self, known: list[str]) -> Words:
        """Those whose names are not in `known`."""
        new = [i for i, name in enumerate(self.names) if name not in known]
        return Words([self.names[i] for i in new], self.rows[new])


def _joined(parts: list[Words]) -> Words:
    names: list[str] = []
    rows = []
    for part in parts:
        new = part.without(names)
        names += new.names
        rows.append(new.rows)
    return Words(names, np.concatenate(rows))


def read_words(folder: Path) -> tuple[Words, Words]:
    """The training classes (VOC's 20, then the other things of COCO), and all names."""
    stuff = builtin("coco_stuff")
    # The table is ordered by category id; the vocabulary lists unseen classes last.
    ascending = [stuff.names[i] for i in np.argsort(stuff.label_ids)]
    voc = Words(list(builtin("pascal").names), load_embeddings(folder / VOC_TABLE))
    coco = Words(ascending, load_embeddings(folder / STUFF_TABLE))
    things = Words([SAME.get(name, name) for name in ascending[:80]], coco.rows[:80])
    plain = [name.removesuffix("-other").removesuffix("-stuff") for name in ascending]
    coco = _first_of_each(Words(plain, coco.rows))
    ade = Words(list(builtin("ade20k_150").names), load_embeddings(folder / ADE_TABLE))
    return _joined([voc, things]), _joined([voc, coco, ade])


def _first_of_each(words: Words) -> Words:
    """Each name once, with its first row."""
    first = {name: i for i, name in reversed(list(enumerate(words.names)))}
    rows = sorted(first.values())
    return Words([words.names[i] for i in rows], words.rows[rows])


def voc_items(root: Path, split: str) -> Iterator[Item]:
    """VOC's images of a list, one item per class; label values are class ids + 1 already."""
    listed = (root / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split()
    for name in listed:
        label = root / "SegmentationClassAug" / f"{name}.png"
        yield from _items(name, root / "JPEGImages" / f"{name}.jpg", label)


def coco_items(root: Path, names: list[str], labels: Path) -> Iterator[Item]:
    """COCO's annotated images whose files exist; label maps in `names` are written to `labels`."""
    things = [SAME.get(name, name) for name in builtin("coco").names]
    value = np.array([0, *(1 + names.index(name) for name in things)], np.uint8)
    for split in ("train2017", "val2017"):
        instances = index_instances(root / "annotations" / f"instances_{split}.json")
        for image in instances.photos:
            path = root / split / f"{image.id}.jpg"
            if path.is_file() and image.spans:
                label = labels / f"{split}_{image.id}.png"
                write_png(label, _coco_label(instances, image, value))
                yield from _items(label.stem, path, label)


def _items(name: str, image: Path, label: Path) -> Iterator[Item]:
    for value in np.unique(read_label(label)):
        if value not in (0, IGNORE):
            yield Item(name, int(value) - 1, image, label)


def _coco_label(instances: Instances, image: AnnotatedPhoto, value: np.ndarray) -> np.ndarray:
    """Smaller objects over larger ones; crowds are void."""
    text = instances.path.read_bytes()
    annotations = [json.loads(text[start:stop]) for start, stop in image.spans]
    annotations.sort(key=lambda annotation: -annotation["area"])
    label = value[paint(annotations, instances.label_of, image.height, image.width)]
    for crowd in (annotation for annotation in annotations if annotation.get("iscrowd")):
        from pycocotools import mask

        runs = mask.frPyObjects(crowd["segmentation"], image.height, image.width)
        label[mask.decode(runs).astype(bool)] = IGNORE
    return label


def open_words(voc: Path, coco: Path, names: list[str], held_out: list[int], labels: Path) -> Fold:
    """VOC's and COCO's training images with classes held out, and VOC's validation images.

    Images that show a class that is held out are left out of the training.
    """
    train = [*voc_items(voc, "trainaug"), *coco_items(coco, names, labels)]
    hidden = {item.label for item in train if item.class_id in held_out}
    test = list(voc_items(voc, "val"))
    return Fold(
        Benchmark("words", len(names), interleaved=False, start=0, stride=1, least=1),
        None,
        held_out,
        [item for item in train if item.label not in hidden],
        [],
        [item for item in test if item.class_id in held_out],
        [item for item in test if item.class_id not in held_out],
        np.empty(0, np.int64),
    )


def score(items: Sequence[Item], segmenter: SazsSegmenter, texts: Tensor) -> Tally:
    """Counts of the network's masks, each class scored on every image that shows it."""
    counts = count_answers(
        items, segmenter, texts, reference="reference_pascal", fusion=method("agreement")
    )
    return counts.tally("network", "corrected", np.ones(len(items), np.int64), len(texts) - 1)


def write(path: Path, model: nn.Module, words: Words, trained: list[str], about: dict) -> None:
    """Write the head, the table of words and the recipe as one safetensors file."""
    tensors = {
        key: value.half() if value.is_floating_point() else value
        for key, value in model.state_dict().items()
    }
    tensors["words"] = torch.from_numpy(words.rows).half()
    recipe = {
        "arch": ARCH,
        "input_side": 0,
        "words": words.names,
        "trained": trained,
        "backbone": BACKBONE,
        "backbone_sha256": model.get_submodule("stages").sha256,
        **about,
    }
    weight_files.write_safetensors(path, tensors, recipe)


@click.command(help=help_text(__doc__))
@click.option("--voc", "voc_root", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--coco", "coco_root", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--texts", type=click.Path(exists=True, path_type=Path), required=True)
@click.option(
    "--work",
    type=FilledPath(path_type=Path),
    default=Path("results/words"),
    show_default=True,
    help="Folder of stored features, label maps and the training run.",
)
@click.option("--out", type=FilledPath(path_type=Path), help="File of the trained head.")
@click.option(
    "--checkpoint",
    type=FilledPath(exists=True, path_type=Path),
    help="Score this head, with the classes held out that it names; train none.",
)
@click.option("--hold-out", default="", help='Classes of VOC, as "cat, dog".')
@click.option("--epochs", default=LITE["epochs"], show_default=True)
@click.option("--absent", default=0.0, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--autocast", type=click.Choice(get_args(Autocast)), default="none")
@click.option("--channels-last", is_flag=True)
@click.option("--resume", is_flag=True, help="Resume the training run in --work, if there is one.")
@click.option("--device", default="auto", show_default=True)
def main(
    voc_root: Path,
    coco_root: Path,
    texts: Path,
    work: Path,
    out: Path | None,
    checkpoint: Path | None,
    hold_out: str,
    epochs: int,
    absent: float,
    seed: int,
    autocast: Autocast,
    channels_last: bool,
    resume: bool,
    device: str,
) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with one_line_errors(), distributed.start(device) as world:
        trained, words = read_words(texts)
        head = weight_files.read(checkpoint) if checkpoint else None
        if head and not has_words(head):
            raise WeightsError(f"{checkpoint}: expected a head with words, written by this command")
        unseen = head.recipe["held_out"] if head else hold_out.split(",")
        held_out = _ids(unseen, trained.names[:20])
        fold = open_words(voc_root, coco_root, trained.names, held_out, work / "labels")
        table = torch.from_numpy(np.concatenate([np.zeros_like(trained.rows[:1]), trained.rows]))
        if head:
            model = load(head)[0].to(world.device)
        else:
            settings = {**LITE, "epochs": epochs, "absent": absent, "seed": seed}
            recipe = Recipe(arch=ARCH, init="none", **settings)
            running = Running(
                features=work / "features",
                workers=0,
                autocast=autocast,
                channels_last=channels_last,
            )
            run = work / "run"
            latest = run / LATEST
            model = train(
                recipe,
                fold,
                table,
                run,
                world,
                running=running,
                input_side=None,
                resume=latest if resume and latest.is_file() else None,
            )
            if out is not None:
                about = {
                    "recipe": recipe.model_dump(),
                    "held_out": [trained.names[c] for c in held_out],
                }
                write(out, model, words, [trained.names[c] for c in fold.seen], about)
                log.info("wrote %s", out)
        store = open_store(model, work / "features", side=None)
        segmenter = SazsSegmenter(model, side=None, store=store)
        for what, items in (("unseen", fold.test), ("seen", fold.seen_test)):
            if items:
                _log_scores(what, score(items, segmenter, table), trained.names)


def _ids(hold_out: Sequence[str], names: list[str]) -> list[int]:
    unseen = [name.strip() for name in hold_out if name.strip()]
    unknown = [name for name in unseen if name not in names]
    if unknown:
        raise SettingError(
            f"--hold-out: expected classes of VOC ({', '.join(names)}), found {', '.join(unknown)}"
        )
    return sorted(names.index(name) for name in unseen)


def _log_scores(what: str, tally: Tally, names: list[str]) -> None:
    scored = np.flatnonzero(tally.images).tolist()
    ious = (100 * tally.class_iou(scored)).round(1).tolist()
    text = "%s: mIoU %.1f, FB-IoU %.1f, %s"
    by_class = {names[c]: iou for c, iou in zip(scored, ious, strict=True)}
    log.info(text, what, tally.miou(scored), tally.fb_iou(scored), by_class)


if __name__ == "__main__":
    main()
