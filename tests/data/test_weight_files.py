"""Weight files: whatever a damaged file holds, it is either refused by name or read unchanged."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from data import weight_files
from data.errors import WeightsError

RECIPE = {"arch": "net", "lr": 0.1, "names": ["cat", "sofa"]}


def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "a.weight": torch.randn(7, 5, generator=generator),
        "a.half": torch.randn(3, generator=generator).bfloat16(),
        "steps": torch.tensor(12),
        "none": torch.empty(0, 4),
    }


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(params=["w.safetensors", "w.pth"])
def file(request, tmp_path):
    path = tmp_path / request.param
    if path.suffix == ".safetensors":
        weight_files.write_safetensors(path, weights(), RECIPE)
    else:
        torch.save({"state_dict": weights(), "recipe": RECIPE}, path)
    return path


def test_tensors_recipe_and_hash_come_from_one_read(file):
    found = weight_files.read(file)
    assert same(found.tensors, weights()) and found.recipe == RECIPE
    assert found.kind == {".safetensors": "safetensors", ".pth": "torch"}[file.suffix]
    assert len(found.sha256) == 64


def test_a_flipped_bit_anywhere_is_refused_by_name_or_changes_nothing(file):
    data, rng, refused = file.read_bytes(), np.random.default_rng(0), 0
    flips = [(int(p), int(rng.integers(8))) for p in rng.choice(len(data), 300, replace=False)]
    # The entry of data/0 in a ZIP's directory: its attributes lie eight bytes before its name.
    directory = data.rfind(b"w/data/0") - 8
    flips += [(directory + byte, bit) for byte in range(8) for bit in range(8)]
    for position, bit in flips:
        damaged = bytearray(data)
        damaged[position] ^= 1 << bit
        file.write_bytes(damaged)
        try:
            found = weight_files.read(file)
            assert same(found.tensors, weights()) and found.recipe == RECIPE, position
        except WeightsError as error:
            refused += 1
            assert re.match(rf"{re.escape(str(file))}: .*", str(error))
            assert any(way in str(error) for way in ("copy it again", "save the state dict again"))
    # In a ZIP archive times, alignment and names kept twice may change without any effect.
    assert refused == len(flips) if file.suffix == ".safetensors" else refused > 100


def test_a_flipped_bit_in_a_tensor_is_refused(file):
    data = file.read_bytes()
    for value in weights().values():
        raw = value.reshape(-1).view(torch.uint8).numpy().tobytes()
        for position in range(len(raw)):
            damaged = bytearray(data)
            damaged[data.index(raw) + position] ^= 1
            file.write_bytes(damaged)
            with pytest.raises(WeightsError, match=r"checksum|digest|CRC"):
                weight_files.read(file)


def test_safetensors_of_others_need_no_digest(tmp_path):
    from safetensors.torch import save_file

    for metadata in (None, {"format": "pt"}, {"recipe": "{}"}):
        save_file(weights(), tmp_path / "w.safetensors", metadata=metadata)
        assert same(weight_files.read(tmp_path / "w.safetensors").tensors, weights())


def test_a_recipe_with_values_that_json_lacks_is_written_without_them(tmp_path):
    weight_files.write_safetensors(tmp_path / "w.safetensors", weights(), {"miou": float("nan")})
    assert weight_files.read(tmp_path / "w.safetensors").recipe == {"miou": None}


def test_an_error_of_the_machine_is_not_called_damage(file, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr("safetensors.safe_open", denied)
    monkeypatch.setattr("torch.load", denied)
    with pytest.raises(PermissionError):
        weight_files.read(file)
