"""Matching, losses and parameter groups: goldens, known answers, bad batches."""

from __future__ import annotations

import itertools
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from data.errors import DivergenceError
from models.zegformer.network import Prediction, ZegFormer, normalised_batch
from tests.parity import zegformer_training as family
from train.zegformer.criterion import Criterion, dice_loss, focal_loss, pixel_loss
from train.zegformer.matcher import Target, cost, dice_cost, focal_cost, match, match_layers
from train.zegformer.optimizer import adamw

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.mark.slow
def test_goldens():
    results = list(family.cases(GOLDEN))
    assert len(results) == 148
    assert [case for case in results if not case.passed] == []


LOGITS = torch.tensor([[2, -1, 0, 0.5], [-3, 1, 4, -2]])
MASKS = torch.tensor([[1.0, 0, 1, 0], [0, 1, 1, 1]])


def test_losses_and_costs_are_the_known_answers():
    everywhere = torch.ones_like(MASKS)
    assert float(focal_loss(LOGITS, MASKS, everywhere, 2)) == pytest.approx(0.095262, abs=1e-6)
    assert float(dice_loss(LOGITS, MASKS, everywhere, 2)) == pytest.approx(0.246596, abs=1e-6)
    found = focal_cost(LOGITS, MASKS).flatten().tolist()
    assert found == pytest.approx([0.085956, 0.368310, 0.304831, 0.104567], abs=1e-6)
    found = dice_cost(LOGITS, MASKS).flatten().tolist()
    assert found == pytest.approx([0.286523, 0.396894, 0.373142, 0.206669], abs=1e-6)


def small_batch() -> tuple[Prediction, Target]:
    """The specification's four queries, three classes and two targets."""
    q, c = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    y, x = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    masks = 2 * torch.cos(1.3 * torch.arange(4.0)[:, None, None] + 0.9 * y - 0.7 * x)
    target = torch.zeros(2, 8, 8, dtype=torch.bool)
    target[0, :4, :5] = True
    target[1, 5:, 2:] = True
    prediction = Prediction(torch.sin(4 * q + c)[None], masks[None])
    return prediction, Target(torch.tensor([0, 2]), target)


def test_a_small_batch_is_the_known_answer():
    prediction, target = small_batch()
    ((queries, chosen),) = match(prediction, [target])
    assert (queries.tolist(), chosen.tolist()) == ([1, 3], [0, 1])
    ce, mask, dice = Criterion().layer(prediction, [target], 2.0)
    assert [float(ce), float(mask), float(dice)] == pytest.approx(
        [1.535372, 0.194693, 0.526986], abs=1e-6
    )


@given(st.integers(1, 5), st.integers(0, 5), st.integers(0, 2**31))
@settings(max_examples=30)
def test_no_assignment_is_cheaper(Q, n, seed):
    generator = torch.Generator().manual_seed(seed)
    prediction = Prediction(
        torch.randn(1, Q, 4, generator=generator), torch.randn(1, Q, 4, 4, generator=generator)
    )
    masks = torch.rand(n, 8, 8, generator=generator) > 0.5
    target = Target(torch.randint(0, 3, (n,), generator=generator), masks)
    ((queries, chosen),) = match(prediction, [target])
    assert len(queries) == min(Q, n)
    costs = cost(prediction, 0, target)
    found = float(costs[queries, chosen].sum())
    small, large = sorted((Q, n))
    table = costs if n <= Q else costs.T
    best = min(
        sum(float(table[row, column]) for column, row in enumerate(rows))
        for rows in itertools.permutations(range(large), small)
    )
    assert found == pytest.approx(best, abs=1e-5)


def test_unlabelled_pixels_can_be_left_out_of_mask_losses():
    prediction, target = small_batch()
    valid = torch.ones(8, 8, dtype=torch.bool)
    valid[:, 6:] = False
    outside = Prediction(prediction.logits, prediction.masks.clone())
    outside.masks[..., 3] += 9
    criterion = Criterion(ignore_unlabelled=True)
    pairs = match(prediction, [target])

    def mask_losses(criterion: Criterion, prediction: Prediction, valid) -> list[float]:
        own = Target(
            target.labels, target.masks & valid if valid is not None else target.masks, valid
        )
        return [float(x) for x in criterion.layer(prediction, [own], 2.0)[1:]]

    assert mask_losses(Criterion(), prediction, valid) != mask_losses(criterion, prediction, valid)
    everything = torch.ones_like(valid)
    assert mask_losses(criterion, prediction, everything) == pytest.approx(
        mask_losses(Criterion(), prediction, None)
    )
    assert len(pairs[0][0]) == 2


def test_an_image_without_masks_trains_no_object_alone():
    prediction, _ = small_batch()
    prediction = Prediction(prediction.logits, prediction.masks.requires_grad_())
    empty = Target(torch.empty(0, dtype=torch.int64), torch.zeros(0, 8, 8, dtype=torch.bool))
    terms = Criterion()([prediction], [empty])
    terms["total"].backward()
    terms = {name: value.detach() for name, value in terms.items()}
    assert float(terms["loss_mask"]) == float(terms["loss_dice"]) == 0
    expected = -prediction.logits.log_softmax(dim=2)[0, :, 3].mean()
    assert float(terms["total"]) == pytest.approx(float(expected))
    assert prediction.masks.grad is not None and not prediction.masks.grad.any()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_outputs_that_are_not_finite_are_named(value):
    prediction, target = small_batch()
    prediction.masks[0, 2, 1, 1] = value
    with pytest.raises(DivergenceError, match=r"image 0 of the batch.*SOLVER\.BASE_LR"):
        match(prediction, [target])


