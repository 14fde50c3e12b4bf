"""ZegFormer's network: published layout, golden outputs, and properties of its parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import FrozenBatchNorm2d

from models.checkpoints import load_state
from models.zegformer.network import ZegFormer, normalised_batch
from models.zegformer.per_pixel import PerPixelBaseline
from models.zegformer.resnet import COUNTER, FrozenBatchNorm, ResNet, torchvision_key
from models.zegformer.transformer import sine_positions
from tests.parity import zegformer_model as family

GOLDEN = Path(__file__).parents[2] / "golden"


def small(**sizes) -> ZegFormer:
    torch.manual_seed(4)
    sizes = {"queries": 6, "dim": 32, "mask_dim": 32, "text_dim": 16, "heads": 4} | sizes
    return ZegFormer(depth=50, layers=3, feedforward=64, **sizes).eval()


def unit_text(classes: int, dim: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(classes)
    return torch.nn.functional.normalize(torch.randn(classes, dim, generator=generator), dim=1)


@pytest.mark.slow
def test_goldens():
    results = list(family.cases(GOLDEN, brief=True))
    assert len(results) == 79
    assert [case for case in results if not case.passed] == []


def test_trunk_is_torchvisions():
    from torchvision.models import resnet50

    torch.manual_seed(0)
    theirs, ours = resnet50().eval(), ResNet(50).eval()
    weights = theirs.state_dict()
    ours.load_state_dict({key: weights[torchvision_key(key)] for key in ours.state_dict()})
    images = torch.rand(1, 3, 64, 80)
    with torch.no_grad():
        found = ours(images)["res5"]
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        for stage in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
            x = stage(x)
    torch.testing.assert_close(found, x)


@pytest.mark.parametrize(("res2", "dilation"), [(256, 1), (32, 1), (32, 2)])
def test_features_have_the_published_strides_and_channels(res2, dilation):
    features = ResNet(14, res2=res2, res5_dilation=dilation)(torch.zeros(1, 3, 96, 64))
    assert {name: tuple(x.shape[1:]) for name, x in features.items()} == {
        "res2": (res2, 24, 16),
        "res3": (2 * res2, 12, 8),
        "res4": (4 * res2, 6, 4),
        "res5": (8 * res2, 3 * dilation, 2 * dilation),
    }


def test_unknown_depth_is_refused():
    with pytest.raises(ValueError, match=r"depth: expected one of \[14, 50, 101\], found 34"):
        ResNet(34)


def test_norm_is_frozen():
    norm = FrozenBatchNorm(2).train()
    norm.running_mean += 3
    norm(torch.rand(4, 2, 5, 5))
    assert list(norm.parameters()) == []
    assert torch.equal(norm.running_mean, torch.full((2,), 3.0))


def test_unknown_norm_is_refused():
    with pytest.raises(ValueError, match=r"norm: expected one of \['BN', 'FrozenBN'\], found 'LN'"):
        ResNet(50, "LN")


def test_norms_are_of_the_classes_that_libraries_know():
    """SyncBatchNorm, optimisers and `average_batch_norm` go by the class."""
    trained, frozen = ResNet(14, "BN"), ResNet(14)
    assert type(trained.stem.conv1.norm) is torch.nn.BatchNorm2d
    assert isinstance(frozen.stem.conv1.norm, FrozenBatchNorm2d)
    synced = torch.nn.SyncBatchNorm.convert_sync_batchnorm(trained)
    assert not [m for m in synced.modules() if type(m) is torch.nn.BatchNorm2d]
    ours, theirs = trained.state_dict().keys(), frozen.state_dict().keys()
    assert {key for key in ours if not key.endswith(COUNTER)} == set(theirs)


def test_frozen_norm_is_torchvisions_and_keeps_half_precision():
    torch.manual_seed(0)
    theirs, ours = FrozenBatchNorm2d(3), FrozenBatchNorm(3)
    for buffer in theirs.buffers():
        buffer.uniform_(0.5, 2)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(ours(x), theirs(x))
    assert ours(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("build", [ZegFormer, PerPixelBaseline])
def test_either_norm_reads_the_others_checkpoint_without_a_word(build, caplog):
    trained, frozen = build(depth=14, norm="BN"), build(depth=14)
    load_state(frozen, trained.state_dict(), "bn.pth")
    load_state(trained, frozen.state_dict(), "frozen.pth")
    assert "unknown" not in caplog.text


def test_either_norm_reads_the_others_weights():
    torch.manual_seed(0)
    trained, frozen = ResNet(14, "BN"), ResNet(14)
    trained(torch.randn(2, 3, 64, 64))
    frozen.load_state_dict(trained.state_dict())
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(frozen(images)["res5"], trained.eval()(images)["res5"])


def test_positions_are_the_known_answers():
    found = sine_positions(2, 3, 256, device="cpu").numpy()
    channels = [0, 1, 2, 3, 127, 128, 129, 130, 255]
    known = [0.000001, -1, 0.408752, -0.912645, 1, 0.866026, -0.499999, 0.970651, 1]
    np.testing.assert_allclose(found[channels, 0, 0], known, atol=2e-6)
    known = [-0.000003, 1, -0.746092, 0.665843, 1, -0.000002, 1, -0.746091, 1]
    np.testing.assert_allclose(found[channels, 1, 2], known, atol=2e-6)


def test_classes_may_change_at_any_call_and_do_not_touch_each_other():
    model, images, text = small(), torch.rand(1, 3, 64, 64), unit_text(7)
    with torch.no_grad():
        (all_classes,), (some,) = model(images, text), model(images, text[[5, 1]])
    assert torch.equal(some.masks, all_classes.masks)
    torch.testing.assert_close(some.logits, all_classes.logits[..., [5, 1, 7]])


def test_every_layer_is_predicted_on_request():
    model, images, text = small(), torch.rand(2, 3, 64, 96), unit_text(3)
    with torch.no_grad():
        layers, (last,) = model(images, text, every_layer=True), model(images, text)
    assert len(layers) == 3
    assert layers[0].masks.shape == (2, 6, 16, 24)
    assert layers[0].logits.shape == (2, 6, 4)
    assert not torch.equal(layers[0].masks, layers[2].masks)
    assert torch.equal(layers[2].masks, last.masks)


def test_no_object_may_be_a_cosine():
    images, text = torch.rand(1, 3, 64, 64), unit_text(3)
    plain, unit = small(), small(unit_no_object=True)
    with torch.no_grad():
        for model in (plain, unit):
            model.sem_seg_head.predictor.bg_feature.mul_(50)
        (a,), (b,) = plain(images, text), unit(images, text)
    assert torch.equal(a.logits[..., :-1], b.logits[..., :-1])
    assert b.logits[..., -1].abs().max() <= 100.001
    assert a.logits[..., -1].abs().max() > 101


def test_a_batch_is_normalised_then_padded_with_zeros():
    white = torch.full((3, 33, 20), 255, dtype=torch.uint8)
    black = torch.zeros((3, 10, 40), dtype=torch.uint8)
    batch = normalised_batch([white, black])
    assert batch.shape == (2, 3, 64, 64)
    assert batch[0, 0, 0, 0] == pytest.approx((255 - 123.675) / 58.395)
    assert batch[1, 2, 9, 39] == pytest.approx(-103.53 / 57.375)
    assert not batch[0, :, 33:].any() and not batch[0, :, :, 20:].any()
    assert not batch[1, :, 10:].any() and not batch[1, :, :, 40:].any()


def test_baseline_scores_pixels_by_cosine():
    torch.manual_seed(2)
    model = PerPixelBaseline(depth=50, width=32, text_dim=16).eval()
    text = unit_text(4)
    with torch.no_grad():
        logits = model(torch.rand(2, 3, 64, 96), text)
    assert logits.shape == (2, 4, 16, 24)
    assert logits.abs().max() <= 100.001
    assert {key.split(".")[1] for key in model.sem_seg_head.state_dict(prefix="sem_seg_head.")} == {
        "pixel_decoder", "projection_layer", "logit_scale",
    }  # fmt: skip
