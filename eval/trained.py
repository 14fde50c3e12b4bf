"""Open a trained ZegFormer or SAZS, and name what is in an image in words chosen at the time.

Text embeddings of the words come from CLIP, from a table, or from the checkpoint that was trained
with them. A table has one row per class of `classes`, or else of the vocabulary that the
configuration names, and covers no other words.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data import weight_files
from data.errors import SettingError
from data.images import as_image
from data.text.vocabulary import OTHERS, Vocabulary, from_file, from_names
from data.weight_files import Checkpoint
from eval.sazs.words import PACKAGED, has_words

if TYPE_CHECKING:
    from data.images import ImageLike
    from eigen.pairs import Eigenpairs
    from eval.predict import Predict
    from eval.zegformer.classes import NamedClasses, TrainedClasses
    from models.zegformer.settings import ZegFormerSettings

DEFAULT_CONFIG = "configs/coco-stuff/zegformer_R50_bs32_60k_vit16_coco-stuff_gzss_eval.yaml"
CLIP = "ViT-B/32"
"""The CLIP whose text embeddings SAZS is trained with."""

_SHOWN = 24  # names in a message
_FILES_OF_CLASSES = {
    "MODEL.TEXT_EMBEDDINGS",
    "MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON",
    "MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How a checkpoint is opened.

    Attributes
    ----------
    checkpoint : weights of ZegFormer or SAZS; None takes MODEL.WEIGHTS of the configuration, or
        where there is none the network that comes with this software
    config : ZegFormer's configuration file; by default the one recorded in the checkpoint, else
        `DEFAULT_CONFIG`
    overrides : KEY, VALUE, ... of that configuration; of SAZS only MODEL.DEVICE
    classes : names, or a file of names; by default those of the test set or benchmark
    embeddings : table of text embeddings, in place of CLIP's
    arch : network of a SAZS checkpoint that does not record it
    input_side : SAZS: side of the square that images are resized to; 0 keeps their size
    threshold : pixels with a lower score stay unnamed
    """

    checkpoint: str | None = None
    config: str | None = None
    overrides: tuple[str, ...] = ()
    classes: str | tuple[str, ...] | None = None
    embeddings: str | None = None
    arch: str | None = None
    input_side: int = 512
    threshold: float = -float("inf")


@dataclass(frozen=True, repr=False)
class Model:
    """A trained network, and the words it can look for.

    Attributes
    ----------
    kind : "zegformer" or "sazs"
    source : file of the weights
    words : classes looked for by default
    trained : classes that had masks in training; None where nothing depends on it
    predictor : makes what predicts images in the classes of a vocabulary
    """

    kind: str
    source: str
    words: Vocabulary
    trained: Vocabulary | None
    predictor: Callable[[Vocabulary], Predict]

    def __repr__(self) -> str:
        return f"Model({self.kind!r}, {Path(self.source).name!r}, {len(self.words)} words)"

    def vocabulary(self, names: Sequence[str], seen: Sequence[str] | None = None) -> Vocabulary:
        """The classes of these names; those in `seen` (default: in `trained`) count as seen."""
        own = from_names(names, name="the words")
        if seen is not None:
            known = {own.index(name) for name in seen}
        elif self.trained is not None:
            known = {c for c, name in enumerate(names) if place(name, self.trained) is not None}
        else:
            return own
        return own.holding_out(set(range(len(own))) - known)


def place(name: str, vocabulary: Vocabulary) -> int | None:
    """Class id of a name or synonym, whatever its capitals and spaces; None where there is none."""
    ids = range(len(vocabulary))
    whole = {_plain(vocabulary.names[c]): c for c in reversed(ids)}
    parts = {_plain(word): c for c in reversed(ids) for word in vocabulary.synonyms(c)}
    return (parts | whole).get(_plain(name))


def _plain(name: str) -> str:
    # Data sets disagree on "tv monitor" and "tvmonitor".
    return "".join(name.casefold().split())


