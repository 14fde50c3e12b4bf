"""Text embeddings as SAZS wants them, from a table or from CLIP."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from data.errors import VocabularyError, WeightsError
from data.text.vocabulary import from_names
from models.sazs import texts as sazs_texts

NAMES = from_names(["cat", "sofa", "potted plant"])


def table(rows: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, 512)).astype(np.float16)


def test_table_without_others_gets_a_zero_row(tmp_path):
    np.save(tmp_path / "t.npy", table(3))
    texts = sazs_texts.open_texts(tmp_path / "t.npy", NAMES)
    assert texts.dtype == torch.float32
    assert texts[0].abs().max() == 0
    np.testing.assert_array_equal(texts[1:].numpy(), table(3).astype(np.float32))


def test_table_with_others_is_taken_as_it_is(tmp_path):
    save_file({"embeddings": torch.from_numpy(table(4))}, tmp_path / "t.safetensors")
    texts = sazs_texts.open_texts(tmp_path / "t.safetensors", NAMES)
    np.testing.assert_array_equal(texts.numpy(), table(4).astype(np.float32))


@pytest.mark.parametrize("rows", [2, 5])
def test_table_of_another_length_is_an_error(tmp_path, rows):
    np.save(tmp_path / "t.npy", table(rows))
    with pytest.raises(VocabularyError, match=rf"t\.npy: expected 3 classes.* found {rows}"):
        sazs_texts.open_texts(tmp_path / "t.npy", NAMES)


def test_clip_is_asked_for_the_bare_words_others_first(monkeypatch):
    asked = {}

    def embed(texts, source, **settings):
        asked.update(texts=texts, source=source.name, **settings)
        return torch.ones(len(texts), 512)

    monkeypatch.setattr(sazs_texts, "text_embeddings", embed)
    sazs_texts.open_texts("ViT-B/32", NAMES, half=True)
    assert asked["texts"] == ["others", "cat", "sofa", "potted plant"]
    assert (asked["source"], asked["half"]) == ("ViT-B/32", True)


def test_unknown_clip_is_an_error():
    with pytest.raises(WeightsError, match="no such file"):
        sazs_texts.open_texts("ViT-Z/99", NAMES, cache=None)


def test_a_table_of_another_width_is_refused(tmp_path):
    np.save(tmp_path / "table.npy", np.eye(3, 77))
    with pytest.raises(VocabularyError, match=r"of 512 numbers, .* found 77"):
        sazs_texts.open_texts(tmp_path / "table.npy", from_names(["a", "b", "c"]))
