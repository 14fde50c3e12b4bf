"""Weights from strangers' files: every wrapping is read, the rest is refused."""

from __future__ import annotations

import logging
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from data.errors import WeightsError
from models.checkpoints import SAZS, ZEGFORMER, check_system, load_weights


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.live = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)

    def is_unused(self, key: str) -> bool:
        return key.startswith("unused.")


@pytest.fixture
def donor():
    torch.manual_seed(3)
    return Net()


def assert_taken(model: Net, donor: Net) -> None:
    assert torch.equal(model.live.weight, donor.live.weight)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_every_wrapping_is_read(tmp_path, donor, prefix, wrapped):
    weights = {prefix + key: value for key, value in donor.state_dict().items()}
    weights[prefix + "unused.weight"] = torch.zeros(4)
    content = {
        "epoch": 20, "arch": "net", "state_dict": weights, "best_prec1": torch.tensor(61.2),
    }  # fmt: skip
    torch.save(content if wrapped else weights, tmp_path / "model_best.pth.tar")
    model = Net()
    report = load_weights(model, tmp_path / "model_best.pth.tar")
    assert_taken(model, donor)
    assert (report.loaded, report.unused, report.unknown) == (7, 1, ())


def test_safetensors_are_read(tmp_path, donor):
    save_file(donor.state_dict(), tmp_path / "model.safetensors")
    model = Net()
    load_weights(model, tmp_path / "model.safetensors")
    assert_taken(model, donor)


def test_unknown_entries_are_named_in_a_warning(tmp_path, donor, caplog):
    torch.save(donor.state_dict() | {"surplus.bias": torch.zeros(1)}, tmp_path / "a.pth")
    with caplog.at_level(logging.WARNING):
        report = load_weights(Net(), tmp_path / "a.pth")
    assert report.unknown == ("surplus.bias",)
    assert "surplus.bias" in caplog.text


def test_missing_live_tensor_is_an_error(tmp_path, donor):
    weights = donor.state_dict()
    del weights["live.bias"]
    torch.save(weights, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"a\.pth.*missing: live\.bias"):
        load_weights(Net(), tmp_path / "a.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, donor, value):
    weights = donor.state_dict() | {"unused.weight": torch.full((4,), value)}
    torch.save(weights, tmp_path / "a.pth")
    load_weights(Net(), tmp_path / "a.pth")  # unused entries do not matter
    weights["live.weight"] = torch.full((2, 3), value)
    torch.save(weights, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"a\.pth: .* not finite in live\.weight \(1 tensors"):
        load_weights(Net(), tmp_path / "a.pth")


def test_another_architecture_is_an_error_naming_shapes(tmp_path, donor):
    torch.save(donor.state_dict() | {"live.weight": torch.zeros(5, 3)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"live\.weight is \(5, 3\), expected \(2, 3\)"):
        load_weights(Net(), tmp_path / "a.pth")


class Malicious:
    def __reduce__(self):
        return (eval, ("1 + 1",))


def test_code_in_a_pickle_is_refused(tmp_path):
    torch.save({"state_dict": Malicious()}, tmp_path / "zip.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Malicious(), protocol=2))
    for name in ("zip.pth", "bare.pth"):
        with pytest.raises(WeightsError, match="refused"):
            load_weights(Net(), tmp_path / name)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.95])
def test_truncated_file_is_an_error(tmp_path, donor, suffix, keep):
    path = tmp_path / f"a{suffix}"
    if suffix == ".pth":
        torch.save(donor.state_dict(), path)
    else:
        save_file(donor.state_dict(), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(WeightsError, match=r"not a whole weight file"):
        load_weights(Net(), path)


def test_file_without_weights_is_an_error(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"no weights found.*epoch"):
        load_weights(Net(), tmp_path / "a.pth")


def test_absent_file_is_an_error(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        load_weights(Net(), tmp_path / "a.pth")


def test_weights_of_the_other_system_are_called_so():
    head = {"sem_seg_head.predictor.query_embed.weight": torch.zeros(1)}
    with pytest.raises(WeightsError, match="x: weights of ZegFormer, expected those of SAZS"):
        check_system(head, "x", SAZS)
    check_system(head, "x", ZEGFORMER)
