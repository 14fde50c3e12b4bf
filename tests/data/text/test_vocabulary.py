"""Class lists agree with the published ones, and a vocabulary is one consistent object."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.errors import VocabularyError
from data.sazs.classes import fewshot
from data.text import vocabulary
from data.text.vocabulary import Vocabulary, builtin, from_file, palette

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.mark.parametrize("key", ["voc", "coco_stuff", "ade20k_full"])
def test_zegformer_classes_are_the_published_ones(key):
    golden = json.loads((GOLDEN / f"classes_{key}.json").read_text())
    classes = builtin(key)
    assert list(classes.names) == golden["names"]
    assert classes.seen_ids == golden["seen"] and classes.unseen_ids == golden["unseen"]
    assert classes.ignore == golden["ignore"]
    numberings = {
        "all": "label_id_to_contiguous",
        "seen": "label_id_to_contiguous_seen_training",
        "unseen": "label_id_to_contiguous_unseen_only",
    }
    for which, numbering in numberings.items():
        table = classes.subset(which).lookup()
        expected = np.full(65536, golden["ignore"])
        for label, class_id in golden[numbering].items():
            expected[int(label)] = class_id
        assert np.array_equal(table, expected), which
        assert table.dtype == (np.uint16 if key == "ade20k_full" else np.uint8)


def test_few_shot_spellings():
    glued = fewshot("pascal", spelling="reference").names
    apart = fewshot("pascal").names
    assert (glued[10], glued[15], glued[19]) == ("diningtable", "pottedplant", "tvmonitor")
    assert (apart[10], apart[15], apart[19]) == ("dining table", "potted plant", "tv monitor")
    coco = fewshot("coco", spelling="reference").names
    landmarks = {0: "person", 9: "trafficlight", 20: "elephant", 39: "bottle", 40: "wineglass"}
    landmarks |= {57: "sofa", 58: "pottedplant", 62: "tvmonitor", 78: "hairdrier", 79: "toothbrush"}
    assert {c: coco[c] for c in landmarks} == landmarks
    assert len(coco) == 80 and not any(" " in name for name in coco)
    assert fewshot("coco").names[78] == "hair drier"
    with pytest.raises(VocabularyError, match="corrected or reference"):
        fewshot("coco", spelling="wrong")
    with pytest.raises(VocabularyError, match="expected one of pascal, coco, found 'voc'"):
        fewshot("voc")


def test_a_fold_is_unseen():
    assert fewshot("pascal", fold=1).unseen_ids == [5, 6, 7, 8, 9]
    assert fewshot("coco", fold=3).unseen_ids == list(range(3, 80, 4))
    held_out = fewshot("pascal", fold=1).subset("unseen")
    assert held_out.names == ("bus", "car", "cat", "chair", "cow")
    assert held_out.label_ids == (6, 7, 8, 9, 10) and held_out.unseen_ids == [0, 1, 2, 3, 4]
    assert fewshot("pascal", fold=1).subset("seen").unseen_ids == []
    assert fewshot("pascal", fold=1).seen_flags.sum() == 15


def test_synonyms():
    ade = builtin("ade20k_full")
    assert ade.synonyms(1) == ["building", "edifice"]
    odd = next(name for name in ade.names if "c p u" in name)
    assert "c p u " in odd.split(", ")  # the published stray space is part of the synonym


def test_palette_is_pascals():
    colours = palette(np.arange(256))
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 15: (192, 128, 128)}
    known |= {20: (0, 64, 128), 255: (224, 224, 192)}
    assert {c: tuple(colours[c].tolist()) for c in known} == known
    assert len(np.unique(builtin("ade20k_full").colours, axis=0)) == 847


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"names": ()}, "found none"),
        ({"names": ("cat", "cat")}, "'cat' twice"),
        ({"names": ("cat", " ")}, "an empty name"),
        ({"names": ("cat",), "label_ids": (1, 2)}, "expected 1 label ids, found 2"),
        ({"names": ("cat",), "unseen": frozenset({1})}, r"unseen ids of 1 classes, found \[1\]"),
    ],
)
def test_inconsistent_vocabularies_are_refused(fields, complaint):
    with pytest.raises(VocabularyError, match=complaint):
        Vocabulary("mine", **fields)


def test_names_from_files(tmp_path):
    text, array = tmp_path / "a.txt", tmp_path / "a.json"
    text.write_text("cat\nwine glass\nsofa, couch", "utf-8")
    array.write_text('["cat", "wine glass", "sofa, couch"]')
    assert from_file(text).names == from_file(array).names == ("cat", "wine glass", "sofa, couch")
    assert from_file(text, expected=3).unseen_ids == []
    full = tmp_path / "full.json"
    full.write_text('{"names": ["a", "b"], "unseen": [1], "label_ids": [4, 9]}')
    assert from_file(full).subset("unseen").label_ids == (9,)


def test_bad_files_are_named(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("cat\ndog\n")
    with pytest.raises(VocabularyError, match=r"names\.txt: expected 20 class names, found 2"):
        from_file(path, expected=20)
    with pytest.raises(VocabularyError, match=r"absent\.txt"):
        from_file(tmp_path / "absent.txt")
    path = tmp_path / "names.json"
    for content in ("{", "3", '{"classes": []}', "[1, 2]", '{"names": ["a"], "unseen": ["x"]}'):
        path.write_text(content)
        with pytest.raises(VocabularyError, match=r"names\.json"):
            from_file(path)
    with pytest.raises(VocabularyError, match="ade20k_full, coco"):
        builtin("imagenet")


def test_length_and_index_checks():
    classes = vocabulary.from_names(["cat", "sofa"])
    assert classes.index("sofa") == 1
    with pytest.raises(VocabularyError, match="no class 'dog'"):
        classes.index("dog")
    classes.check_length(2, "logits")
    with pytest.raises(VocabularyError, match="logits: expected 2 classes, as in class names"):
        classes.check_length(3, "logits")


def test_data_imports_no_torch():
    modules = (
        "data.text.vocabulary, data.synthetic.world, data.datasets, data.sazs.splits, "
        "data.text.embeddings, data.pictures"
    )
    code = f"import {modules}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=GOLDEN.parents[1]).returncode == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cat\ncat\n", "found 'cat' twice"),
        ("", "at least one class name, found none"),
        ("cat\n\nsofa\n", "found an empty name"),
        ({"names": ["cat"], "unseen": [9]}, "unseen ids of 1 classes, found"),
        ({"names": ["cat"], "unseen": 3}, "expected lists of numbers for unseen and label_ids"),
        ({"names": ["cat"], "label_ids": [float("inf")]}, "expected lists of numbers"),
        ({"names": ["cat", "dog"], "label_ids": [1, 1]}, "different label ids from 0 to 65535"),
        ({"names": ["cat"], "label_ids": [-1]}, "different label ids from 0 to 65535"),
        ({"names": ["cat"], "label_ids": [10**9]}, "different label ids from 0 to 65535"),
        ({"names": ["cat"], "label_ids": [255]}, "255 is both a label id and the value to ignore"),
    ],
)
def test_what_is_wrong_with_a_file_of_names_is_said_and_nothing_else(tmp_path, content, message):
    path = tmp_path / ("names.txt" if isinstance(content, str) else "names.json")
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(VocabularyError, match=message):
        from_file(path)


@pytest.mark.parametrize(
    ("content", "message"), [(b"\xff\xfec", "not text in UTF-8"), (b"[" * 99999, "cannot read")]
)
def test_a_file_that_is_no_list_of_names_is_named(tmp_path, content, message):
    path = tmp_path / "names.json"
    path.write_bytes(content)
    with pytest.raises(VocabularyError, match=message):
        from_file(path)
