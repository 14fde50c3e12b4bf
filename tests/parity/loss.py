"""SAZS' loss terms and gradients against `loss`.

Errors are relative for the terms and gradient norms, absolute for maps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from models.sazs.inverseform import TILE, InverseNet
from tests.parity.case import Case, available
from tests.parity.fill import fill, image
from tests.parity.golden import Golden, index, key_case
from train.sazs import losses

FILES = ("loss.npz",)
ALLOWED = 1e-5
TERMS = {"seg": "seg", "bce": "edge", "att": "attention", "inv": "shape", "total": "total"}


def cases(folder: Path) -> Iterator[Case]:
    golden = Golden.find(folder, "loss")
    if golden is None:
        return
    regressor = fill(InverseNet(), golden.info["seed"]).requires_grad_(False).eval()
    yield key_case(folder, "inversenet", regressor.state_dict(), lambda key: False)
    for check in (_terms, _parts, _edge_cases, _regressor):
        yield from available(check(golden, regressor))


def _inputs(golden: Golden) -> dict[str, torch.Tensor]:
    names = ("logits", "edge_logits", "target", "edge_gt")
    return {name: torch.from_numpy(golden.file[name]) for name in names}


def _relative(golden: Golden, key: str, value: float) -> Case:
    if key not in golden.file:
        return Case.missing(f"{golden.name} {key}")
    theirs = float(golden.file[key])
    if math.isnan(theirs):
        return Case(f"loss {key} is NaN", 0.0 if math.isnan(value) else math.inf, 0.0)
    return Case(f"loss {key}", abs(value - theirs) / (abs(theirs) or 1.0), ALLOWED)


def _terms(golden: Golden, regressor: InverseNet) -> Iterator[Case]:
    given = _inputs(golden)
    weights = golden.info["weights"]
    joint = losses.JointLoss(
        mode="reference",
        shape="reference",
        regressor=regressor,
        edge=weights["edge"],
        attention=weights["att"],
        inverse=weights["inv"],
    )
    logits = given["logits"].requires_grad_()
    edge_logits = given["edge_logits"].requires_grad_()
    log_prob = F.log_softmax(logits, dim=1)
    cut = index(golden.info["cuts"].get("log_prob", "[:, :, ::8, ::8]"))
    yield golden.case("log_prob", log_prob[cut], 1e-6)
    terms = joint(log_prob, edge_logits, given["target"], given["edge_gt"])
    for theirs, ours in TERMS.items():
        yield _relative(golden, f"loss_{theirs}", terms[ours].item())
        gradients = torch.autograd.grad(
            terms[ours], [logits, edge_logits], retain_graph=True, allow_unused=True
        )
        for name, gradient in zip(("logits", "edge"), gradients, strict=True):
            norm = 0.0 if gradient is None else gradient.norm().item()
            yield _relative(golden, f"gradnorm_{name}_{theirs}", norm)
            if theirs == "total":
                yield golden.case(f"grad_{name}_total", gradient, ALLOWED, relative=True)


def _parts(golden: Golden, regressor: InverseNet) -> Iterator[Case]:
    given = _inputs(golden)
    edge_logits = given["edge_logits"]
    restricted = torch.where(edge_logits.squeeze(1) > 0.8, given["target"], 255)
    counts = [int((restricted == value).sum()) for value in (0, 1, 255)]
    yield golden.case("att_counts", np.array(counts), 0)
    yield golden.case("att_weights", losses.class_weights(restricted), ALLOWED)
    predicted = losses.tiles(F.log_softmax(edge_logits, dim=1))
    target = losses.tiles(given["edge_gt"].float())
    yield golden.case("inv_tiles_shape", np.array(predicted.shape), 0)
    yield golden.case("inv_in_absmax", predicted.abs().max(), 0)
    yield golden.case("inv_target_mean", target.mean(dim=(1, 2, 3)), 1e-6)
    yield golden.case("inv_out", regressor(predicted, target), 1e-5)


def _regressor(golden: Golden, regressor: InverseNet) -> Iterator[Case]:
    """The regressor alone, on two images: one of the file's seed and one of the next."""
    seed = golden.info["seed"]
    pair = [image(TILE, TILE, drawn, 3)[:, :1] for drawn in (seed, seed + 1)]
    yield golden.case("net_out", regressor(*pair), 1e-5)


def _edge_cases(golden: Golden, regressor: InverseNet) -> Iterator[Case]:
    given = _inputs(golden)
    log_prob, edge_logits = F.log_softmax(given["logits"], dim=1), given["edge_logits"]
    target, edges = given["target"], given["edge_gt"]
    silent = torch.full_like(edge_logits, 0.0)
    none = losses.attention_loss(log_prob, silent, target, empty=math.nan)
    yield _relative(golden, "att_none_above", none.item())
    zeros = losses.attention_loss(log_prob, edge_logits, torch.where(target == 255, target, 0))
    yield _relative(golden, "att_one_class", zeros.item())
    framed = edges.clone()
    framed[:, :, :4] = 255
    yield _relative(golden, "bce_top4_rows_255", losses.edge_loss(edge_logits, framed).item())
    blank = losses.edge_loss(edge_logits, torch.zeros_like(edges))
    yield _relative(golden, "bce_no_edge", blank.item())
