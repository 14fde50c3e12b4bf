"""SAZS on a frozen backbone: what is trained, what is stored, and what the backbone reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from eigen.extractors import cnn, extractor
from models.checkpoints import load_weights
from models.sazs.lite import LiteSegmenter
from models.sazs.networks import build, load_initial, normalised


@pytest.fixture(scope="module")
def network() -> LiteSegmenter:
    torch.manual_seed(0)
    return build("lite2_frozen").eval()


@pytest.mark.parametrize("size", [(64, 96), (50, 71), (5, 40)])
def test_outputs_have_stride_8(network: LiteSegmenter, size: tuple[int, int]):
    with torch.inference_mode():
        edges, features = network(torch.randn(2, 3, *size))
    h, w = (max(1, side // 16) * 2 for side in size)
    assert edges.shape == (2, 1, h, w) and features.shape == (2, 512, h, w)


def test_the_backbone_reads_pixels_as_published(network: LiteSegmenter):
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    made = extractor("efficientnet_lite2", device="cpu")
    pixels = (torch.from_numpy(image).permute(2, 0, 1)[None].float() - 127) / 128
    with torch.inference_mode():
        # The first stage comes before any stage whose stride is changed.
        expected = cnn.stage_outputs(made.network, ["blocks.2"], pixels)[0]
        found = network.stages(normalised(torch.from_numpy(image)[None]))[0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_training_changes_the_head_alone(network: LiteSegmenter):
    network.train()
    assert not network.stages.network.training
    before = {k: v.clone() for k, v in network.stages.network.state_dict().items()}
    edges, features = network(torch.randn(2, 3, 64, 64))
    (edges.mean() + features.mean()).backward()
    assert not any(p.requires_grad for p in network.stages.parameters())
    assert all(p.grad is not None for p in network.head.parameters())
    after = network.stages.network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    network.eval()


def test_a_checkpoint_holds_the_head_alone(network: LiteSegmenter, tmp_path: Path):
    state = network.state_dict()
    assert state and all(key.startswith("head.") for key in state)
    torch.save(state, tmp_path / "head.pth")
    torch.manual_seed(1)
    other = build("lite2_frozen").eval()
    load_weights(other, tmp_path / "head.pth")
    images = torch.randn(1, 3, 48, 64)
    with torch.inference_mode():
        torch.testing.assert_close(other(images), network(images))
    other.load_state_dict(state, strict=True)


def test_stored_features_give_the_outputs_of_the_image(network: LiteSegmenter):
    images = torch.randn(2, 3, 48, 64)
    with torch.inference_mode():
        for made, expected in zip(network(network.stages(images)), network(images), strict=True):
            torch.testing.assert_close(made, expected)


def test_a_trained_backbone_starts_from_the_package_and_lies_in_the_checkpoint(
    network: LiteSegmenter, tmp_path: Path
):
    trained = build("lite2")
    load_initial(trained, "lite2")
    frozen = network.stages.network.state_dict()
    for key, value in trained.stages.network.state_dict().items():
        torch.testing.assert_close(value, frozen[key])
    trained.train()
    assert not trained.stages.network.training  # batch norm keeps its statistics
    edges, features = trained(torch.randn(2, 3, 64, 64))
    (edges.mean() + features.mean()).backward()
    assert all(p.grad is not None for p in trained.parameters())
    torch.save(trained.state_dict(), tmp_path / "whole.pth")
    other = build("lite2")
    load_weights(other, tmp_path / "whole.pth")
    images = torch.randn(1, 3, 48, 64)
    with torch.inference_mode():
        torch.testing.assert_close(other.eval()(images), trained.eval()(images))
