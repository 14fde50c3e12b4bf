"""ZegFormer's network and texts against `zegformer-backbone-*`, `-model-*` and `-text`.

Errors are largest absolute differences, and counts of differing entries for names and tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from data.text.vocabulary import synonyms
from models.clip.clip import CLIP, PIXEL_MEAN, PIXEL_STD, tokenize
from models.clip.prompts import templates
from models.clip.text import encode_classes
from models.zegformer.network import ZegFormer, normalised_batch
from models.zegformer.resnet import ResNet, msra_key, torchvision_key
from models.zegformer.transformer import sine_positions
from tests.parity import zegformer_golden
from tests.parity.case import Case, available
from tests.parity.fill import image
from tests.parity.zegformer_golden import Sampled, array, published_path

FILES = tuple(
    f"zegformer-{name}.npz"
    for name in ("backbone-r50", "backbone-r101", "model-train", "model-gzss", "text")
)
# By the names that the files use.
PROMPTS = {
    "single": templates("single"),
    "select": templates("imagenet_select"),
    "clip": templates("crops"),
}


def cases(folder: Path, *, brief: bool = False) -> Iterator[Case]:
    """brief: leave out the 32-prompt ensemble of all classes, minutes of encoding."""
    with torch.no_grad():
        for depth in (50, 101):
            golden = Sampled.find(folder, f"backbone-r{depth}")
            if golden is not None:
                yield from available(_backbone(folder, golden, depth))
        yield from _network_and_text(folder, brief)


def _backbone(folder: Path, golden: Sampled, depth: int) -> Iterator[Case]:
    backbone = zegformer_golden.fill(ResNet(depth), golden.seed, prefix="backbone.")
    state = {f"backbone.{key}": list(value.shape) for key, value in backbone.state_dict().items()}
    path = published_path(folder, "zegformer-backbone-keys.json")
    published = json.loads(path.read_text())[f"r{depth}"]
    yield Case(f"{golden.name} keys and shapes", float(len(_differing(state, published))), 0)
    path = published_path(folder, "zegformer-backbone-weights-map.json")
    names = json.loads(path.read_text())[f"r{depth}"]
    for layout, rename in (("torchvision", torchvision_key), ("msra", msra_key)):
        wrong = [k for k in state if rename(k.removeprefix("backbone.")) != names[layout][k]]
        yield Case(f"{golden.name} {layout} names", float(len(wrong)), 0)
    trained = np.array([
        sum(p.numel() for p in backbone.parameters()), sum(1 for _ in backbone.parameters())
    ])  # fmt: skip
    yield golden.case("trainable_parameters", trained, 0)
    _, _, height, width = golden["input.shape"]
    for name, features in backbone(image(int(height), int(width), golden.seed)).items():
        yield golden.case(name, features, 1e-4)


def _network_and_text(folder: Path, brief: bool) -> Iterator[Case]:
    text = Sampled.find(folder, "text")
    models = [g for g in (Sampled.find(folder, f"model-{n}") for n in ("train", "gzss")) if g]
    names = _names(folder)
    # One CLIP per seed, as encoding takes minutes and all files usually have the same seed.
    for seed in sorted({golden.seed for golden in (text, *models) if golden is not None}):
        clip = zegformer_golden.clip(seed)
        has_text = text is not None and text.seed == seed
        encoded = {
            short: encode_classes(clip, names[:8] if brief and short == "clip" else names, prompts)
            for short, prompts in PROMPTS.items()
            if has_text or short != "clip"
        }
        if text is not None and has_text:
            yield from available(_text(folder, text, clip, names, encoded))
        for golden in models:
            if golden.seed == seed:
                yield from available(_network(folder, golden, encoded))


def _names(folder: Path) -> list[str]:
    path = published_path(folder, "classes_coco_stuff.json")
    return json.loads(path.read_text())["names"]


def _text(
    folder: Path, golden: Sampled, clip: CLIP, names: list[str], encoded: dict[str, torch.Tensor]
) -> Iterator[Case]:
    for short, prompts in {**PROMPTS, "imagenet": templates("imagenet")}.items():
        yield golden.case(f"templates.{short}.count", np.array(len(prompts)), 0)
    for short in ("select", "clip"):
        filled = [t.replace("{}", name) for name in names[:8] for t in PROMPTS[short]]
        tokens = tokenize(filled).view(8, -1, 77)
        # The order inside a set is free: the features are averaged.
        yield Case(f"text tokens.{short}", float(_as_sets(tokens, golden[f"tokens.{short}"])), 0)
    (single,) = templates("single")
    tokens = tokenize([single.replace("{}", name) for name in names])
    yield golden.case("tokens.all_single", tokens, 0)
    ade = json.loads(published_path(folder, "classes_ade20k_full.json").read_text())["names"]
    tokens = tokenize([single.replace("{}", word) for name in ade for word in synonyms(name)])
    yield golden.case("tokens.ade_all_single", tokens, 0)
    yield golden.case("tokens.hard", tokenize([str(t) for t in golden["tokens.hard.text"]]), 0)
    for short, found in encoded.items():
        yield golden.case(f"{short}.text_features.first8", found[:8], 1e-5)
        if len(found) == len(names):
            yield golden.case(f"{short}.text_features.sum_per_class", found.sum(dim=1), 1e-4)
            yield golden.case(f"{short}.text_features.second_element", found[:, 1], 1e-5)
    four = [str(name) for name in golden["ade4.names"]]
    for key, short in (
        ("text_features_test", "select"),
        ("text_features_test_clip", "clip"),
        ("single.text_features_test", "single"),
    ):
        yield golden.case(f"ade4.{key}", encode_classes(clip, four, PROMPTS[short]), 1e-5)
    raw = (128 + 50 * image(224, 224, golden.seed, 2)).clamp(0, 255).round().to(torch.uint8)
    pictures = normalised_batch(list(raw), mean=PIXEL_MEAN, std=PIXEL_STD)
    yield golden.case("encode_image.raw", clip.encode_image(pictures), 1e-4)


def _as_sets(ours: torch.Tensor, theirs: np.ndarray) -> int:
    """How many classes have other texts, whatever the order of the texts."""
    pairs = zip(ours.tolist(), theirs.astype(int).tolist(), strict=True)
    return sum(sorted(a) != sorted(b) for a, b in pairs)


def _network(folder: Path, golden: Sampled, encoded: dict[str, torch.Tensor]) -> Iterator[Case]:
    training = golden.name == "model-train"
    model = zegformer_golden.network(golden.seed, depth=101, dropout=0.0)
    if training:
        yield _keys(folder, model)
        seen = json.loads(published_path(folder, "classes_coco_stuff.json").read_text())["seen"]
        text = encoded["select"][seen]
    else:
        text = encoded["single"]
    images = normalised_batch(list(torch.from_numpy(golden["image"])))
    features = model.backbone(images)
    head = model.sem_seg_head
    yield golden.case("eval.mask_features", head.pixel_decoder(features), 1e-4)
    projected = head.predictor.input_proj(features["res5"])
    yield golden.case("eval.input_proj", projected, 1e-4)
    positions = sine_positions(*projected.shape[-2:], projected.shape[1], device="cpu")
    yield golden.case("eval.position", positions.expand_as(projected), 1e-6)
    yield golden.case("eval.hs", head.predictor.decode(features["res5"]), 1e-4)
    for mode in ("eval", "train") if training else ("eval",):
        *auxiliary, last = model.train(mode == "train")(images, text, every_layer=True)
        yield from _prediction(golden, mode, last)
        for layer, prediction in enumerate(auxiliary):
            yield from _prediction(golden, f"{mode}.aux{layer}", prediction)
        best = golden[f"{mode}.pred_logits.argmax"] == array(last.logits.argmax(dim=-1))
        yield Case(f"{golden.name} {mode} argmax differs", float(1 - best.mean()), 0)
    if not training:
        (last,) = model(images, encoded["select"])
        yield golden.case("eval.imagenet_select.pred_logits", last.logits, 5e-4)


def _prediction(golden: Sampled, name: str, prediction) -> Iterator[Case]:
    for what, found in (("logits", prediction.logits), ("masks", prediction.masks)):
        key = f"{name}.pred_{what}"
        if f"{key}.sample" in golden:
            yield golden.case(key, found, 5e-4)


def _keys(folder: Path, model: ZegFormer) -> Case:
    """Entries that differ from the published list, those of other owners being absent from ours."""
    lists = json.loads(published_path(folder, "zegformer-model-keys.json").read_text())
    published = {key: shape for part in lists.values() for key, shape in part.items()}
    live = {key: shape for key, shape in published.items() if not model.is_unused(key)}
    own = {key: list(value.shape) for key, value in model.state_dict().items()}
    return Case("model keys and shapes", float(len(_differing(own, live))), 0)


def _differing(ours: dict, theirs: dict) -> set[str]:
    return {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
