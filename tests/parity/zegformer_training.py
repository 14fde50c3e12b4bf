"""ZegFormer's training against `zegformer-criterion` and `zegformer-optimizer`.

Errors: relative for losses, gradient norms and rates; relative to a gradient's largest value for
sampled gradients; numbers of differing entries for matches and groups.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from models.clip.prompts import templates
from models.clip.text import encode_classes
from models.zegformer.network import Prediction, ZegFormer, normalised_batch
from tests.parity import zegformer_golden
from tests.parity.case import Case, available
from tests.parity.fill import tensor_for
from tests.parity.zegformer_golden import Sampled, published_path
from train.schedule import poly
from train.zegformer.criterion import Criterion
from train.zegformer.matcher import Target, class_cost, dice_cost, focal_cost, match
from train.zegformer.optimizer import adamw, groups

FILES = ("zegformer-criterion.npz", "zegformer-optimizer.json")
LAYERS = (*(f"aux{i}" for i in range(5)), "")


def cases(folder: Path) -> Iterator[Case]:
    golden = Sampled.find(folder, "criterion")
    if golden is not None:
        yield from available(_criterion(golden, "a"))
        yield from available(_criterion(golden, "c"))
        yield from available(_whole(folder, golden))
    if (folder / "zegformer-optimizer.json").is_file():
        yield from _optimizer(json.loads((folder / "zegformer-optimizer.json").read_text()))


def target(label: np.ndarray, size: tuple[int, int] | None = None, ignore: int = 255) -> Target:
    """One mask a class, padded to `size` with zeros."""
    H, W = size or label.shape
    classes = np.unique(label[label != ignore]).astype(np.int64)
    masks = torch.zeros(len(classes), H, W, dtype=torch.bool)
    masks[:, : label.shape[0], : label.shape[1]] = torch.from_numpy(
        label[None] == classes[:, None, None]
    )
    return Target(torch.from_numpy(classes), masks)


def _made(golden: Sampled) -> list[Prediction]:
    """The layers' outputs that the criterion alone was given."""
    wide = tuple(int(n) for n in golden["a.input.pred_logits.shape"])
    *queries, h, w = (int(n) for n in golden["a.input.pred_masks.shape"])
    predictions = []
    for layer in LAYERS:
        suffix = f".{layer}" if layer else ""
        logits = 20 * tensor_for(f"golden.pred_logits{suffix}", wide, golden.seed)
        small = 30 * tensor_for(
            f"golden.pred_masks{suffix}", (*queries, h // 4, w // 4), golden.seed
        )
        masks = F.interpolate(
            torch.from_numpy(small), size=(h, w), mode="bilinear", align_corners=False
        )
        predictions.append(
            Prediction(torch.from_numpy(logits).requires_grad_(), masks.requires_grad_())
        )
    return predictions


def _criterion(golden: Sampled, name: str) -> Iterator[Case]:
    predictions = _made(golden)
    targets = [target(golden["a.label0"]), target(golden["a.label1"])]
    if name == "c":
        targets[1] = Target(targets[1].labels[:0], targets[1].masks[:0])
    else:
        yield golden.case("a.input.pred_logits", predictions[-1].logits, 1e-6)
        yield golden.case("a.input.pred_masks", predictions[-1].masks, 1e-5)
        yield from _costs(golden, predictions[-1], targets[0])
    yield from _matches(golden, name, predictions, targets)
    terms = Criterion()(predictions, targets)
    yield from _losses(golden, name, terms)
    if name == "c":
        return
    terms["total"].backward()
    for layer, prediction in zip(LAYERS, predictions, strict=True):
        for what, tensor in (("logits", prediction.logits), ("masks", prediction.masks)):
            key = f"a.grad.{layer + '.' if layer else ''}pred_{what}"
            assert tensor.grad is not None
            norm = float(tensor.grad.norm())
            yield _relative(golden, f"{key}.norm", norm, 1e-3)
            if f"{key}.sample" in golden:
                yield golden.case(key, tensor.grad, 1e-2, relative=True)


def _costs(golden: Sampled, prediction: Prediction, wanted: Target) -> Iterator[Case]:
    with torch.no_grad():
        logits = prediction.masks[0].flatten(1)
        size = prediction.masks.shape[2:]
        masks = F.interpolate(wanted.masks[None].float(), size=size, mode="nearest")[0].flatten(1)
        yield golden.case("a.cost.focal", focal_cost(logits, masks), 1e-4, relative=True)
        yield golden.case("a.cost.dice", dice_cost(logits, masks), 1e-4, relative=True)
        found = class_cost(prediction.logits[0], wanted.labels)
        yield golden.case("a.cost.class", found, 1e-4, relative=True)


def _matches(
    golden: Sampled, name: str, predictions: list[Prediction], targets: list[Target]
) -> Iterator[Case]:
    for layer, prediction in zip(LAYERS, predictions, strict=True):
        for i, pair in enumerate(match(prediction, targets)):
            key = f"{name}.match.{layer + '.' if layer else ''}image{i}"
            yield golden.case(key, torch.stack(pair), 0)


def _losses(golden: Sampled, name: str, terms: dict[str, torch.Tensor]) -> Iterator[Case]:
    for key, value in terms.items():
        yield _relative(golden, f"{name}.{key}", float(value.detach()), 1e-4)


def _relative(golden: Sampled, key: str, ours: float, tolerance: float) -> Case:
    if key not in golden:
        return Case.missing(f"{golden.name} {key}")
    theirs = float(golden[key])
    return Case(f"{golden.name} {key}", abs(ours - theirs) / max(abs(theirs), 1e-12), tolerance)


def _whole(folder: Path, golden: Sampled) -> Iterator[Case]:
    """A training step of the network on two pictures of different size."""
    lists = json.loads(published_path(folder, "classes_coco_stuff.json").read_text())
    names = [lists["names"][i] for i in lists["seen"]]
    clip = zegformer_golden.clip(golden.seed)
    text = encode_classes(clip, names, templates("imagenet_select"))
    model = zegformer_golden.network(golden.seed, depth=101, dropout=0.0).train()
    images = normalised_batch([torch.from_numpy(golden[f"b.image{i}"]) for i in (0, 1)])
    size = (images.shape[2], images.shape[3])
    targets = [target(golden[f"b.label{i}"], size) for i in (0, 1)]
    shapes = np.array([tuple(t.masks.shape) for t in targets])
    yield golden.case("b.mask_shapes", shapes, 0)
    yield golden.case("b.mask_areas1", targets[1].masks.sum(dim=(1, 2)), 0)
    predictions = model(images, text, every_layer=True)
    yield golden.case("b.pred_logits", predictions[-1].logits, 5e-4)
    yield golden.case("b.pred_masks", predictions[-1].masks, 5e-4)
    yield from _matches(golden, "b", predictions, targets)
    terms = Criterion()(predictions, targets)
    yield from _losses(golden, "b", terms)
    terms["total"].backward()
    yield from _gradients(golden, model)


def _gradients(golden: Sampled, model: ZegFormer) -> Iterator[Case]:
    gradients = {k: p.grad for k, p in model.named_parameters() if p.requires_grad}
    absent = sorted(k for k, g in gradients.items() if g is None)
    yield Case(f"{golden.name} b.parameters without gradient", float(len(absent)), 0)
    # Zero by theory: the attended values are equal. What rounding leaves depends on the kernel.
    floor = 1e-6 * float(golden["b.gradient_norm.value"][0])
    zero = [k for k, g in gradients.items() if g is not None and g.norm() <= floor]
    wrong = set(zero) ^ {str(k) for k in golden["b.parameters_with_zero_gradient"]}
    yield Case(f"{golden.name} b.parameters_with_zero_gradient", float(len(wrong)), 0)
    for prefix, value in zip(
        golden["b.gradient_norm.prefix"], golden["b.gradient_norm.value"], strict=True
    ):
        chosen = [g for k, g in gradients.items() if k.startswith(str(prefix)) and g is not None]
        norm = float(torch.linalg.vector_norm(torch.stack([g.norm() for g in chosen])))
        error = abs(norm - value) / value
        yield Case(f"{golden.name} b.gradient_norm {prefix or 'all'}", error, 1e-3)
    bound = float(golden["b.clip"][2])
    before = torch.nn.utils.clip_grad_norm_(model.parameters(), bound)
    after = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients.values()]))  # type: ignore[union-attr]
    found = np.array([float(before), float(after), bound])
    error = float((np.abs(found - golden["b.clip"]) / golden["b.clip"]).max())
    yield Case(f"{golden.name} b.clip", error, 1e-3)
    # Sampled after clipping.
    for key, gradient in gradients.items():
        if f"b.grad.{key}.sample" in golden:
            yield golden.case(f"b.grad.{key}", gradient, 1e-2, relative=True)