def load(
    path: str | Path,
    *,
    config: str | Path | None = None,
    classes: str | Path | Sequence[str] | None = None,
    embeddings: str | Path | None = None,
    arch: str | None = None,
    device: str | None = None,
) -> Model:
    """Open a trained ZegFormer or SAZS; which of the two is recognised from its weights.

    Parameters
    ----------
    path : path
        Checkpoint of this software or of the published ones: .safetensors, .pth, .pth.tar, .pkl.
    config : path, optional
        ZegFormer's configuration; needed where the checkpoint does not record one.
    classes : sequence of str or path, optional
        What the rows of `embeddings` stand for, and the words looked for by default.
    embeddings : path, optional
        Table of text embeddings (.npy, .npz, .safetensors) in place of CLIP's.
    arch : str, optional
        Network of a SAZS checkpoint that does not record it, such as "vitl16_384".
    device : str, optional
        "auto" (default), "cpu", "cuda", "cuda:1".

    Raises
    ------
    WeightsError
        The file cannot be read, or belongs to another network.
    SettingError, VocabularyError
        An argument does not fit the checkpoint.

    References
    ----------
    Ding et al., "Decoupling Zero-Shot Semantic Segmentation" (ZegFormer), CVPR 2022.
    Liu et al., "Delving into Shape-aware Zero-shot Semantic Segmentation" (SAZS), CVPR 2023.
    """
    names = classes if classes is None or isinstance(classes, str | Path) else tuple(classes)
    return open_model(
        Options(
            checkpoint=str(path),
            config=None if config is None else str(config),
            overrides=() if device is None else ("MODEL.DEVICE", device),
            classes=str(names) if isinstance(names, Path) else names,
            embeddings=None if embeddings is None else str(embeddings),
            arch=arch,
        )
    )


def segment(
    image: ImageLike,
    words: Sequence[str],
    model: Model,
    *,
    eigenpairs: Eigenpairs | None = None,
) -> np.ndarray:
    """Name each pixel of an image with one of some words.

    Parameters
    ----------
    image : path, PIL image, or ndarray of shape (H, W), (H, W, 3) or (H, W, 4), uint8
    words : sequence of str
        Such as `["cat", "sofa"]`; ", " within a word separates synonyms.
    model : Model
        From `load`.
    eigenpairs : Eigenpairs, optional
        Those of the image; they refine the masks: of SAZS by projection (docs/fusion.md), of
        ZegFormer as docs/zegformer.md describes.

    Returns
    -------
    ndarray, shape (H, W), int32
        0 where no word was found, else 1 for the first word, 2 for the second, ...

    Raises
    ------
    ImageError, SettingError
        What was given is no image, or the words, the model or the eigenpairs do not fit.
    VocabularyError, WeightsError
        A word is given twice or empty, has no embedding, or CLIP's weights are not available.
    """
    from eval.predict import IGNORE

    if not isinstance(model, Model):
        raise SettingError(f"model: expected what `load` returns, found {type(model).__qualname__}")
    if isinstance(words, str):
        raise SettingError(f"words: expected a list such as [{words!r}], found one text")
    pixels = as_image(image)
    if eigenpairs is not None and tuple(eigenpairs.size) != pixels.shape[:2]:
        raise SettingError(
            f"eigenpairs: of an image of {eigenpairs.size} pixels, but this one has "
            f"{pixels.shape[:2]}"
        )
    named = model.predictor(model.vocabulary(list(words)))(pixels, eigenpairs)
    return np.where(named.labels == IGNORE, 0, named.labels.astype(np.int32) + 1).astype(np.int32)


def open_model(options: Options) -> Model:
    """Open the network that the options name.

    Raises
    ------
    SettingError
        No weights are named, or a table fits no vocabulary. Errors of the configuration, the
        checkpoint and the vocabulary come from where these are read.
    """
    path = options.checkpoint or _packaged(options)
    checkpoint = weight_files.read(path) if path else None
    if checkpoint and has_words(checkpoint) and not options.embeddings:
        return _with_words(options, checkpoint)
    if checkpoint and not any(
        key.startswith(("backbone.", "sem_seg_head.")) for key in checkpoint.tensors
    ):
        return _sazs(options, checkpoint)
    return _zegformer(options, checkpoint)


def _packaged(options: Options) -> str | None:
    """The network that comes with this software, where the options name no other."""
    if options.config or "MODEL.WEIGHTS" in options.overrides[::2]:
        return None
    log.info("no --checkpoint: the network that comes with this software, %s", PACKAGED.name)
    return str(PACKAGED)


def _with_words(options: Options, checkpoint: Checkpoint) -> Model:
    """A SAZS network whose checkpoint carries the text embeddings that it can look for."""
    from eigen.device import torch_device
    from eval.predict import with_sazs
    from eval.sazs.segmenter import SazsSegmenter
    from eval.sazs.words import texts_of
    from models.sazs.load import load

    if options.config:
        raise SettingError(
            f"{options.config}: a configuration of ZegFormer, but the checkpoint is of SAZS"
        )
    device = torch_device(_device_of(options.overrides))
    default = from_names(checkpoint.recipe["trained"], name="the checkpoint's classes")
    words = _listed(options.classes, default)
    texts_of(words.names, checkpoint)  # raises now where a word is not known
    model, recipe = load(checkpoint, arch=options.arch)
    found = SazsSegmenter(model.to(device), side=recipe["input_side"] or None)

    def predictor(own: Vocabulary) -> Predict:
        return with_sazs(found, texts_of(own.names, checkpoint), threshold=options.threshold)

    return Model("sazs", str(checkpoint.path), words, None, predictor)