def test_half_precision_outputs_do_not_overflow():
    """Sums over 25,600 pixels exceed what half precision holds; costs are float32."""
    masks = torch.full((1, 2, 160, 160), 60.0, dtype=torch.float16)
    prediction = Prediction(torch.zeros(1, 2, 3, dtype=torch.float16), masks)
    target = Target(torch.tensor([1]), torch.zeros(1, 640, 640, dtype=torch.bool))
    with torch.autocast("cpu", torch.bfloat16):
        terms = Criterion()([prediction], [target])
    assert torch.isfinite(terms["total"])
    assert terms["total"].dtype == torch.float32


@pytest.mark.parametrize(
    ("norm", "of_trunk"),
    [("FrozenBN", [(1e-5, 1e-4)]), ("BN", [(1e-5, 0.0), (1e-5, 1e-4)])],
)
def test_optimizer_leaves_the_temperature_alone(norm, of_trunk):
    with torch.device("meta"):
        model = ZegFormer(depth=50, norm=norm)
    optimizer = adamw(model)
    found = sorted((g["lr"], g["weight_decay"]) for g in optimizer.param_groups)
    assert found == [pytest.approx(own) for own in [*of_trunk, (1e-4, 0.0), (1e-4, 1e-4)]]
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert id(model.sem_seg_head.predictor.logit_scale) not in trained
    assert id(model.sem_seg_head.predictor.bg_feature) in trained
    assert len(trained) == np.count_nonzero([p.requires_grad for p in model.parameters()])


def batch_of(device: str) -> tuple[list[Prediction], list[Target]]:
    """Six layers for three images with 2, 0 and 3 targets."""
    torch.manual_seed(0)
    predictions = [
        Prediction(
            torch.randn(3, 8, 6, device=device, requires_grad=True),
            torch.randn(3, 8, 16, 16, device=device, requires_grad=True),
        )
        for _ in range(6)
    ]
    targets = [
        Target(
            torch.arange(n, device=device),
            torch.rand(n, 64, 64, device=device) > 0.5,
            torch.rand(64, 64, device=device) > 0.2,
        )
        for n in (2, 0, 3)
    ]
    return predictions, targets


class Waits(TorchDispatchMode):
    """Counts operations that read values of tensors, for which a CPU waits for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        masked = "index" in name and any(
            isinstance(i, torch.Tensor) and i.dtype == torch.bool
            for part in args if isinstance(part, list | tuple) for i in part
        )  # fmt: skip
        self.count += masked or any(
            part in name
            for part in ("_local_scalar_dense", "nonzero", "masked_select", "equal.def")
        )
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("ignore_unlabelled", [False, True])
def test_losses_read_no_value_back(ignore_unlabelled):
    predictions, targets = batch_of("cpu")
    with Waits() as waits:
        Criterion(ignore_unlabelled=ignore_unlabelled)(predictions, targets)["total"].backward()
    assert waits.count == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_step_waits_for_the_gpu_once():
    """For the matching costs; the losses are read by the engine."""
    images = [torch.zeros(3, 64, 64, dtype=torch.uint8, device="cuda")] * 3
    model = ZegFormer(depth=14, queries=8, dim=32, mask_dim=32, heads=2, text_dim=16).cuda()
    text = torch.randn(5, 16, device="cuda")
    _, targets = batch_of("cuda")

    def step() -> None:
        predictions = model(normalised_batch(images), text, every_layer=True)
        Criterion(ignore_unlabelled=True)(predictions, targets)["total"].backward()

    step()  # the first one fills caches
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        step()
        torch.cuda.set_sync_debug_mode("default")
    waits = [str(w.message) for w in caught if "synchroniz" in str(w.message)]
    assert len(waits) == 1, waits


def test_layers_matched_together_are_those_matched_alone():
    predictions, targets = batch_of("cpu")
    for prediction, pairs in zip(predictions, match_layers(predictions, targets), strict=True):
        for ours, theirs in zip(pairs, match(prediction, targets), strict=True):
            assert all(map(torch.equal, ours, theirs))
    terms = Criterion()(predictions, targets)
    ce, mask, dice = Criterion().layer(predictions[2], targets, 5.0)
    found = (terms["loss_ce_2"], terms["loss_mask_2"], terms["loss_dice_2"])
    torch.testing.assert_close(found, (ce, mask, dice))


def test_segments_count_alike_in_the_loss_of_pixels():
    """Of a large segment with loss 0 and a small one with loss log 2, the mean; nothing else."""
    logits = torch.full((1, 2, 4, 4), 0.0)
    logits[:, 0, :, :2] = 50.0
    left, right = (torch.zeros(8, 8, dtype=torch.bool) for _ in range(2))
    left[:, :4], right[0, 6] = True, True
    target = Target(torch.tensor([0, 1]), torch.stack([left, right]))
    assert float(pixel_loss(logits, [target])) == pytest.approx(math.log(2) / 2, abs=1e-6)
    nothing = Target(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 8, 8, dtype=torch.bool))
    assert float(pixel_loss(logits, [nothing])) == 0
    both = torch.cat([logits, logits])
    assert float(pixel_loss(both, [target, nothing])) == pytest.approx(math.log(2) / 2, abs=1e-6)


def test_pixels_take_part_only_on_request():
    masks = torch.zeros(1, 2, 4, 4)
    target = Target(torch.tensor([0]), torch.ones(1, 8, 8, dtype=torch.bool))
    prediction = Prediction(torch.zeros(1, 2, 3), masks, torch.zeros(1, 2, 2, 2))
    plain = Criterion()([prediction], [target])
    more = Criterion(pixel_weight=0.5)([prediction], [target])
    assert "loss_pixel" not in plain
    assert float(more["total"] - plain["total"]) == pytest.approx(math.log(2) / 2)
