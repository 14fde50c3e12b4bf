"""Open a trained SAZS, with text embeddings from its checkpoint, a table or CLIP."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from data.errors import SettingError, VocabularyError
from data.sazs.classes import fewshot
from data.text.embeddings import load_embeddings
from data.text.vocabulary import OTHERS, Vocabulary, from_names
from data.weight_files import Checkpoint
from eigen.device import torch_device
from eval.class_names import classes_of_table, listed_classes, rows_of_table, unknown_names
from eval.mask_scores import MaskScores, of_sazs
from eval.model import Model, Options
from eval.predict import Predict, with_sazs
from eval.sazs.segmenter import INPUT, SazsSegmenter
from eval.sazs.words import has_words, texts_of
from models.clip.weights import ClipSource
from models.sazs.load import load
from models.sazs.texts import open_texts

CLIP = "ViT-B/32"
"""The CLIP whose text embeddings SAZS is trained with."""
DIMENSION = 512
"""Feature dimension of every SAZS network, and of CLIP's text embeddings."""


def open_sazs(options: Options, checkpoint: Checkpoint) -> Model:
    """Open the SAZS network of a checkpoint.

    Raises
    ------
    SettingError
        An option is ZegFormer's, or a table fits no vocabulary.
    VocabularyError, WeightsError
        The class names, the table or the weights cannot be read or do not match.
    """
    if options.config:
        raise SettingError(
            f"{options.config}: a configuration of ZegFormer, but the checkpoint is of SAZS"
        )
    device = torch_device(_device_name(options.overrides))
    model, recipe = load(checkpoint, arch=options.arch)
    names = recipe["trained"] if has_words(checkpoint) else recipe.get("names")
    side = options.input_side
    if side is None:
        side = recipe.get("input_side", INPUT)
    default = (
        from_names(names, name="the checkpoint's classes")
        if names
        else fewshot(recipe.get("benchmark", "pascal"), spelling=recipe.get("mode", "corrected"))
    )
    words = listed_classes(options.classes, default)
    texts_for = _texts(options, checkpoint, words, default)
    segmenter = SazsSegmenter(model.to(device), side=side or None)

    @functools.lru_cache(maxsize=4)
    def predictor(vocabulary: Vocabulary) -> Predict:
        return with_sazs(segmenter, texts_for(vocabulary), threshold=options.threshold)

    def scorer(vocabulary: Vocabulary) -> MaskScores:
        return of_sazs(segmenter, texts_for(vocabulary))

    return Model("sazs", str(checkpoint.path), words, None, predictor, scorer)


def _texts(
    options: Options, checkpoint: Checkpoint, words: Vocabulary, default: Vocabulary
) -> Callable[[Vocabulary], Tensor]:
    """What embeds the names of a vocabulary; raises now where those of `words` cannot be."""
    if options.embeddings:
        return _texts_of_table(options.embeddings, words, default)
    if has_words(checkpoint):
        texts_of(words.names, checkpoint)
        return lambda vocabulary: texts_of(vocabulary.names, checkpoint)
    texts = checkpoint.recipe.get("texts")
    trained = torch.tensor(texts) if texts else None
    if trained is None or unknown_names(words, default):
        ClipSource(CLIP).path()

    def embed(vocabulary: Vocabulary) -> Tensor:
        _refuse_others(vocabulary)
        if trained is None or unknown_names(vocabulary, default):
            return open_texts(CLIP, vocabulary)
        rows = rows_of_table(vocabulary, str(checkpoint.path), default)
        return trained[[0, *(1 + row for row in rows)]]

    return embed


def _texts_of_table(
    table: str, words: Vocabulary, default: Vocabulary
) -> Callable[[Vocabulary], Tensor]:
    count, dimension = load_embeddings(table).shape
    if dimension != DIMENSION:
        raise VocabularyError(
            f"{table}: expected embeddings of dimension {DIMENSION}, found {dimension}; make them "
            f"with the text encoder of a CLIP ViT-B"
        )
    # A table may begin with a row for "others".
    classes = next((v for v in (words, default) if len(v) + 1 == count), None)
    if classes is None:
        classes = classes_of_table(count, table, words, default)

    def embed(vocabulary: Vocabulary) -> Tensor:
        _refuse_others(vocabulary)
        rows = rows_of_table(vocabulary, table, classes)
        return open_texts(table, classes)[[0, *(1 + row for row in rows)]]

    return embed


def _refuse_others(vocabulary: Vocabulary) -> None:
    if OTHERS in vocabulary.names:
        raise SettingError(f"{OTHERS!r} is what SAZS calls all the rest; choose another word")


def _device_name(overrides: Sequence[str]) -> str:
    """SAZS's only setting among ZegFormer's: the device."""
    if not overrides:
        return "auto"
    if len(overrides) != 2 or overrides[0] != "MODEL.DEVICE":
        raise SettingError(f"{' '.join(overrides)}: of SAZS only MODEL.DEVICE can be set")
    return overrides[1]
