"""The checkpoint that comes with this software, and the words it knows."""

from __future__ import annotations

import json

import numpy as np
import pytest
import skimage.data
import torch

from data import weight_files
from data.errors import VocabularyError
from data.text.vocabulary import builtin, from_names
from eigen.extractors.zoo import CONVOLUTIONAL
from eval.model import Options
from eval.sazs.words import PACKAGED, has_words, texts_of
from eval.trained import load, open_model, segment


@pytest.fixture(scope="module")
def checkpoint() -> weight_files.Checkpoint:
    return weight_files.read(PACKAGED)


def test_it_is_small_and_says_what_it_is_of(checkpoint):
    assert PACKAGED.stat().st_size < 4_000_000
    assert has_words(checkpoint)
    recipe = checkpoint.recipe
    assert recipe["backbone_sha256"] == CONVOLUTIONAL[recipe["backbone"]].sha256
    card = PACKAGED.with_suffix(".md").read_text()
    assert checkpoint.sha256 in card and recipe["backbone_sha256"] in card
    assert {"cat", "sofa", "person"} <= set(recipe["trained"]) <= set(recipe["words"])
    table = checkpoint.tensors["words"]
    assert len(recipe["words"]) == len(table) == len(set(recipe["words"])) > 250
    np.testing.assert_allclose(torch.linalg.norm(table.float(), dim=1), 1, atol=2e-3)


def test_words_are_found_whatever_their_spelling_and_by_synonym(checkpoint):
    expected = texts_of(["potted plant", "cat"], checkpoint)
    assert expected.shape == (3, 512) and not expected[0].any()
    assert torch.equal(texts_of(["PottedPlant", " Cat"], checkpoint), expected)
    assert torch.equal(texts_of(["shrubbery, potted plant", "cat"], checkpoint), expected)


@pytest.mark.parametrize(("word", "near"), [("sofaa", "sofa"), ("hores", "horse")])
def test_an_unknown_word_is_answered_with_near_ones_and_with_the_way_to_others(
    checkpoint, word: str, near: str
):
    with pytest.raises(VocabularyError, match=rf"'{word}'.*near: .*{near}.*ViT-B/16"):
        texts_of([word], checkpoint)
    with pytest.raises(VocabularyError, match=near):
        open_model(Options(classes=word))


def test_the_packaged_network_finds_a_cat_where_no_checkpoint_is_named():
    model = open_model(Options(classes="cat, bus"))
    assert model.source == str(PACKAGED)
    labels = segment(skimage.data.chelsea(), ["cat", "bus"], model)
    shares = np.bincount(labels.ravel(), minlength=3) / labels.size
    assert shares[1] > 0.35 and shares[2] < 0.05  # a portrait: face, ears and shoulders
    assert labels[150, 220] == 1


def test_the_packaged_network_takes_a_table_of_other_words(tmp_path):
    image = skimage.data.chelsea()[::2, ::2]
    for dimension in (512, 16):
        np.save(tmp_path / f"{dimension}.npy", np.eye(2, dimension))
    model = open_model(Options(classes="wug, dax", embeddings=str(tmp_path / "512.npy")))
    assert segment(image, ["dax"], model).shape == image.shape[:2]
    with pytest.raises(VocabularyError, match=r"16.npy: expected .* dimension 512, found 16"):
        open_model(Options(classes="wug, dax", embeddings=str(tmp_path / "16.npy")))


def test_the_names_of_a_vocabulary_are_known(checkpoint):
    known = from_names(checkpoint.recipe["words"])
    assert set(builtin("pascal").names) <= set(known.names)
    assert json.dumps(checkpoint.recipe["recipe"])
    assert load(PACKAGED).words.names == tuple(checkpoint.recipe["trained"])