def _optimizer(golden: dict) -> Iterator[Case]:
    for name, told in golden.items():
        depth = 101 if "R101" in told["config"] else 50
        with torch.device("meta"):
            model = ZegFormer(depth=depth)
        solver = told["solver"]
        settings = {
            "weight_decay": solver["WEIGHT_DECAY"],
            "norm_decay": solver["WEIGHT_DECAY_NORM"],
            "embedding_decay": solver["WEIGHT_DECAY_EMBED"],
            "backbone_multiplier": solver["BACKBONE_MULTIPLIER"],
        }
        lines = sorted(f"{key} {f:g} {d:g}" for key, _, f, d in groups(model, **settings))
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        yield Case(f"{name} groups", float(digest != told["sha256_of_lines"]), 0)
        optimizer = adamw(model, rate=solver["BASE_LR"], **settings)
        counted = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
        yield Case(f"{name} numbers", float(abs(counted - told["numbers_in_optimizer"])), 0)
        factor = poly(solver["MAX_ITER"], power=solver["POLY_LR_POWER"])
        worst = 0.0
        for step, rates in told["lr_at_iteration"].items():
            for part, scale in (("head", 1.0), ("backbone", solver["BACKBONE_MULTIPLIER"])):
                ours = solver["BASE_LR"] * scale * factor(int(step))
                worst = max(worst, abs(ours - rates[part]) / rates[part])
        yield Case(f"{name} rates", worst, 1e-9)
