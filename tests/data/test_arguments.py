"""What a caller of the library passes by mistake is named, whatever it is."""

from __future__ import annotations

import numpy as np
import pytest

import eigenshape as es
from tests.pictures import scene

IMAGE = scene(48, 64)
FEATURES = np.random.default_rng(0).standard_normal((12, 5))


@pytest.fixture(scope="module")
def pairs() -> es.Eigenpairs:
    return es.eigenvectors(IMAGE, "lowlevel8", 3)


MISTAKES = {
    "extractor: expected a name": [
        lambda _: es.eigenvectors(IMAGE, None),
        lambda _: es.objects(IMAGE, object()),
        lambda _: es.extractor(None),
    ],
    "graph: expected a GraphSpec": [
        lambda _: es.eigenvectors(IMAGE, "lowlevel8", graph="pixel"),
        lambda _: es.eigenvectors_of(FEATURES, (3, 4), 2, graph={"kind": "pixel"}),
    ],
    "max_patches: expected a whole number from 1": [
        lambda _: es.eigenvectors(IMAGE, "lowlevel8", max_patches="many"),
        lambda _: es.eigenvectors(IMAGE, "lowlevel8", max_patches=0),
    ],
    "grid: expected two whole numbers": [
        lambda _, grid=grid: es.eigenvectors_of(FEATURES, grid, 2)
        for grid in (12, None, "3x4", (-3, -4), (0, 0), (3.0, 4.0), (3, 4, 1))
    ],
    "size: expected two whole numbers": [
        lambda _, size=size: es.eigenvectors_of(FEATURES, (3, 4), 2, size=size)
        for size in ((1,), (-5, 3), "x")
    ],
    "cells: expected Cells": [lambda _: es.eigenvectors_of(FEATURES, (3, 4), 2, cells=3)],
    "cells: expected a height and a width above 0": [lambda _: es.Cells.of_patches(0)],
    "kind: a matrix of 5 x 5 that is not symmetric": [
        lambda _: es.eigenvectors_of(FEATURES[:5], (1, 5), 2)
    ],
    "k: expected a whole number": [
        lambda pairs: es.segments(pairs, "2"),
        lambda pairs: es.segments(pairs, 2.5),
    ],
    "pairs: expected Eigenpairs": [lambda _: es.segments(IMAGE, 2)],
    "joint: expected what": [lambda pairs: es.joint_segments(pairs, 2)],
    "spec: expected an ObjectSpec": [lambda _: es.objects(IMAGE, "lowlevel8", {"count": 2})],
    "images: expected a list of images": [
        lambda _: es.joint_eigenvectors(None, "lowlevel8"),
        lambda _: es.joint_eigenvectors("photos", "lowlevel8"),
    ],
    "scores: expected numbers": [
        lambda _: es.refine("scores", IMAGE),
        lambda _: es.refine(np.zeros((2, 48, 64), complex), IMAGE),
    ],
    "eigenpairs: expected Eigenpairs": [
        lambda _: es.refine(np.zeros((2, 48, 64)), IMAGE, eigenpairs=3),
        lambda _: es.objects(IMAGE, "lowlevel8", eigenpairs=IMAGE),
    ],
    "step: expected a whole number from 1": [
        lambda _: es.refine(np.zeros((2, 48, 64)), IMAGE, step=0)
    ],
    "image: expected": [lambda _: es.refine(np.zeros((2, 48, 64)), IMAGE.astype(float))],
    "folder: expected the path": [lambda _: es.open_shards(None)],
    "path: expected the path": [lambda _: es.load(None), lambda _: es.load("")],
    "facit: no such option; did you mean 'facet'": [
        lambda _: es.extractor("lowlevel", facit="key")
    ],
}


@pytest.mark.parametrize(
    ("message", "mistake"),
    [(message, mistake) for message, mistakes in MISTAKES.items() for mistake in mistakes],
)
def test_a_mistake_is_named(pairs, message, mistake):
    with pytest.raises(es.EigenshapeError) as error:
        mistake(pairs)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("words", [None, [None], [3], 3])
def test_words_that_are_none(words, monkeypatch):
    model = object.__new__(es.Model)
    with pytest.raises(es.EigenshapeError, match=r"^words: expected"):
        es.segment(IMAGE, words, model)
