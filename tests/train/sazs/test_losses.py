"""SAZS' objective: goldens, the specification's known answers, and its degenerate cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from data.errors import SettingError
from models.sazs.inverseform import InverseNet
from tests.models.known_answers import known_answer_tensor
from tests.parity import loss as loss_family
from train.sazs import losses
from train.sazs.losses import JointLoss

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def regressor():
    network = InverseNet()
    state = {
        key: known_answer_tensor(key, tuple(value.shape))
        for key, value in network.state_dict().items()
    }
    network.load_state_dict(state)
    return network.requires_grad_(False).eval()


def known_inputs():
    rng = np.random.RandomState(11)
    logits = rng.standard_normal((2, 2, 16, 16)).astype(np.float32)
    edge_logits = rng.standard_normal((2, 1, 16, 16)).astype(np.float32)
    target = (rng.random_sample((2, 16, 16)) < 0.3).astype(np.uint8)
    target[0, 0, 0:4] = 255
    edges = (rng.random_sample((2, 1, 16, 16)) < 0.2).astype(np.uint8)
    arrays = (logits, edge_logits, target, edges)
    return [torch.from_numpy(array) for array in arrays]


def test_goldens():
    results = list(loss_family.cases(GOLDEN))
    assert len(results) == 30
    assert [case for case in results if not case.passed] == []


def test_known_answers(regressor):
    logits, edge_logits, target, edges = known_inputs()
    log_prob = F.log_softmax(logits, dim=1)
    joint = JointLoss(mode="reference", shape="reference", regressor=regressor)
    terms = {k: v.item() for k, v in joint(log_prob, edge_logits, target, edges).items()}
    expected = {
        "seg": 0.868764, "edge": 0.252676, "attention": 1.790129, "shape": 0.361701,
        "total": 1.232090,
    }  # fmt: skip
    assert terms == pytest.approx(expected, abs=2e-6)
    without = JointLoss(mode="reference")(log_prob, edge_logits, target, edges)
    assert without["total"].item() == pytest.approx(1.123580, abs=2e-6)
    assert (edge_logits > 0.8).sum(dim=(1, 2, 3)).tolist() == [59, 60]


def test_published_shape_loss_has_no_gradient_and_the_fixed_one_has(regressor):
    _, edge_logits, _, edges = known_inputs()
    for kind, moves in (("reference", False), ("fixed", True)):
        leaf = edge_logits.clone().requires_grad_()
        losses.shape_loss(leaf, edges, regressor, kind=kind).backward()
        assert (leaf.grad.abs().max() > 0) == moves


def test_void_pixels_do_not_count():
    logits, _, target, _ = known_inputs()
    log_prob = F.log_softmax(logits, dim=1)
    changed = log_prob.clone()
    changed[0, :, 0, 0:4] = -50.0
    expected = losses.segmentation_loss(log_prob, target)
    assert losses.segmentation_loss(changed, target) == expected


def test_corrected_attention_does_not_grow_with_the_batch():
    logits, edge_logits, target, edges = known_inputs()
    log_prob = F.log_softmax(logits, dim=1)
    inputs = (log_prob, edge_logits, target, edges)
    doubled = [torch.cat([x, x]) for x in inputs]
    for mode, ratio in (("corrected", 1.0), ("reference", 2.0)):
        once, twice = JointLoss(mode=mode)(*inputs), JointLoss(mode=mode)(*doubled)
        assert (twice["attention"] / once["attention"]).item() == pytest.approx(ratio, rel=1e-5)


def test_overlap_is_that_of_the_areas_and_joins_the_total():
    logits, edge_logits, target, edges = known_inputs()
    certain = 60 * F.one_hot((logits[:, 1] > logits[:, 0]).long(), 2).permute(0, 3, 1, 2).float()
    log_prob = F.log_softmax(certain, dim=1)
    answer = (logits[:, 1] > logits[:, 0]).numpy()
    counted, true = target.numpy() != 255, target.numpy() == 1
    dice = (2 * (answer & true).sum() + 1) / ((answer & counted).sum() + true.sum() + 1)
    assert losses.overlap_loss(log_prob, target).item() == pytest.approx(1 - dice, abs=1e-5)
    plain, more = (
        JointLoss(overlap=weight)(log_prob, edge_logits, target, edges) for weight in (0.0, 2.0)
    )
    assert "overlap" not in plain
    assert more["total"].item() == pytest.approx(plain["total"].item() + 2 * (1 - dice), rel=1e-5)


def test_degenerate_batches_are_finite_with_finite_gradients():
    logits, edge_logits, target, edges = known_inputs()
    silent, void = torch.full_like(edge_logits, -9.0), torch.full_like(target, 255)
    for e, t, g in (
        (silent, target, edges),
        (edge_logits, void, edges),
        (edge_logits, target, torch.zeros_like(edges)),
        (edge_logits, target, torch.full_like(edges, 255)),
    ):
        leaves = [logits.clone().requires_grad_(), e.clone().requires_grad_()]
        terms = JointLoss()(F.log_softmax(leaves[0], dim=1), leaves[1], t, g)
        assert terms["total"].isfinite()
        terms["total"].backward()
        assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in leaves)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "fast"}, "expected corrected or reference"),
        ({"shape": "on"}, "expected none, reference or fixed"),
        ({"shape": "fixed"}, "distance_measures_regressor"),
    ],
)
def test_wrong_settings_are_refused(arguments, message):
    with pytest.raises(SettingError, match=message):
        JointLoss(**arguments)
