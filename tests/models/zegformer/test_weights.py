"""ZegFormer's weights: what is read, what is refused, and what the refusal says."""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from data.errors import WeightsError
from models.zegformer import weights as zegformer_weights
from models.zegformer.network import ZegFormer
from models.zegformer.per_pixel import PerPixelBaseline
from models.zegformer.resnet import ResNet, msra_key, torchvision_key

GOLDEN = Path(__file__).parents[2] / "golden"


def small(depth: int = 50) -> ZegFormer:
    return ZegFormer(
        depth=depth, queries=4, dim=32, mask_dim=32, text_dim=16, heads=2, layers=1, feedforward=32
    )


@pytest.fixture(scope="module")
def donor():
    torch.manual_seed(6)
    model = small()
    for key, value in model.state_dict().items():
        if key.endswith("running_mean"):
            value.fill_(0.5)
    return model


def assert_equal_trunks(model, donor):
    for key, value in donor.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[key], value), key


def test_a_network_starts_from_the_trunk_of_the_other_head(tmp_path, donor):
    baseline = PerPixelBaseline(depth=50, width=32, text_dim=16)
    for name, giver, taker in (("z", donor, baseline), ("p", baseline, small())):
        path = tmp_path / f"{name}.safetensors"
        save_file(giver.state_dict(), path)
        before = taker.sem_seg_head.state_dict()["pixel_decoder.layer_1.weight"].clone()
        zegformer_weights.load(taker, str(path))
        assert_equal_trunks(taker, giver)
        assert torch.equal(taker.sem_seg_head.pixel_decoder.layer_1.weight, before)
        with pytest.raises(WeightsError, match="not a checkpoint of"):
            zegformer_weights.load(taker, str(path), whole=True)


@pytest.mark.parametrize("form", ["published", "module", "safetensors"])
def test_published_checkpoints_load(tmp_path, donor, form):
    weights = donor.state_dict() | {
        "criterion.empty_weight": torch.ones(157),
        "sem_seg_head.predictor.clip_model.logit_scale": torch.tensor(4.6),
        "pixel_mean": torch.zeros(3, 1, 1),
    }
    path = tmp_path / ("model.safetensors" if form == "safetensors" else "model_final.pth")
    if form == "safetensors":
        save_file(weights, path)
    elif form == "module":
        torch.save({f"module.{key}": value for key, value in weights.items()}, path)
    else:
        torch.save({"model": weights, "iteration": 59999, "optimizer": {"state": {}}}, path)
    model = small()
    zegformer_weights.load(model, str(path))
    for key, value in donor.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


@pytest.mark.parametrize("form", ["torchvision.pth", "R-50.pkl"])
def test_imagenet_trunks_load(tmp_path, donor, form):
    trunk = donor.backbone.state_dict()
    if form.endswith("pth"):
        weights = {torchvision_key(key): value for key, value in trunk.items()}
        torch.save(weights | {"fc.weight": torch.zeros(1000, 2048)}, tmp_path / form)
    else:
        arrays = {key: value.numpy() for key, value in trunk.items()}
        content = {"model": arrays, "__author__": "torchvision", "matching_heuristics": True}
        (tmp_path / form).write_bytes(pickle.dumps(content, protocol=2))
    model = small()
    head = model.sem_seg_head.predictor.query_embed.weight.clone()
    zegformer_weights.load(model, str(tmp_path / form))
    assert_equal_trunks(model, donor)
    assert torch.equal(model.sem_seg_head.predictor.query_embed.weight, head)


def test_names_are_the_published_ones():
    lists = json.loads((GOLDEN / "zegformer-backbone-weights-map.json").read_text())
    keys = {f"backbone.{key}" for key in ResNet(50).state_dict()}
    assert keys == lists["r50"]["torchvision"].keys()


def test_msra_file_is_refused_with_the_right_one_named(tmp_path, donor):
    arrays = {msra_key(key): value.numpy() for key, value in donor.backbone.state_dict().items()}
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(arrays, protocol=2))
    with pytest.raises(WeightsError, match=r"R-50\.pkl: the MSRA weights.*resnet50 IMAGENET1K"):
        zegformer_weights.load(small(), str(tmp_path / "R-50.pkl"))


class Malicious:
    def __reduce__(self):
        return (eval, ("1 + 1",))


@pytest.mark.parametrize(
    "content", [pickle.dumps({"model": Malicious()}), b"", b"text", pickle.dumps([1])[:-3]]
)
def test_pickles_that_want_code_or_are_damaged_are_refused(tmp_path, content):
    (tmp_path / "R-50.pkl").write_bytes(content)
    with pytest.raises(WeightsError, match=r"R-50\.pkl: (refused|not a whole|expected)"):
        zegformer_weights.load(small(), str(tmp_path / "R-50.pkl"))


def test_pickle_without_arrays_is_refused(tmp_path):
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps({"model": {"epoch": 3}}))
    with pytest.raises(WeightsError, match="no weights found"):
        zegformer_weights.load(small(), str(tmp_path / "R-50.pkl"))


def test_another_depth_is_named(tmp_path, donor):
    torch.save({"model": donor.state_dict()}, tmp_path / "a.pth")
    with torch.device("meta"):
        deep = small(depth=101)
    with pytest.raises(WeightsError, match=r"ResNet-50, but MODEL\.RESNETS\.DEPTH is 101"):
        zegformer_weights.load(deep, str(tmp_path / "a.pth"))


def test_another_head_names_what_differs(tmp_path, donor):
    weights = donor.state_dict()
    weights["sem_seg_head.predictor.query_embed.weight"] = torch.zeros(100, 32)
    torch.save({"model": weights}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"query_embed\.weight is \(100, 32\), expected \(4,"):
        zegformer_weights.load(small(), str(tmp_path / "a.pth"))


def test_start_from_msra_is_told_by_its_statistics(tmp_path, donor, caplog):
    weights = {
        key: torch.zeros_like(value) if key.endswith("running_mean") else value
        for key, value in donor.state_dict().items()
    }
    torch.save({"model": weights}, tmp_path / "fresh.pth")
    weights["backbone.stem.conv1.norm.weight"] = torch.full((64,), 0.3)
    torch.save({"model": weights}, tmp_path / "msra.pth")
    with caplog.at_level(logging.WARNING):
        zegformer_weights.load(small(), str(tmp_path / "fresh.pth"))
        assert caplog.text == ""
        zegformer_weights.load(small(), str(tmp_path / "msra.pth"))
    assert "trained from MSRA" in caplog.text


def test_detectrons_address_means_torchvisions_weights(donor, monkeypatch):
    from torchvision.models import ResNet50_Weights

    trunk = donor.backbone.state_dict()
    weights = {torchvision_key(key): value for key, value in trunk.items()}
    monkeypatch.setattr(ResNet50_Weights, "get_state_dict", lambda *a, **k: weights)
    model = small()
    zegformer_weights.load(model, "detectron2://ImageNetPretrained/torchvision/R-50.pkl")
    assert_equal_trunks(model, donor)

    def fail(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(ResNet50_Weights, "get_state_dict", fail)
    with pytest.raises(WeightsError, match=r"no network.*path of resnet50-0676ba61\.pth"):
        zegformer_weights.load(small(), "R-50.pkl")


def test_absent_file_is_named_and_nothing_means_fresh():
    with pytest.raises(WeightsError, match=r"model_final\.pth: no such file"):
        zegformer_weights.load(small(), "model_final.pth")
    model = small()
    before = model.backbone.stem.conv1.weight.clone()
    zegformer_weights.load(model, "")
    assert torch.equal(model.backbone.stem.conv1.weight, before)
