"""Vision transformers as extractors, on networks reduced to two blocks."""

from __future__ import annotations

import functools
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import ResPostBlock, VisionTransformer

from data.errors import DeviceError, SettingError
from eigen.extractors import Extractor, extractor, names
from eigen.extractors.facets import FACETS, PROJECTIONS, FacetReader
from eigen.extractors.zoo import BACKBONES

TINY = {
    "img_size": 24,
    "patch_size": 4,
    "embed_dim": 32,
    "depth": 3,
    "num_heads": 2,
    "num_classes": 0,
    "dynamic_img_size": True,
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def two_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "create_model", functools.partial(timm.create_model, depth=2))


@pytest.fixture
def images() -> np.ndarray:
    """(3, 45, 70, 3): neither square nor whole patches of 8, 14 or 16."""
    return np.random.default_rng(5).integers(0, 256, (3, 45, 70, 3), dtype=np.uint8)


def tiny_vit(**options) -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(**TINY, **options).eval()


def tiny_eva(**options) -> Eva:
    torch.manual_seed(0)
    network = Eva(
        use_rot_pos_emb=True,
        num_reg_tokens=2,
        **TINY,
        **options,
    )
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):  # zero as made, which would hide a bias taken from another facet
            torch.nn.init.normal_(parameter)
    return network.eval()


NETWORKS = {
    "vit": tiny_vit,
    "registers": functools.partial(tiny_vit, reg_tokens=4, no_embed_class=True),
    "no prefix": functools.partial(tiny_vit, class_token=False, global_pool="avg"),
    "rotary": functools.partial(tiny_eva, use_abs_pos_emb=False),
    "rotary, three layers": functools.partial(tiny_eva, qkv_fused=False),
}


@pytest.mark.parametrize("name", list(BACKBONES))
def test_every_name_keeps_the_contract(name: str, images: np.ndarray, two_blocks: None):
    made = extractor(name, weights="random:1", device="cpu")
    assert isinstance(made, Extractor) and name in names()
    h, w = made.grid((45, 70))
    assert (h, w) == (45 // made.patch, 70 // made.patch)
    features = made(images)
    assert features.shape == (3, h * w, made.dim) and features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=2), 1, atol=1e-5)
    for image, row in zip(images, features, strict=True):
        assert made([image])[0].tobytes() == row.tobytes()
    assert made.weights_sha256 == made.config()["weights_sha256"] == "random:1"
    made.features_tensor(images[:1]).add_(1)  # may be changed in place


def test_an_image_smaller_than_a_patch_is_one_node(two_blocks: None):
    made = extractor("dino_vits16", weights="random:0", device="cpu")
    assert made([np.zeros((3, 5, 3), np.uint8)]).shape == (1, 1, 384)


def test_the_seed_of_random_weights_decides_the_features(images: np.ndarray, two_blocks: None):
    torch.manual_seed(11)
    first, other, again = (
        extractor("dino_vits16", weights=f"random:{seed}", device="cpu")(images)
        for seed in (0, 1, 0)
    )
    drawn = torch.rand(1)
    torch.manual_seed(11)
    assert torch.equal(torch.rand(1), drawn)  # the caller's generator was left alone
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_pixels_are_normalised_as_the_network_was_trained(images: np.ndarray, two_blocks: None):
    made = extractor("dino_vits16", weights="random:0", device="cpu")
    seen = {}
    made.reader.network.patch_embed.proj.register_forward_pre_hook(lambda _, x: seen.update(x=x[0]))  # type: ignore[attr-defined]
    made(images[:1])
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = ((images[0, :32, :64] / 255 - mean) / std).transpose(2, 0, 1)
    np.testing.assert_allclose(seen["x"][0], expected, atol=1e-6)
    assert (made.mean, made.std) == (tuple(mean), tuple(std))


@pytest.mark.parametrize("kind", list(NETWORKS))
@pytest.mark.parametrize("block", [0, -1])
def test_facets_are_what_the_block_itself_computes(kind: str, block: int):
    pixels = torch.randn(2, 3, 20, 28)
    network = NETWORKS[kind]()
    seen: dict[str, torch.Tensor] = {}
    attention, prefix = network.blocks[block].attn, network.num_prefix_tokens
    keep = lambda name: lambda module, inputs, output: seen.update({name: output})  # noqa: E731
    network.blocks[block].register_forward_hook(keep("token"))
    # The layers' outputs are met where they next go: into the norms of queries and keys.
    attention.q_norm.register_forward_hook(keep("query"))
    attention.k_norm.register_forward_hook(keep("key"))
    with torch.inference_mode():
        FacetReader(network, offset=0, facet="token", block=-1)(pixels)
        for facet in ("query", "key"):
            heads = seen[facet]  # (B, heads, prefix + n, d / heads)
            expected = heads.transpose(1, 2).flatten(2)[:, prefix:]
            ours = FacetReader(network, offset=0, facet=facet, block=block)(pixels)
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
        token = seen["token"][:, prefix:]
        ours = FacetReader(network, offset=0, facet="token", block=block)(pixels)
    torch.testing.assert_close(ours, token, rtol=1e-4, atol=1e-5)


