"""Training a head on stored features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.errors import SettingError
from models.sazs import frozen as network
from train.sazs.frozen import Example, HeadRecipe, Stored, loss, store, train_head

TEXTS = torch.eye(512)[:3]


def stored(rng: np.random.Generator, *classes: int) -> Stored:
    """Features that carry the class of each cell in a channel of its own, among noise."""
    coarse = rng.integers(0, len(classes) + 1, (3, 4)).repeat(2, 0).repeat(2, 1)
    label = np.array([0, *(c + 1 for c in classes)], np.uint8)[coarse].repeat(2, 0).repeat(2, 1)
    stages = []
    for i, channels in enumerate(network.STAGES.values()):
        ids = label if i == 0 else label[::2, ::2]
        maps = rng.normal(0, 0.3, (channels, *ids.shape))
        for c in range(4):
            maps[c] += 2 * (ids == c)
        stages.append(maps.astype(np.float16))
    return Stored(stages, label, frozenset(classes))


def test_a_head_learns_what_the_features_carry():
    rng = np.random.default_rng(0)
    items = [stored(rng, 0, 1) for _ in range(6)] + [stored(rng, 2) for _ in range(4)]
    head = train_head(items, TEXTS, HeadRecipe(steps=40, batch_size=4, cells=4, drop_rate=0))
    test = stored(rng, 0, 1)
    with torch.inference_mode():
        maps = [torch.from_numpy(stage)[None].float() for stage in test.stages]
        scores = head.scores(head.hidden(maps), TEXTS)[0].numpy()
    for c in (0, 1):
        assert ((scores[c] > 0) == (test.label == c + 1)).mean() > 0.85


def test_images_that_show_a_held_out_class_are_left_out(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    items = [stored(rng, 0, 1), stored(rng, 1), stored(rng, 2)]
    chosen = []

    class Stop(Exception):
        pass

    def batch(batch_items, *_):
        chosen.extend(batch_items)
        raise Stop

    monkeypatch.setattr("train.sazs.frozen._batch", batch)
    with pytest.raises(Stop):
        train_head(items, TEXTS, HeadRecipe(batch_size=2), held_out=[0])
    assert {id(item) for item in chosen} == {id(items[1]), id(items[2])}


def test_too_few_images_are_named():
    rng = np.random.default_rng(0)
    with pytest.raises(SettingError, match="at most the 1 images"):
        train_head([stored(rng, 1)], TEXTS, HeadRecipe(batch_size=2))


def test_the_loss_of_absent_classes_counts_by_its_weight():
    labels = torch.tensor([[[1, 0], [255, 1]]])
    perfect = torch.tensor([[[[20.0, -20], [5, 20]], [[3.0, 3], [3, 3]]]])
    classes = torch.tensor([0, 1])
    assert loss(perfect, labels, classes, 0.0) < 0.01
    weighted = loss(perfect, labels, classes, 0.5)
    torch.testing.assert_close(weighted, torch.tensor(0.5 * 3.0486), atol=0.01, rtol=0.01)
    void = loss(perfect, torch.full_like(labels, 255), classes, 0.0)
    assert void == 0


def test_features_are_computed_once_for_each_image(tmp_path: Path, monkeypatch):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 64, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    label = np.zeros((40, 64), np.uint8)
    label[:20] = 3
    example = Example("a", tmp_path / "a.png", lambda: label)
    first = store([example], tmp_path / "features")[0]
    assert first.classes == {2} and first.label.shape == (4, 8)
    assert [stage.shape[0] for stage in first.stages] == list(network.STAGES.values())
    monkeypatch.setattr("train.sazs.frozen.FrozenStages", None)
    again = store([example], tmp_path / "features")[0]
    for one, other in zip(first.stages, again.stages, strict=True):
        np.testing.assert_array_equal(one, other)
    # Another image under the same name is not taken for it.
    Image.fromarray(rng.integers(0, 256, (40, 64, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(TypeError):
        store([example], tmp_path / "features")
