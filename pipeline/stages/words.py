"""Train the head that is distributed with this software, and score it on unseen classes.

    python -m pipeline.stages.words --voc VOC2012 --coco COCO --texts DIR --out words.safetensors
    python -m pipeline.stages.words --voc VOC2012 --coco COCO --texts DIR --hold-out cat

VOC needs `JPEGImages`, `SegmentationClassAug` and lists in `ImageSets/Segmentation`; COCO needs
`annotations/instances_{train,val}2017.json`; images that are missing are left out. DIR holds
tables of CLIP ViT-B/16 text embeddings: `clip_vitb16_voc20.npy`, `clip_vitb16_coco_stuff171.npy`
and `clip_vitb16_ade150.npy`. With `--hold-out` images that show these classes are left out of the
training, and the classes are scored on VOC's validation images, each class of an image once.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from data import weight_files
from data.errors import SettingError
from data.pictures import read_label
from data.sazs.splits import IGNORE
from data.text.embeddings import load_embeddings
from data.text.vocabulary import builtin
from data.trees.coco_masks import AnnotatedPhoto, Instances, index_instances, paint
from eval.sazs.metrics import Tally, count
from models.sazs.frozen import BACKBONE, FrozenHead, FrozenStages
from pipeline.commands import one_line_errors
from train.sazs.frozen import Example, HeadRecipe, Stored, store, train_head

log = logging.getLogger(__name__)

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


def voc_examples(root: Path, split: str) -> list[Example]:
    """VOC's images of a list, whose labels are class ids + 1 already."""
    listed = (root / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split()
    return [
        Example(
            name,
            root / "JPEGImages" / f"{name}.jpg",
            partial(read_label, root / "SegmentationClassAug" / f"{name}.png"),
        )
        for name in listed
    ]


def coco_examples(root: Path, names: list[str]) -> Iterator[Example]:
    """COCO's annotated images whose files exist, with labels in the classes `names`."""
    things = [SAME.get(name, name) for name in builtin("coco").names]
    value = np.array([0, *(1 + names.index(name) for name in things)], np.uint8)
    for split in ("train2017", "val2017"):
        instances = index_instances(root / "annotations" / f"instances_{split}.json")
        for image in instances.photos:
            path = root / split / f"{image.id}.jpg"
            if path.is_file() and image.spans:
                yield Example(
                    f"{split}_{image.id}",
                    path,
                    partial(_coco_label, instances, image, value),
                )


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


@torch.inference_mode()
def score(
    head: FrozenHead,
    stored: list[Stored],
    examples: list[Example],
    texts: Tensor,
    classes: list[int],
) -> dict[str, Any]:
    """mIoU, FB-IoU and IoU per class, each class scored on every image that shows it."""
    tally = Tally(len(texts))
    for item, example in zip(stored, examples, strict=True):
        shown = [c for c in classes if c in item.classes]
        if not shown:
            continue
        label = example.label()
        stages = [torch.from_numpy(stage)[None].float() for stage in item.stages]
        scores = head.scores(head.hidden(stages), texts[shown])
        scores = torch.nn.functional.interpolate(scores, size=label.shape, mode="bilinear")
        for c, margin in zip(shown, scores[0].numpy(), strict=True):
            tally.add(c, count(margin > 0, label == c + 1, label == IGNORE))
    scored = [c for c in classes if tally.images[c]]
    return {
        "miou": tally.miou(scored),
        "fb_iou": tally.fb_iou(scored),
        "class_iou": dict(zip(scored, (100 * tally.class_iou(scored)).tolist(), strict=True)),
    }


def write(path: Path, head: FrozenHead, words: Words, trained: list[str], about: dict) -> None:
    """Write the head, the table of words and the recipe as one safetensors file."""
    tensors = {
        f"head.{key}": value.half() if value.is_floating_point() else value
        for key, value in head.state_dict().items()
    }
    tensors["words"] = torch.from_numpy(words.rows).half()
    recipe = {
        "arch": "lite2_frozen",
        "input_side": 0,
        "words": words.names,
        "trained": trained,
        **about,
    }
    weight_files.write_safetensors(path, tensors, recipe)


@click.command(help=__doc__)
@click.option("--voc", "voc_root", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--coco", "coco_root", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--texts", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--features", type=click.Path(path_type=Path), default=Path("results/words/features"))
@click.option("--out", type=click.Path(path_type=Path), help="File of the trained head.")
@click.option("--hold-out", default="", help='Classes of VOC, as "cat, dog".')
@click.option("--steps", default=HeadRecipe.steps, show_default=True)
@click.option("--absent", default=HeadRecipe.absent, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(
    voc_root: Path,
    coco_root: Path,
    texts: Path,
    features: Path,
    out: Path | None,
    hold_out: str,
    steps: int,
    absent: float,
    seed: int,
) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with one_line_errors():
        trained, words = read_words(texts)
        unseen = [name.strip() for name in hold_out.split(",") if name.strip()]
        unknown = [name for name in unseen if name not in trained.names[:20]]
        if unknown:
            raise SettingError(
                f"--hold-out: expected classes of VOC ({', '.join(trained.names[:20])}),"
                f" found {', '.join(unknown)}"
            )
        examples = [*voc_examples(voc_root, "trainaug"), *coco_examples(coco_root, trained.names)]
        recipe = HeadRecipe(steps=steps, absent=absent, seed=seed)
        held = [trained.names.index(name) for name in unseen]
        table = torch.from_numpy(trained.rows)
        head = train_head(store(examples, features), table, recipe, held_out=held)
        if out is not None:
            about = {
                "recipe": asdict(recipe),
                "held_out": unseen,
                "backbone": BACKBONE,
                "backbone_sha256": FrozenStages().sha256,
            }
            seen = [name for name in trained.names if name not in unseen]
            write(out, head, words, seen, about)
            log.info("wrote %s", out)
        validation = voc_examples(voc_root, "val")
        stored = store(validation, features)
        for what, classes in {"unseen": held, "seen": sorted({*range(20)} - {*held})}.items():
            if classes:
                figures = score(head, stored, validation, table, classes)
                ious = {trained.names[c]: round(v, 1) for c, v in figures["class_iou"].items()}
                text = "%s: mIoU %.1f, FB-IoU %.1f, %s"
                log.info(text, what, figures["miou"], figures["fb_iou"], ious)


if __name__ == "__main__":
    main()