def split(words: str) -> list[str]:
    """The names in "cat, sofa"; empty ones left out, each once."""
    return list(dict.fromkeys(filter(None, (word.strip() for word in words.split(",")))))


def _listed(classes: str | tuple[str, ...] | None, default: Vocabulary) -> Vocabulary:
    """The classes of `Options.classes`, all seen; None means the default."""
    if classes is None:
        return default
    if isinstance(classes, tuple):
        return from_names(classes, name="classes")
    path = Path(classes).expanduser()
    if path.suffix in (".txt", ".json"):
        return from_file(path)
    return from_names(split(classes), name="--classes")


def _of_table(rows: int, table: str, *known: Vocabulary) -> Vocabulary:
    """The vocabulary whose classes the rows of a table are."""
    for vocabulary in known:
        if len(vocabulary) == rows:
            return vocabulary
    expected = " or ".join(dict.fromkeys(f"{len(v)} ({v.name})" for v in known))
    raise SettingError(f"{table}: expected one row per class, {expected}; found {rows}")


def _rows(words: Vocabulary, table: str, known: Vocabulary, *, given: bool = True) -> list[int]:
    """The rows of words in a table of the classes of `known`; `given`: by an option."""
    found = [place(name, known) for name in words.names]
    strange = [name for name, row in zip(words.names, found, strict=True) if row is None]
    if strange:
        some = ", ".join(known.names[:_SHOWN])
        raise SettingError(
            f"{', '.join(strange[:5])}: no text embedding in {Path(table).name}, which has "
            f"{len(known)} names ({some}{', ...' if len(known) > _SHOWN else ''}); "
            + (
                "other words need CLIP: leave the embeddings out"
                if given
                else "the network was trained with these embeddings; choose among the names, or "
                "give a table of the same kind as embeddings"
            )
        )
    return [row for row in found if row is not None]


def _settings(
    options: Options, checkpoint: Checkpoint | None, trained: TrainedClasses | None
) -> ZegFormerSettings:
    """ZegFormer's settings: of the file, of the checkpoint's recipe, or the default."""
    from models.zegformer.config import from_recipe, load, override

    overrides = list(options.overrides)
    if options.checkpoint:
        overrides += ["MODEL.WEIGHTS", options.checkpoint]
    if options.embeddings:
        overrides += ["MODEL.TEXT_EMBEDDINGS", options.embeddings]
    recorded = checkpoint.recipe.get("config") if checkpoint else None
    if not recorded or options.config:
        default = Path(__file__).parents[1] / DEFAULT_CONFIG
        settings = load(options.config or default, overrides)
    else:
        if trained is not None:  # the checkpoint holds what these files held
            recorded = {k: v for k, v in recorded.items() if k not in _FILES_OF_CLASSES}
        settings = override(from_recipe(recorded), overrides)
    if not settings.DATASETS.TEST:
        raise SettingError(
            "DATASETS.TEST names no data set, whose classes would be known; name one"
        )
    return settings


def _zegformer(options: Options, checkpoint: Checkpoint | None) -> Model:
    from data.text.embeddings import load_embeddings
    from eigen.device import torch_device
    from eval.zegformer.build import network, scoring
    from eval.zegformer.classes import (
        NamedClasses,
        clip_source,
        named_classes,
        text_dim,
        trained_classes,
    )
    from models.zegformer.settings import PER_PIXEL

    record = trained_classes(checkpoint)
    settings = _settings(options, checkpoint, record)
    if not settings.MODEL.WEIGHTS:
        raise SettingError("no weights: give --checkpoint FILE, or --opts MODEL.WEIGHTS FILE")
    if checkpoint is None and Path(settings.MODEL.WEIGHTS).is_file():
        checkpoint = weight_files.read(settings.MODEL.WEIGHTS)
        record = trained_classes(checkpoint)
    full = record.full if record is not None else None
    default = named_classes(settings, settings.DATASETS.TEST[0], "TEST", full=full)
    words = _listed(options.classes, default.vocabulary)
    table = settings.MODEL.TEXT_EMBEDDINGS
    known, source = default.full, ""
    if table:
        known, source = _of_table(len(load_embeddings(table)), table, words, known), table
    elif record is not None and record.table is not None:
        known, source = record.full, str(settings.MODEL.WEIGHTS)
    dim = text_dim(settings, record)
    model = network(settings, dim, trained=True, checkpoint=checkpoint)
    model = model.to(torch_device(settings.MODEL.DEVICE))
    looks_at_crops = (
        settings.MODEL.META_ARCHITECTURE != PER_PIXEL and scoring(settings).mode != "query"
    )
    if not source or looks_at_crops:
        clip_source(settings).path()  # raises now where it is not available
    clip: list[Any] = []  # loaded with the first words that need it

    @functools.lru_cache(maxsize=4)
    def predictor(own: Vocabulary) -> Predict:
        if source:
            classes = NamedClasses(own, known, _rows(own, source, known, given=bool(table)))
        else:
            classes = NamedClasses(own, own, list(range(len(own))))
        return _zegformer_predictor(settings, model, classes, record, clip, options.threshold)

    if record is not None:
        trained = from_names(record.trained, name="the checkpoint's classes")
    else:
        trained = named_classes(settings, settings.DATASETS.TRAIN[0], "TRAIN").vocabulary
    return Model("zegformer", str(settings.MODEL.WEIGHTS), words, trained, predictor)


