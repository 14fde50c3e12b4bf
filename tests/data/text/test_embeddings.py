"""Embeddings from files: the right rows, or what is wrong with which file."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from data.errors import VocabularyError
from data.text.embeddings import centred, load_embeddings
from data.text.vocabulary import Vocabulary, from_names

CLASSES = from_names(["cat", "dog", "sofa"])


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(3, 8)).astype(np.float16) * 5


def test_each_format_gives_the_same_rows(tmp_path, rows):
    np.save(tmp_path / "a.npy", rows)
    np.savez(tmp_path / "a.npz", embeddings=rows, other=np.zeros(3))
    save_file({"text": rows}, tmp_path / "a.safetensors")
    for name in ("a.npy", "a.npz", "a.safetensors"):
        read = load_embeddings(tmp_path / name, CLASSES)
        assert read.dtype == np.float32 and np.array_equal(read, rows.astype(np.float32)), name
    unit = load_embeddings(tmp_path / "a.npy", normalise=True)
    assert np.allclose(np.linalg.norm(unit, axis=1), 1)
    assert np.allclose(unit * np.linalg.norm(rows.astype(float), axis=1)[:, None], rows, atol=1e-5)


def test_what_is_wrong_is_said(tmp_path, rows):
    def complaint(name, array=None, content=None):
        path = tmp_path / name
        if array is not None:
            np.save(path, array)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(VocabularyError) as caught:
            load_embeddings(path, CLASSES)
        assert name in str(caught.value)
        return str(caught.value)

    assert "expected 3 rows, one per class of class names, found 2" in complaint(
        "short.npy", rows[:2]
    )
    assert "one row per class" in complaint("flat.npy", rows[0])
    assert "found 1 others, the first in row 1" in complaint("zero.npy", rows * [[1], [0], [1]])
    assert "expected finite rows" in complaint(
        "nan.npy", np.where(rows == rows[2, 2], np.nan, rows)
    )
    assert "cannot read" in complaint("code.npy", np.array([{"a": 1}], dtype=object))
    assert "cannot read" in complaint("text.npy", content=b"no array")
    assert "cannot read" in complaint("cut.npz", content=b"PK\x03\x04 cut")
    assert "cannot read" in complaint("cut.safetensors", content=b"\xff" * 20)
    assert "cannot read" in complaint("absent.npy")
    assert "expected .npy, .npz or .safetensors" in complaint("a.pkl", content=b"x")
    np.savez(tmp_path / "two.npz", a=rows, b=rows)
    assert "found a, b" in complaint("two.npz")


def test_centred_rows_are_told_apart_and_know_seen_classes_only():
    own = np.eye(8)[:3]
    shared = np.ones(8) * 5
    rows = own + shared
    found = centred(rows, Vocabulary("three", ("cat", "dog", "sofa"), unseen=frozenset({2})))
    assert found.dtype == np.float32 and np.allclose(np.linalg.norm(found, axis=1), 1)
    assert found[0] @ found[1] == pytest.approx(-1)  # of two seen classes the mean lies between
    assert (rows[0] @ rows[1]) / np.linalg.norm(rows[0]) ** 2 > 0.9
    without = centred(np.delete(rows, 2, axis=0), from_names(["cat", "dog"]))
    np.testing.assert_allclose(found[:2], without)
    with pytest.raises(VocabularyError, match="two or more seen"):
        centred(rows[:1], from_names(["cat"]))


def test_classes_that_cannot_be_told_apart_are_reported(tmp_path, caplog):
    rows = np.eye(4, dtype=np.float32)
    rows[3] = 2 * rows[1]
    np.save(tmp_path / "table.npy", rows)
    load_embeddings(tmp_path / "table.npy")
    assert "rows 1 and 3 are equal (1 such rows)" in caplog.text


def test_centring_that_leaves_nothing_is_refused():
    with pytest.raises(VocabularyError, match="centring: nothing is left of 'a'"):
        centred(np.ones((2, 5)), from_names(["a", "b"]))
