"""The classes of SAZS's benchmarks."""

from __future__ import annotations

from dataclasses import replace

from data.datasets import DATASETS
from data.errors import VocabularyError
from data.text.vocabulary import Vocabulary, builtin


def fewshot(benchmark: str, *, fold: int | None = None, spelling: str = "corrected") -> Vocabulary:
    """The 20 PASCAL or 80 COCO classes of SAZS, with a fold's test classes unseen.

    Parameters
    ----------
    spelling
        "corrected": words apart ("potted plant"); "reference": glued, as published.
    """
    if spelling not in ("corrected", "reference"):
        raise VocabularyError(f"spelling: expected corrected or reference, found {spelling!r}")
    known = [d.name for d in DATASETS.values() if d.benchmark and d.vocabulary]
    if benchmark not in known:
        raise VocabularyError(f"benchmark: expected one of {', '.join(known)}, found {benchmark!r}")
    record = DATASETS[benchmark]
    vocabulary = builtin(str(record.vocabulary))
    if spelling == "reference":
        vocabulary = replace(vocabulary, names=tuple(n.replace(" ", "") for n in vocabulary.names))
    if fold is None or record.benchmark is None:
        return vocabulary
    return vocabulary.holding_out(record.benchmark.class_ids(fold, "val"))
