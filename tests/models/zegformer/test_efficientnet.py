"""EfficientNet-Lite as ZegFormer's backbone: its stages, what stays frozen, and its checkpoints."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import timm
import torch

from data import weight_files
from data.errors import WeightsError
from models.zegformer import packaged, weights
from models.zegformer.efficientnet import EfficientNetLite
from models.zegformer.network import PIXEL_MEAN, PIXEL_STD, ZegFormer, normalised_batch
from models.zegformer.per_pixel import PerPixelBaseline
from models.zegformer.resnet import ResNet

NAME = "efficientnet_lite0"


def lite(name: str = NAME, dilation: int = 1) -> EfficientNetLite:
    return EfficientNetLite(name, mean=PIXEL_MEAN, std=PIXEL_STD, res5_dilation=dilation)


def small(freeze: int = 5, name: str = NAME, seed: int = 0) -> ZegFormer:
    torch.manual_seed(seed)
    model = ZegFormer(
        queries=4, dim=32, mask_dim=32, text_dim=16, heads=2, layers=1, feedforward=32,
        segments=True, backbone=lite(name),
    )  # fmt: skip
    model.backbone.freeze(freeze)
    return model


def saved(model: ZegFormer, path: Path, **changes: str) -> str:
    recipe = packaged.record(model.backbone)
    recipe["backbone"] |= changes
    weight_files.write_safetensors(path, model.state_dict(), recipe)
    return str(path)


@pytest.fixture
def started() -> ZegFormer:
    model = small()
    weights.load(model, "")
    return model


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
def test_stages_have_the_strides_of_a_resnet_and_timms_channels(number, dilation):
    backbone = lite(f"efficientnet_lite{number}", dilation).eval()
    with torch.inference_mode():
        found = backbone(torch.zeros(1, 3, 64, 96))
    listed = timm.create_model(f"tf_efficientnet_lite{number}", features_only=True)
    channels = listed.feature_info.channels()[1:]
    assert list(backbone.channels.values()) == channels
    assert [tuple(x.shape[1:]) for x in found.values()] == [
        (channels[0], 16, 24),
        (channels[1], 8, 12),
        (channels[2], 4, 6),
        (channels[3], 2 * dilation, 3 * dilation),
    ]


def test_pixels_arrive_as_the_weights_were_trained_with():
    backbone = lite()
    backbone.load_packaged()
    features = timm.create_model("tf_efficientnet_lite0", features_only=True).eval()
    own = backbone.network.state_dict()
    features.load_state_dict({key: own[key] for key in features.state_dict()})
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        found = backbone.eval()(normalised_batch([image]))
        expected = features((image[None].float() - 127) / 128)[1:]
    for own_map, theirs in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(own_map, theirs, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("build", [lambda: ResNet(14, "BN", 32), lite])
@pytest.mark.parametrize("count", [0, 2, 5])
def test_frozen_parts_stay_as_they_are(build, count):
    torch.manual_seed(0)
    backbone = build().freeze(count).train()
    before = [{k: v.clone() for k, v in _state(part).items()} for part in backbone.parts()]
    parameters = [p for p in backbone.parameters() if p.requires_grad]
    assert bool(parameters) == (count < 5) != backbone.is_frozen
    if parameters:
        optimizer = torch.optim.SGD(parameters, 0.1)
        sum(x.square().mean() for x in backbone(torch.randn(2, 3, 64, 64)).values()).backward()
        optimizer.step()
    for number, (part, old) in enumerate(zip(backbone.parts(), before, strict=True)):
        same = all(torch.equal(value, old[key]) for key, value in _state(part).items())
        assert same == (number < count), number


def _state(part) -> dict[str, torch.Tensor]:
    return {f"{i}.{k}": v for i, module in enumerate(part) for k, v in module.state_dict().items()}


def test_a_frozen_backbone_is_named_not_stored(started, tmp_path):
    path = saved(started, tmp_path / "head.safetensors")
    file = weight_files.read(path)
    assert all(key.startswith("sem_seg_head.") for key in file.tensors)
    assert file.recipe["backbone"]["sha256"] == started.backbone.sha256 != ""
    other = small(seed=1)
    weights.load(other, path, whole=True)
    images, text = torch.randn(1, 3, 64, 64), torch.eye(16)[:3]
    with torch.inference_mode():
        (found,), (expected,) = other.eval()(images, text), started.eval()(images, text)
    assert torch.equal(found.logits, expected.logits) and torch.equal(found.masks, expected.masks)


def test_a_trained_backbone_is_stored_and_needs_no_package(started, tmp_path, monkeypatch):
    started.backbone._frozen_parts = 2
    path = saved(started, tmp_path / "whole.safetensors")
    monkeypatch.setattr(EfficientNetLite, "load_packaged", lambda self: pytest.fail("package"))
    other = small(freeze=2, seed=1)
    weights.load(other, path, whole=True)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in started.state_dict().items())


def test_fine_tuning_starts_from_a_head_on_the_frozen_backbone(started, tmp_path):
    path = saved(started, tmp_path / "head.safetensors")
    other = small(freeze=0, seed=1)
    weights.load(other, path)
    found = other.state_dict()
    assert all(torch.equal(v, found[k]) for k, v in started.state_dict().items())
    assert torch.equal(
        found["backbone.network.conv_stem.weight"], started.backbone.network.conv_stem.weight
    )


def test_networks_and_backbones_are_not_mixed(started, tmp_path):
    path = saved(started, tmp_path / "head.safetensors")
    of_other_file = saved(started, tmp_path / "other.safetensors", sha256="0" * 64)
    started.backbone._frozen_parts = 0
    whole = saved(started, tmp_path / "whole.safetensors")
    resnet = ZegFormer(depth=14, res2=32, queries=4, dim=32, mask_dim=32, text_dim=16, heads=2)
    torch.save(resnet.state_dict(), tmp_path / "resnet.pth")
    cases = [
        (resnet, path, "a network on efficientnet_lite0, but MODEL.BACKBONE.NAME is build_resnet"),
        (small(name="efficientnet_lite1"), path, "lite0, but MODEL.BACKBONE.NAME is .*lite1"),
        (small(), str(tmp_path / "resnet.pth"), "a network on build_resnet_backbone, but"),
        (small(), of_other_file, "trained on features of weights with SHA-256 0000"),
        (small(), whole, "holds a efficientnet_lite0 that was trained, but .*FREEZE_AT is 5"),
        (small(), "R-50.pkl", "R-50.pkl: no such file of weights"),
    ]
    for model, source, message in cases:
        with pytest.raises(WeightsError, match=message):
            weights.load(model, source)


def test_heads_are_not_mixed(started, tmp_path, caplog):
    path = saved(started, tmp_path / "head.safetensors")
    baseline = PerPixelBaseline(width=32, text_dim=16, backbone=lite())
    baseline.backbone.freeze(5)
    with pytest.raises(WeightsError, match="it has the other head"):
        weights.load(baseline, path, whole=True)
    with caplog.at_level(logging.INFO):
        weights.load(baseline, path)
    assert "only its backbone is used" in caplog.text