def _zegformer_predictor(
    settings: ZegFormerSettings,
    model: Any,
    classes: NamedClasses,
    record: TrainedClasses | None,
    clip: list[Any],
    threshold: float,
) -> Predict:
    from eval.predict import with_zegformer
    from eval.zegformer.build import segmenter
    from eval.zegformer.segmenter import Segmenter

    built = segmenter(settings, model, classes, trained=record, clip=clip[0] if clip else None)
    if isinstance(built, Segmenter) and built.clip is not None:
        clip[:] = [built.clip]
    return with_zegformer(
        built,
        short=settings.INPUT.MIN_SIZE_TEST,
        longest=settings.INPUT.MAX_SIZE_TEST,
        threshold=threshold,
    )


def _sazs(options: Options, checkpoint: Checkpoint) -> Model:
    import torch

    from data.text.embeddings import load_embeddings
    from data.text.vocabulary import fewshot
    from eigen.device import torch_device
    from eval.predict import with_sazs
    from eval.sazs.segmenter import SazsSegmenter
    from models.clip.weights import ClipSource
    from models.sazs.load import load
    from models.sazs.texts import open_texts

    if options.config:
        raise SettingError(
            f"{options.config}: a configuration of ZegFormer, but the checkpoint is of SAZS"
        )
    where = _device_of(options.overrides)
    model, recipe = load(checkpoint, arch=options.arch)
    stored = torch.tensor(recipe["texts"]) if recipe.get("texts") else None
    default = (
        from_names(recipe["names"], name="the checkpoint's classes")
        if recipe.get("names")
        else fewshot(recipe.get("benchmark", "pascal"), spelling=recipe.get("mode", "corrected"))
    )
    words = _listed(options.classes, default)
    table = options.embeddings
    known = default
    if not table and (stored is None or _unknown(words, default)):
        ClipSource(CLIP).path()  # raises now where it is not available
    elif table:
        rows = len(load_embeddings(table))
        with_others = [v for v in (words, default) if len(v) + 1 == rows]
        known = with_others[0] if with_others else _of_table(rows, table, words, default)
    found = SazsSegmenter(model.to(torch_device(where)), side=options.input_side or None)

    @functools.lru_cache(maxsize=4)
    def predictor(own: Vocabulary) -> Predict:
        if OTHERS in own.names:
            raise SettingError(f"{OTHERS!r} is what SAZS calls all the rest; choose another word")
        if table:
            rows = [0, *(1 + row for row in _rows(own, table, known))]
            texts = open_texts(table, known)[rows]
        elif stored is not None and not _unknown(own, default):
            places = [place(name, default) for name in own.names]
            texts = stored[[0, *(1 + row for row in places if row is not None)]]
        else:
            texts = open_texts(CLIP, own)
        return with_sazs(found, texts, threshold=options.threshold)

    return Model("sazs", str(checkpoint.path), words, None, predictor)


def _unknown(words: Vocabulary, known: Vocabulary) -> list[str]:
    return [name for name in words.names if place(name, known) is None]


def _device_of(opts: Sequence[str]) -> str:
    """SAZS's only setting among ZegFormer's: the device."""
    if not opts:
        return "auto"
    if len(opts) != 2 or opts[0] != "MODEL.DEVICE":
        raise SettingError(f"{' '.join(opts)}: of SAZS only MODEL.DEVICE can be set")
    return opts[1]
