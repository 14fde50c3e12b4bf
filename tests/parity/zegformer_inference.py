"""ZegFormer's inference against `zegformer-inference-*` and `zegformer-half`.

Errors are largest absolute differences of 99 % or all of the values (the files' README says which),
shares of differing pixels for label maps, and differing numbers for boxes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from eval.zegformer import crops
from eval.zegformer import ensemble as gzs
from eval.zegformer.segmenter import Classes, Queries, Scoring, Segmenter
from eval.zegformer.segments import Segments, enlarged
from models.clip.prompts import templates
from models.clip.text import encode_classes
from models.clip.weights import to_half
from tests.parity import zegformer_golden
from tests.parity.case import Case, available
from tests.parity.zegformer_golden import Sampled, array, published_path

FILES = tuple(f"zegformer-{name}.npz" for name in ("inference-made", "inference-model", "half"))
VARIANTS = {
    "query": Scoring(mode="query", gamma=0),
    "query_calibrated": Scoring(mode="query"),
    "ensemble_calibrated": Scoring(),
    "ensemble": Scoring(gamma=0),
    "ensemble_all": Scoring(mode="ensemble_all", gamma=0),
    "clip_only": Scoring(mode="image", gamma=0),
    "ensemble_calibrated_resized": Scoring(),
    "ensemble_calibrated_nosize": Scoring(),
    "style_crop": Scoring(gamma=0, style="crop"),
    "style_mask": Scoring(gamma=0, style="mask"),
}


def cases(folder: Path, *, brief: bool = False) -> Iterator[Case]:
    """brief: no 32-prompt ensemble of all classes (minutes); stored logits of crops instead."""
    made, model, half = (
        Sampled.find(folder, name) for name in ("inference-made", "inference-model", "half")
    )
    # One segmenter per seed, as encoding takes minutes and all files usually have the same seed.
    for seed in sorted({golden.seed for golden in (made, model) if golden is not None}):
        goldens = (g if g is not None and g.seed == seed else None for g in (made, model, half))
        with torch.no_grad():
            yield from _of_seed(_segmenter(folder, seed, brief), *goldens)
    if half is not None and (made is None or half.seed != made.seed):
        yield Case.missing(f"zegformer-inference-made.npz of seed {half.seed}, for {half.name}")


def _of_seed(
    segmenter: Segmenter, made: Sampled | None, model: Sampled | None, half: Sampled | None
) -> Iterator[Case]:
    brief = segmenter.classes.crop_text is None
    if made is not None:
        yield from available(_variants(made, segmenter, _made(made, "", "image")))
        if not brief:
            yield from available(_batch(made, segmenter))
    if model is not None:
        yield from available(_own_queries(model, segmenter))
    if half is not None and made is not None and not brief:
        # It changes the segmenter's CLIP for good, so it comes last.
        yield from available(_half(half, segmenter, _made(made, "", "image")))


def _own_queries(golden: Sampled, segmenter: Segmenter) -> Iterator[Case]:
    photo = segmenter.queries(torch.from_numpy(golden["image"]))
    yield golden.case("pred_logits", photo.logits[None], 5e-4)
    yield from _variants(golden, segmenter, photo)


def _segmenter(folder: Path, seed: int, brief: bool) -> Segmenter:
    lists = json.loads(published_path(folder, "classes_coco_stuff.json").read_text())
    clip = zegformer_golden.clip(seed)
    unseen = torch.zeros(len(lists["names"]), dtype=torch.bool)
    unseen[lists["unseen"]] = True
    text = encode_classes(clip, lists["names"], templates("single"))
    crop_text = None if brief else encode_classes(clip, lists["names"], templates("crops"))
    model = zegformer_golden.network(seed, depth=101)
    classes = Classes(text, unseen, crop_text)
    return Segmenter(model, classes, clip=clip, scoring=Scoring(mode="query"))


def _made(golden: Sampled, prefix: str, image: str, suffix: str = "") -> Queries:
    masks = torch.from_numpy(golden[f"{prefix}pred_masks{suffix}"])
    logits = torch.from_numpy(golden[f"{prefix}pred_logits{suffix}"])
    if masks.ndim == 4:
        masks, logits = masks[0], logits[0]
    padded = (4 * masks.shape[1], 4 * masks.shape[2])
    return Queries(torch.from_numpy(golden[image]), logits, enlarged(masks, padded))


def _variants(golden: Sampled, segmenter: Segmenter, photo: Queries) -> Iterator[Case]:
    made = golden.name.endswith("made")
    boxes = crops.published_boxes(photo.masks.sigmoid() > 0.5)
    yield golden.case("boxes", boxes, 0)
    brief = segmenter.classes.crop_text is None
    features: dict[str, torch.Tensor] = {}
    for name, scoring in VARIANTS.items():
        segmenter.scoring = scoring
        style, image = scoring.style, None
        if f"{name}.map.sample" not in golden:
            continue
        if scoring.mode != "query":
            if brief and not made:
                continue
            if style not in features:
                (features[style],) = segmenter.crop_features([photo])
                yield from _crops(golden, segmenter, photo, style)
                share = 1.0 if made else 0.99
                yield golden.case(f"image_features.{style}", features[style], 1e-3, share=share)
            if not brief:
                image = _image_logits(segmenter, features[style], photo)
            elif style == "cropmask":
                # Stored whole for the made-up outputs.
                stored = golden["clip_only.class_scores.sample"]
                image = torch.from_numpy(stored).view(len(photo.logits), -1)
            else:
                continue
        yield from _scores_and_maps(golden, segmenter, photo, image, name)


def _image_logits(segmenter: Segmenter, features: torch.Tensor, photo: Queries) -> torch.Tensor:
    text, clip = segmenter.classes.crop_text, segmenter.clip
    assert text is not None and clip is not None
    return gzs.image_logits(features, text, clip.logit_scale.exp(), photo.logits[:, -1])


def _scores_and_maps(
    golden: Sampled,
    segmenter: Segmenter,
    photo: Queries,
    image: torch.Tensor | None,
    name: str,
) -> Iterator[Case]:
    scoring, classes = segmenter.scoring, segmenter.classes
    scores = gzs.class_scores(photo.logits, image, classes.unseen, mode=scoring.mode)
    if scoring.mode == "query":
        entering, allowed = photo.logits, 5e-4
    elif scoring.mode == "image":
        entering, allowed = image, 5e-4
    else:
        entering, allowed = scores, 1e-4
    # A few mask pixels of the model's own queries lie at the threshold, and move their crops.
    share = 0.99 if scoring.mode == "image" and golden.name.endswith("model") else 1.0
    yield golden.case(f"{name}.class_scores", entering, allowed, share=share)
    found = Segments(scores, photo.masks, photo.size)
    size = tuple(int(n) for n in golden[f"{name}.map.shape"][1:])
    maps = segmenter.maps(found, size)
    yield golden.case(f"{name}.map", maps, 2e-5)
    yield golden.case(f"{name}.class_mean", maps.mean(dim=(1, 2)), 2e-5)
    if golden.name.endswith("made"):
        yield _labels(golden, f"{name}.argmax", segmenter.labels(found, size))


def _labels(golden: Sampled, key: str, ours: torch.Tensor) -> Case:
    """Share of differing pixels."""
    if key not in golden:
        return Case.missing(f"{golden.name} {key}")
    return Case(f"{golden.name} {key}", float((array(ours) != golden[key]).mean()), 1e-3)


def _crops(golden: Sampled, segmenter: Segmenter, photo: Queries, style: str) -> Iterator[Case]:
    segmenter.scoring = replace(segmenter.scoring, style=style)
    pictures, row = segmenter.crops_of(photo, 224)
    for q in golden["queries"].tolist():
        yield golden.case(f"crops.{style}.query{q}", pictures[row[q]], 1e-3, share=0.99)
    means = pictures.mean(dim=(1, 2, 3))[row]
    yield golden.case(f"crops.{style}.mean_per_query", means, 1e-3, share=0.99)


def _batch(golden: Sampled, segmenter: Segmenter) -> Iterator[Case]:
    """Two photos padded to one size: the second's masks reach over its edge."""
    segmenter.scoring = Scoring()
    photos = [_made(golden, "", "image"), _made(golden, "batch.", "batch.image1", "1")]
    boxes = [crops.published_boxes(photo.masks.sigmoid() > 0.5) for photo in photos]
    yield golden.case("batch.boxes", torch.cat(boxes), 0)
    for i, (photo, found) in enumerate(zip(photos, segmenter.scored(photos), strict=True)):
        yield golden.case(f"batch.map{i}", segmenter.maps(found, photo.size), 2e-5)
        yield _labels(golden, f"batch.argmax{i}", segmenter.labels(found, photo.size))


def _half(golden: Sampled, segmenter: Segmenter, photo: Queries) -> Iterator[Case]:
    """CLIP in half precision: as far from the stored half values as half is from float32."""
    names = json.loads((zegformer_golden.OWN / "classes_coco_stuff.json").read_text())["names"][:8]
    assert segmenter.clip is not None
    to_half(segmenter.clip)
    for short, prompts in (("single", "single"), ("clip", "crops")):
        found = encode_classes(segmenter.clip, names, templates(prompts))
        allowed = float(golden[f"text.{short}.largest_difference"])
        yield golden.case(f"text.{short}.half", found, 2 * allowed)
    for name in ("ensemble_calibrated", "clip_only"):
        segmenter.scoring = VARIANTS[name]
        (found,) = segmenter.scored([photo])
        maps = segmenter.maps(found, photo.size)
        allowed = float(golden[f"{name}.largest_difference"])
        yield golden.case(f"{name}.map.half", maps, 2 * allowed)
