"""Features of a frozen backbone on the disk: whose they are, and when they are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from data.errors import WeightsError
from models.sazs.lite import STAGES, LiteStages
from models.sazs.networks import normalised
from models.sazs.stored import StageStore, read_stages, stored_as


@pytest.fixture(scope="module")
def stages() -> LiteStages:
    return LiteStages(frozen=True)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each image that went through the backbone."""
    calls: list[int] = []
    real = StageStore._computed

    def counting(self: StageStore, image: np.ndarray) -> list[torch.Tensor]:
        calls.append(1)
        return real(self, image)

    monkeypatch.setattr(StageStore, "_computed", counting)
    return calls


def test_features_are_computed_once_and_are_those_of_the_backbone(
    tmp_path: Path, stages: LiteStages, image: np.ndarray, computed: list[int]
):
    first = StageStore(tmp_path, stages)(image)
    again = StageStore(tmp_path, stages)(image)
    assert len(computed) == 1
    with torch.inference_mode():
        expected = stages(normalised(torch.from_numpy(image)[None]))
    for one, two, fresh in zip(first, again, expected, strict=True):
        assert one.dtype == torch.float16 and torch.equal(one, two)
        torch.testing.assert_close(one, fresh[0].half())


def test_whatever_decides_the_features_decides_their_key(
    tmp_path: Path, stages: LiteStages, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    other = image.copy()
    other[0, 0, 0] ^= 1
    store = StageStore(tmp_path, stages)
    keys = [
        store.key(image),
        store.key(other),
        store.key(image.reshape(64, 40, 3)),
        StageStore(tmp_path, stages, side=64).key(image),
    ]
    monkeypatch.setattr(stages, "sha256", "of other weights")
    keys.append(store.key(image))
    assert len(set(keys)) == len(keys)


def flipped(content: bytes) -> bytes:
    return content[:-100] + bytes([content[-100] ^ 1]) + content[-99:]


@pytest.mark.parametrize("spoil", [flipped, lambda content: content[:5000], lambda content: b""])
def test_a_damaged_file_is_refused_and_computed_again(
    tmp_path: Path, stages: LiteStages, image: np.ndarray, computed: list[int], spoil, caplog
):
    store = StageStore(tmp_path, stages)
    key = store.add(image)
    whole = [maps.clone() for maps in read_stages(tmp_path, key)]  # the file is mapped, not read
    path = stored_as(tmp_path, key)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(WeightsError, match=key):
        read_stages(tmp_path, key)
    assert all(map(torch.equal, store(image), whole))
    assert len(computed) == 2 and "computed again" in caplog.text


def test_a_file_under_the_name_of_another_image_is_refused(
    tmp_path: Path, stages: LiteStages, image: np.ndarray
):
    store = StageStore(tmp_path, stages)
    key, other = store.add(image), store.key(image[::-1])
    stored_as(tmp_path, key).rename(stored_as(tmp_path, other))
    with pytest.raises(WeightsError, match=f"expected the features of {other}, found"):
        read_stages(tmp_path, other)
    made = store(image[::-1])
    assert [maps.shape[0] for maps in made] == list(STAGES.values())
    assert all(map(torch.equal, read_stages(tmp_path, other), made))


def test_squashed_features_are_square(tmp_path: Path, stages: LiteStages, image: np.ndarray):
    maps = StageStore(tmp_path, stages, side=48)(image)
    assert [tuple(stage.shape[1:]) for stage in maps] == [(6, 6), (3, 3), (3, 3), (3, 3)]
