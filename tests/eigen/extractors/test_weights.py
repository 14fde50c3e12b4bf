"""Weights: every layout of published files, and every way in which a file can be wrong."""

from __future__ import annotations

import argparse
import hashlib
import os
import pickle
import re
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

from data.errors import WeightsError
from eigen.extractors import extractor
from eigen.extractors.facets import FacetReader
from eigen.extractors.weights import load
from eigen.extractors.zoo import BACKBONES, Backbone

TINY = {
    "img_size": 24,
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 2,
    "num_classes": 0,
    "patch_size": 4,
}
BACKBONE = Backbone("tiny", "tiny_pretrain.pth")


def vit(seed: int, **options) -> VisionTransformer:
    torch.manual_seed(seed)
    network = VisionTransformer(**{**TINY, **options})
    network.pretrained_cfg = {"hf_hub_id": "timm/tiny"}
    return network


def dinov3(seed: int) -> Eva:
    torch.manual_seed(seed)
    network = Eva(
        use_rot_pos_emb=True, use_abs_pos_emb=False, num_reg_tokens=4, init_values=1e-5, **TINY
    )
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    return network


def loaded(network: torch.nn.Module, weights: Path | str | None, name: str = "tiny") -> str:
    return load(network, weights, name=name, backbone=BACKBONE)


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def source() -> VisionTransformer:
    return vit(1)


@pytest.fixture
def target() -> VisionTransformer:
    return vit(2)