def test_a_block_that_normalises_after_attention_has_tokens_only():
    network = tiny_vit(block_fn=ResPostBlock)
    assert FacetReader(network, offset=0, facet="token", block=-1).dim == 32
    with pytest.raises(SettingError, match="blocks of ResPostBlock; use 'token'"):
        FacetReader(network, offset=0, facet="key", block=-1)


def test_facets_are_the_thirds_of_the_joint_product():
    network, pixels = tiny_vit(), torch.randn(1, 3, 20, 28)
    torch.nn.init.normal_(network.blocks[-1].attn.qkv.bias)
    joint = {}
    network.blocks[-1].attn.qkv.register_forward_hook(lambda m, i, out: joint.update(out=out))
    with torch.inference_mode():
        FacetReader(network, offset=0, facet="token", block=-1)(pixels)
        for third, facet in enumerate(PROJECTIONS):
            ours = FacetReader(network, offset=0, facet=facet, block=-1)(pixels)
            expected = joint["out"][:, 1:, third * 32 : (third + 1) * 32]
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", list(NETWORKS))
def test_the_whole_network_agrees_with_timm_at_another_size(kind: str):
    network, pixels = NETWORKS[kind](), torch.randn(2, 3, 20, 28)
    with torch.inference_mode():
        tokens = FacetReader(network, offset=0, facet="key", block=-1).tokens(pixels, blocks=3)
        torch.testing.assert_close(
            network.norm(tokens), network.forward_features(pixels), rtol=1e-4, atol=1e-5
        )


def test_nothing_beyond_the_facet_is_computed(two_blocks: None, images: np.ndarray):
    made = extractor("dino_vits16", weights="random:0", block=0, device="cpu")
    before = made(images)
    with torch.no_grad():
        blocks = made.reader.network.blocks  # type: ignore[attr-defined]
        for dead in (blocks[1], blocks[0].mlp, blocks[0].attn.proj):
            for parameter in dead.parameters():
                parameter.fill_(torch.nan)
    np.testing.assert_array_equal(made(images), before)


def test_autocast_rounds_the_products_and_not_the_result(two_blocks: None, images: np.ndarray):
    full, half = (
        extractor("dino_vits16", weights="random:0", device="cpu", autocast=autocast)
        for autocast in ("none", "bf16")
    )
    exact, rounded = full(images), half(images)
    assert rounded.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rounded, axis=2), 1, atol=1e-5)
    assert 1e-5 < np.abs(exact - rounded).max() < 2e-2
    assert full.config() != half.config()


def test_a_published_network_keeps_its_positions_under_timms_name(two_blocks: None):
    by_name, by_timm, other = (
        extractor(name, weights="random:0", device="cpu")
        for name in ("dino_vits16", "timm:vit_small_patch16_224.dino", "timm:vit_tiny_patch16_224")
    )
    assert by_name.reader.offset == by_timm.reader.offset == 0.1  # type: ignore[attr-defined]
    assert other.reader.offset == 0 and other.dim == 192  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (
            "dino_vits16",
            {"facet": "keys"},
            "facet: expected one of key, query, .*found 'keys'",
        ),
        ("dino_vits16", {"block": 2}, "expected -2 to 1"),
        ("dino_vits16", {"block": -3}, "2 blocks, found -3"),
        ("dino_vits16", {"autocast": "half"}, "autocast: expected one of none, bf16, fp16"),
        ("dino_vits16", {"device": "gpu"}, "expected auto, cpu"),
        ("dino_vits16", {"device": "cuda:97"}, "CUDA devices"),
        ("dino_vits16", {"weights": "random:x"}, "whole number"),
        ("timm:vit_smal_patch16_224", {}, "did you mean 'vit_small_patch16_224"),
        ("timm:vit_small_patch16_224.nobody", {}, "nobody"),
        ("timm:deit_small_distilled_patch16_224", {}, "expected timm's VisionTransformer"),
    ],
)
def test_invalid_settings_are_named(name: str, options: dict, said: str, two_blocks: None):
    with pytest.raises((SettingError, DeviceError), match=said):
        extractor(name, **{"device": "cpu", "weights": "random:0", **options})


def test_lowlevel_needs_no_torch():
    code = "import sys, eigen; eigen.extractor('lowlevel'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("facet", FACETS)
def test_a_gpu_gives_the_cpus_numbers(facet: str, images: np.ndarray):
    cpu, gpu = (
        extractor("dino_vits16", weights="random:0", facet=facet, device=device)
        for device in ("cpu", "cuda")
    )
    assert gpu.features_tensor(images).device.type == "cuda"
    np.testing.assert_allclose(gpu(images), cpu(images), atol=2e-5)
