"""Open a trained ZegFormer or per-pixel baseline, and name pixels in words chosen at the time."""

from __future__ import annotations

import functools
from pathlib import Path

from torch import nn

from data import weight_files
from data.errors import SettingError
from data.text.embeddings import load_embeddings
from data.text.vocabulary import Vocabulary, from_names
from data.weight_files import Checkpoint
from eigen.device import torch_device
from eval.class_names import classes_of_table, listed_classes, rows_of_table
from eval.mask_scores import MaskScores, of_zegformer
from eval.model import DEFAULT_CONFIG, Model, Options
from eval.predict import Predict, with_zegformer
from eval.zegformer.build import network, scoring, segmenter
from eval.zegformer.classes import (
    NamedClasses,
    TrainedClasses,
    clip_source,
    named_classes,
    text_dim,
    trained_classes,
)
from eval.zegformer.per_pixel import PixelSegmenter
from eval.zegformer.segmenter import Segmenter
from models.clip.clip import CLIP
from models.zegformer.config import from_recipe, load, override
from models.zegformer.settings import PER_PIXEL, ZegFormerSettings

_CLASS_FILES = {
    "MODEL.TEXT_EMBEDDINGS",
    "MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON",
    "MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON",
}


def open_zegformer(options: Options, checkpoint: Checkpoint | None) -> Model:
    """Open the ZegFormer or per-pixel baseline of a checkpoint or configuration.

    Raises
    ------
    SettingError
        No weights are named, or a table fits no vocabulary.
    VocabularyError, WeightsError
        The class names, the table or the weights cannot be read or do not match.
    """
    record = trained_classes(checkpoint)
    settings = _settings(options, checkpoint, record)
    if not settings.MODEL.WEIGHTS:
        raise SettingError("no weights: give --checkpoint FILE, or --opts MODEL.WEIGHTS FILE")
    if checkpoint is None and Path(settings.MODEL.WEIGHTS).is_file():
        checkpoint = weight_files.read(settings.MODEL.WEIGHTS)
        record = trained_classes(checkpoint)
    full = record.full if record is not None else None
    default = named_classes(settings, settings.DATASETS.TEST[0], "TEST", full=full)
    words = listed_classes(options.classes, default.vocabulary)
    # `table`: the name of what holds the embeddings of `classes`; empty where CLIP makes them.
    table, classes = settings.MODEL.TEXT_EMBEDDINGS, default.full
    if table:
        classes = classes_of_table(len(load_embeddings(table)), table, words, classes)
    elif record is not None and record.table is not None:
        table, classes = str(settings.MODEL.WEIGHTS), record.full
    model = network(settings, text_dim(settings, record), trained=True, checkpoint=checkpoint)
    model = model.to(torch_device(settings.MODEL.DEVICE))
    embeds_crops = (
        settings.MODEL.META_ARCHITECTURE != PER_PIXEL and scoring(settings).mode != "query"
    )
    if not table or embeds_crops:
        clip_source(settings).path()  # raises now where it is not available
    build = _SegmenterFactory(settings, model, record)
    replaceable = bool(settings.MODEL.TEXT_EMBEDDINGS)

    def named(vocabulary: Vocabulary) -> NamedClasses:
        if not table:
            return NamedClasses(vocabulary, vocabulary, list(range(len(vocabulary))))
        rows = rows_of_table(vocabulary, table, classes, replaceable=replaceable)
        return NamedClasses(vocabulary, classes, rows)

    @functools.lru_cache(maxsize=4)
    def predictor(vocabulary: Vocabulary) -> Predict:
        return build.predictor(named(vocabulary), options.threshold)

    def scorer(vocabulary: Vocabulary) -> MaskScores:
        return build.scorer(named(vocabulary))

    if record is not None:
        trained = from_names(record.trained, name="the checkpoint's classes")
    else:
        trained = named_classes(settings, settings.DATASETS.TRAIN[0], "TRAIN").vocabulary
    return Model("zegformer", str(settings.MODEL.WEIGHTS), words, trained, predictor, scorer)


def _settings(
    options: Options, checkpoint: Checkpoint | None, record: TrainedClasses | None
) -> ZegFormerSettings:
    """ZegFormer's settings: of the file, of the checkpoint's recipe, or the default."""
    overrides = list(options.overrides)
    if options.checkpoint:
        overrides += ["MODEL.WEIGHTS", options.checkpoint]
    if options.embeddings:
        overrides += ["MODEL.TEXT_EMBEDDINGS", options.embeddings]
    recorded = checkpoint.recipe.get("config") if checkpoint else None
    if not recorded or options.config:
        default = Path(__file__).parents[2] / DEFAULT_CONFIG
        settings = load(options.config or default, overrides)
    else:
        if record is not None:  # the checkpoint holds what these files held
            recorded = {k: v for k, v in recorded.items() if k not in _CLASS_FILES}
        settings = override(from_recipe(recorded), overrides)
    if not settings.DATASETS.TEST:
        raise SettingError("DATASETS.TEST: expected a data set whose classes to use, found none")
    return settings


class _SegmenterFactory:
    """Builds segmenters of one network for several vocabularies; CLIP is loaded once at most."""

    def __init__(
        self, settings: ZegFormerSettings, model: nn.Module, record: TrainedClasses | None
    ) -> None:
        self._settings, self._model, self._record = settings, model, record
        self._clip: CLIP | None = None

    def predictor(self, classes: NamedClasses, threshold: float) -> Predict:
        return with_zegformer(self._built(classes), **self._sides(), threshold=threshold)

    def scorer(self, classes: NamedClasses) -> MaskScores:
        return of_zegformer(self._built(classes), **self._sides())

    def _built(self, classes: NamedClasses) -> Segmenter | PixelSegmenter:
        built = segmenter(
            self._settings, self._model, classes, trained=self._record, clip=self._clip
        )
        if isinstance(built, Segmenter) and built.clip is not None:
            self._clip = built.clip
        return built

    def _sides(self) -> dict[str, int]:
        size = self._settings.INPUT
        return {"short": size.MIN_SIZE_TEST, "longest": size.MAX_SIZE_TEST}
