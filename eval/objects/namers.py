"""Open the namer that the settings choose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from data.errors import SettingError
from data.files import expanded, sha256
from data.text.vocabulary import Vocabulary, builtin
from eigen.device import torch_device
from eval.class_names import class_id_of, listed_classes
from eval.model import Options
from eval.objects.name_spec import NameSpec
from eval.objects.names import ClipNamer, ImagenetNamer, Namer, SegmenterNamer, voc_synsets
from eval.sazs.words import PACKAGED
from eval.trained import open_model
from models.clip.prompts import templates
from models.clip.text import class_embeddings
from models.clip.weights import ClipSource
from models.imagenet import ImagenetClassifier

CLIP = "ViT-B/16"
VOC = "pascal"


@dataclass(frozen=True)
class OpenedNamer:
    """A namer, its vocabulary, and the SHA-256 of its weights."""

    namer: Namer
    vocabulary: Vocabulary
    weights_sha256: str


def open_namer(spec: NameSpec, device: str = "auto") -> OpenedNamer:
    """The namer of the settings.

    Raises
    ------
    VocabularyError
        Words that the namer cannot read, or a file of words that cannot be read.
    WeightsError, SettingError
        Weights that cannot be read, or that are of another network.
    """
    vocabulary = listed_classes(spec.words, builtin(VOC), option="words")
    return _OPEN[spec.namer](spec, vocabulary, device)


def _imagenet(spec: NameSpec, vocabulary: Vocabulary, device: str) -> OpenedNamer:
    table = voc_synsets()
    groups = {
        name: table.get(name) or vocabulary.synonyms(c) for c, name in enumerate(vocabulary.names)
    }
    classifier = ImagenetClassifier(spec.classifier, device)
    return OpenedNamer(
        ImagenetNamer(classifier, groups, view=spec.view), vocabulary, classifier.weights_sha256
    )


def _clip(spec: NameSpec, vocabulary: Vocabulary, device: str) -> OpenedNamer:
    source, on = ClipSource(spec.weights or CLIP), torch_device(device)
    clip = source.load(on)
    texts = class_embeddings(vocabulary.names, templates("crops"), source, device=on)
    return OpenedNamer(ClipNamer(clip, texts.to(on), vocabulary.names), vocabulary, source.digest())


def _checkpoint(spec: NameSpec, vocabulary: Vocabulary, device: str) -> OpenedNamer:
    path = str(PACKAGED if spec.weights is None else spec.weights)
    overrides = ("MODEL.DEVICE", device)
    names = vocabulary.names
    model = open_model(Options(checkpoint=path, overrides=overrides, classes=names))
    if model.scorer is None:
        raise SettingError(f"{path}: expected a trained SAZS or ZegFormer, found {model.kind}")
    namer = SegmenterNamer(model.scorer(model.vocabulary(names)), names)
    return OpenedNamer(namer, vocabulary, sha256(expanded(path)))


_OPEN: dict[str, Callable[[NameSpec, Vocabulary, str], OpenedNamer]] = {
    "imagenet": _imagenet,
    "clip": _clip,
    "checkpoint": _checkpoint,
}


def voc_ids(vocabulary: Vocabulary) -> list[int] | None:
    """The label of each class in VOC's label maps; None if one of them is not VOC's."""
    voc = builtin(VOC)
    ids = [class_id_of(name, voc) for name in vocabulary.names]
    return None if None in ids else [1 + int(c) for c in ids if c is not None]