def test_a_bare_state_dict_loads_and_is_named_by_its_hash(source, target, tmp_path: Path):
    path = tmp_path / "dino_deitsmall16_pretrain.pth"
    torch.save(source.state_dict(), path)
    assert loaded(target, path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert same(source, target)


def test_safetensors_load(source, target, tmp_path: Path):
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    loaded(target, tmp_path / "w.safetensors")
    assert same(source, target)


def test_half_precision_weights_are_widened(source, target, tmp_path: Path):
    torch.save(
        {key: value.half() for key, value in source.state_dict().items()}, tmp_path / "w.pth"
    )
    loaded(target, tmp_path / "w.pth")
    assert target.cls_token.dtype == torch.float32
    torch.testing.assert_close(target.cls_token, source.cls_token, rtol=1e-3, atol=1e-6)


def test_a_training_checkpoint_gives_its_teachers_backbone(source, target, tmp_path: Path):
    """As in DINO's `checkpoint.pth`: two wrapped networks with heads, optimiser, arguments."""
    head = {"module.head.mlp.0.weight": torch.ones(2, 2)}
    teacher = {f"module.backbone.{key}": value for key, value in source.state_dict().items()}
    student = {f"module.backbone.{key}": value for key, value in vit(3).state_dict().items()}
    optimiser = torch.optim.AdamW(source.parameters()).state_dict()
    checkpoint = {
        "student": {**student, **head},
        "teacher": {**teacher, **head},
        "optimizer": optimiser,
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small", local_crops_scale=(0.05, 0.4)),
    }
    torch.save(checkpoint, tmp_path / "checkpoint.pth")
    loaded(target, tmp_path / "checkpoint.pth")
    assert same(source, target)


@pytest.mark.parametrize(
    "prefix",
    [
        *("teacher.backbone.", "model.teacher.backbone.", "module.teacher.module.backbone."),
        *("backbone.", "model.", "module.model.", "teacher.backbone._fsdp_wrapped_module."),
    ],
)
@pytest.mark.parametrize("chunk", [None, 1])
def test_a_training_checkpoint_in_one_mapping_gives_its_teachers_backbone(
    prefix: str, chunk: int | None, source, target, tmp_path: Path
):
    """As DINOv2 saves it: student, teacher and heads side by side, blocks in chunks."""

    def published(network: torch.nn.Module, start: str) -> dict[str, torch.Tensor]:
        if chunk is None:
            return {start + key: value for key, value in network.state_dict().items()}
        return {
            start + re.sub(r"^blocks\.(\d+)", r"blocks.\1.\1", key): value
            for key, value in network.state_dict().items()
        }

    state = published(source, prefix)
    if "teacher" in prefix:
        state |= published(vit(3), prefix.replace("teacher", "student"))
        state |= {prefix.replace("backbone.", "dino_head.") + "last.weight": torch.ones(2)}
    torch.save({"model": state, "iteration": 9}, tmp_path / "w.pth")
    loaded(target, tmp_path / "w.pth")
    assert same(source, target)


@pytest.mark.parametrize("size", [16, 40])
def test_position_embeddings_of_another_training_size_are_resized(size: int, tmp_path: Path):
    """Once, from the grid that they were trained on to the grid of the image."""
    trained, own = vit(1, img_size=size), vit(2)
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    loaded(own, tmp_path / "w.pth")
    pixels = torch.rand(1, 3, 24, 32)
    expected, found = (
        FacetReader(network.eval(), offset=0.1, facet="key", block=-1)(pixels)
        for network in (trained, own)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_a_wrapped_state_dict_with_a_classifier_loads(wrapper: str, source, target, tmp_path: Path):
    state = {**source.state_dict(), "head.weight": torch.ones(10, 32), "head.bias": torch.ones(10)}
    torch.save({wrapper: state, "epoch": 3}, tmp_path / "w.pth")
    loaded(target, tmp_path / "w.pth")
    assert same(source, target)


def test_dinov2_with_registers_keeps_positions_of_patches_only(tmp_path: Path):
    options = {"reg_tokens": 4, "no_embed_class": True}
    source, target = vit(1, **options), vit(2, **options)
    published = source.state_dict()
    first = torch.randn(1, 1, 32)
    published["pos_embed"] = torch.cat([first, published["pos_embed"]], dim=1)
    published["register_tokens"] = published.pop("reg_token")
    published["mask_token"] = torch.zeros(1, 32)
    torch.save(published, tmp_path / "w.pth")
    loaded(target, tmp_path / "w.pth")
    torch.testing.assert_close(target.cls_token, source.cls_token + first, rtol=0, atol=0)
    source.cls_token = target.cls_token
    assert same(source, target)


def test_dinov3_loads_in_its_authors_layout_and_in_timms(tmp_path: Path):
    source, target = dinov3(1), dinov3(2)
    published = {}
    for key, value in source.state_dict().items():
        key = key.replace("reg_token", "storage_tokens")
        key = key.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
        if key.endswith("q_bias"):
            masked = torch.full_like(value, torch.nan)  # the key's bias, which is never used
            v_bias = source.state_dict()[key.replace("q_bias", "v_bias")]
            published[key.replace("q_bias", "qkv.bias")] = torch.cat([value, masked, v_bias])
            published[key.replace("q_bias", "qkv.bias_mask")] = torch.ones(96)
        elif not key.endswith("v_bias"):
            published[key] = value
    published["mask_token"] = torch.zeros(1, 32)
    published["rope_embed.periods"] = torch.ones(4)
    torch.save(published, tmp_path / "published.pth")
    loaded(target, tmp_path / "published.pth")
    assert same(source, target)

    without = {k: v for k, v in source.state_dict().items() if not k.endswith(("q_bias", "v_bias"))}
    torch.save(without, tmp_path / "timm.pth")
    loaded(target, tmp_path / "timm.pth")
    assert not target.blocks[0].attn.q_bias.any() and not target.blocks[1].attn.v_bias.any()


class Code:
    """Unpickled, it would make the file whose path it was given."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_wants_code_is_refused_and_does_not_run(zipped: bool, target, tmp_path: Path):
    state = {"cls_token": torch.ones(9), "hook": Code(tmp_path / "ran")}
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        WeightsError, match=r"w\.pth: refused, because reading it would run \w+\.mkdir"
    ):
        loaded(target, tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def _damaged(path: Path, source: torch.nn.Module) -> None:
    state = source.state_dict()
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization="old" not in path.stem)
    if path.stem.startswith("cut"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif path.stem == "empty":
        path.write_bytes(b"")
    elif path.stem == "page":
        path.write_text("<html>Sign in to download</html>")
    elif path.stem == "plain":
        path.write_bytes(pickle.dumps({"a": 1}))


@pytest.mark.parametrize(
    "file",
    [
        "cut.pth",
        "cut_old.pth",
        "cut.safetensors",
        "empty.pth",
        "empty.safetensors",
        "page.pth",
        "plain.pth",
    ],
)
def test_a_damaged_file_is_named_and_changes_nothing(file: str, source, target, tmp_path: Path):
    _damaged(tmp_path / file, source)
    before = target.cls_token.clone()
    with pytest.raises(WeightsError, match=f"{file}: not a whole weight file .*download it again"):
        loaded(target, tmp_path / file)
    assert torch.equal(target.cls_token, before)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (
            {"patch_embed.proj.weight": torch.ones(32, 3, 8, 8)},
            r"patch_embed\.proj\.weight: expected shape \(32, 3, 4, 4\), found \(32, 3, 8, 8\)",
        ),
        ({"blocks.2.norm1.weight": torch.ones(32)}, r"it has no blocks\.2\.norm1\.weight"),
        ({"register_tokens": torch.ones(1, 4, 32), "pos_embed": None}, r"pos_embed: expected"),
        ({7: torch.ones(1)}, "it has no 7"),
        ({"norm.bias": None}, r"norm\.bias: expected shape \(32,\), found nothing"),
    ],
)
def test_weights_of_another_network_name_the_first_key(
    held: dict, said: str, source, target, tmp_path: Path
):
    state = {**source.state_dict(), **held}
    torch.save(
        {key: value for key, value in state.items() if value is not None}, tmp_path / "w.pth"
    )
    with pytest.raises(WeightsError, match=f"w.pth: not the weights of tiny: {said}"):
        loaded(target, tmp_path / "w.pth")


def test_a_list_is_no_state_dict(target, tmp_path: Path):
    torch.save([torch.ones(2)], tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="expected a mapping of tensors, found list"):
        loaded(target, tmp_path / "w.pth")


def test_an_absent_file_is_named():
    with pytest.raises(WeightsError, match=r"nowhere/w\.pth: no such file"):
        extractor("dino_vits16", weights="nowhere/w.pth", device="cpu")


def test_the_hubs_file_is_loaded_like_any_other(source, target, tmp_path: Path, monkeypatch):
    path, asked = tmp_path / "model.safetensors", []
    save_file(source.state_dict(), path)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *a: asked.append(a) or str(path))
    assert loaded(target, None) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert asked == [("timm/tiny", "model.safetensors")] and same(source, target)


def test_offline_one_line_names_the_file_and_the_remedies(target, monkeypatch):
    def offline(*_):
        raise OSError("Name or service not known. Try later.\nand more")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(WeightsError) as caught:
        loaded(target, None)
    said = str(caught.value)
    assert "\n" not in said
    for part in (
        "timm/tiny/model.safetensors",
        "(Name or service not known)",
        "tiny_pretrain.pth",
        "lowlevel",
    ):
        assert part in said


def test_weights_behind_a_licence_form_are_never_fetched(monkeypatch):
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda *_: pytest.fail("it was asked for")
    )
    file = BACKBONES["dinov3_vits16"].file
    with pytest.raises(WeightsError, match=f"set weights=PATH/{file}"):
        extractor("dinov3_vits16", device="cpu")


def test_a_published_checkpoint_goes_from_file_to_features(tmp_path: Path):
    made = extractor("dino_vits16", weights="random:4", device="cpu")
    torch.save(made.reader.network.state_dict(), tmp_path / "dino_deitsmall16_pretrain.pth")  # type: ignore[attr-defined]
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    again = extractor(
        "dino_vits16", weights=tmp_path / "dino_deitsmall16_pretrain.pth", device="cpu"
    )
    np.testing.assert_array_equal(again([image]), made([image]))
    assert len(again.weights_sha256 or "") == 64
    with pytest.raises(
        WeightsError, match=r"proj\.weight: expected shape \(384, 3, 8, 8\), found \(384, 3, 16"
    ):
        extractor("dino_vits8", weights=tmp_path / "dino_deitsmall16_pretrain.pth", device="cpu")
