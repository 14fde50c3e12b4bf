"""A checkpoint of ZegFormer or SAZS, asked about photos in words that are chosen at the time.

Text embeddings of the words come from CLIP, or from a table. A table has the rows of `--classes`,
or else those of the vocabulary that the configuration names, and knows no other words.
"""

from __future__ import annotations

import argparse
import functools
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data import weight_files
from data.errors import EigenshapeError, SettingError
from data.text.vocabulary import OTHERS, Vocabulary, from_file, from_names
from data.weight_files import Checkpoint

if TYPE_CHECKING:
    from eval.predict import Predict
    from eval.zegformer.classes import NamedClasses, TrainedClasses
    from models.zegformer.settings import ZegFormerSettings

DEFAULT_CONFIG = "configs/coco-stuff/zegformer_R50_bs32_60k_vit16_coco-stuff_gzss_eval.yaml"
CLIP = "ViT-B/32"  # whose text embeddings SAZS is trained with
_SHOWN = 24  # names in a message
_FILES_OF_CLASSES = {
    "MODEL.TEXT_EMBEDDINGS",
    "MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON",
    "MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON",
}

log = logging.getLogger("demo")


@dataclass(frozen=True)
class Namer:
    """A network with its weights, and what it may be asked.

    Attributes
    ----------
    words : looked for where nothing else is asked
    trained : names that had masks in training; None where nothing depends on it
    predictor : what predicts photos in the words of a vocabulary
    """

    words: Vocabulary
    trained: Vocabulary | None
    predictor: Callable[[Vocabulary], Predict]

    def asked(self, names: Sequence[str], seen: Sequence[str] | None = None) -> Vocabulary:
        """The classes of these names; those in `seen` (default: in `trained`) count as seen."""
        own = from_names(names, name="the words")
        if seen is not None:
            known = {own.index(name) for name in seen}
        elif self.trained is not None:
            known = {c for c, name in enumerate(names) if place(name, self.trained) is not None}
        else:
            return own
        return own.holding_out(set(range(len(own))) - known)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that say which network, and what it may be asked."""
    parser.add_argument("--checkpoint", help="weights of ZegFormer or SAZS; else MODEL.WEIGHTS")
    parser.add_argument(
        "--config-file",
        help=f"ZegFormer's; by default what the checkpoint was trained with, else {DEFAULT_CONFIG}",
    )
    parser.add_argument("--classes", help='"cat, sofa", or a file of names (.txt, .json)')
    parser.add_argument(
        "--seen", help="which of --classes had masks in training; by default found by name"
    )
    parser.add_argument("--embeddings", help="table of text embeddings (.npy) instead of CLIP")
    parser.add_argument("--arch", help="network of a SAZS checkpoint that does not say it")
    parser.add_argument(
        "--input-side", type=int, default=512, help="SAZS: square of the photo; 0: its own size"
    )
    parser.add_argument(
        "--confidence-threshold", type=float, default=-float("inf"), help="unnamed below this score"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ..., last")


def is_foreseen(error: Exception) -> bool:
    """Is it an error that a user can mend, so that its message is enough?"""
    return isinstance(error, (EigenshapeError, OSError))


def exit_code(work: Callable[[], None], *, debug: bool) -> int:
    """0 where `work` ends well, 1 where an error ends it that a user can mend, said in one line.

    Other errors pass, and with `debug` all.
    """
    try:
        work()
    except Exception as error:
        if debug or not is_foreseen(error):
            raise
        log.error("Error: %s", error)
        return 1
    return 0


def log_to_terminal() -> None:
    """Say on the terminal what is done, without the steps of others."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for name in ("PIL", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)


def split(words: str) -> list[str]:
    """The names in "cat, sofa"; empty ones left out, each once."""
    return list(dict.fromkeys(filter(None, (word.strip() for word in words.split(",")))))


def place(name: str, vocabulary: Vocabulary) -> int | None:
    """Class id of a name or synonym, whatever its capitals and spaces; None where there is none."""
    ids = range(len(vocabulary))
    whole = {_plain(vocabulary.names[c]): c for c in reversed(ids)}
    parts = {_plain(word): c for c in reversed(ids) for word in vocabulary.synonyms(c)}
    return (parts | whole).get(_plain(name))


def _plain(name: str) -> str:
    # Data sets disagree on "tv monitor" and "tvmonitor".
    return "".join(name.casefold().split())


def open_namer(args: argparse.Namespace) -> Namer:
    """Load the network that the options name.

    Raises
    ------
    SettingError
        No weights are named, or a table fits no vocabulary. Errors of the configuration, the
        checkpoint and the vocabulary come from where these are read.
    """
    checkpoint = weight_files.read(args.checkpoint) if args.checkpoint else None
    if checkpoint and not any(
        key.startswith(("backbone.", "sem_seg_head.")) for key in checkpoint.tensors
    ):
        return _sazs(args, checkpoint)
    return _zegformer(args, checkpoint)


def _listed(classes: str | None, default: Vocabulary) -> Vocabulary:
    """The classes of `--classes`, all seen; none means the default."""
    if classes is None:
        return default
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
    raise SettingError(f"{table}: expected one row a class, {expected}; found {rows}")


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
                "other words need CLIP: leave --embeddings out"
                if given
                else "the network was trained with these embeddings; choose among the names, or "
                "give a table of the same kind with --embeddings"
            )
        )
    return [row for row in found if row is not None]


def _settings(
    args: argparse.Namespace, checkpoint: Checkpoint | None, trained: TrainedClasses | None
) -> ZegFormerSettings:
    """ZegFormer's settings: of the file, of the checkpoint's recipe, or the default."""
    from models.zegformer.config import from_recipe, load, override

    overrides = list(args.opts)
    if args.checkpoint:
        overrides += ["MODEL.WEIGHTS", args.checkpoint]
    if args.embeddings:
        overrides += ["MODEL.TEXT_EMBEDDINGS", args.embeddings]
    recorded = checkpoint.recipe.get("config") if checkpoint else None
    if not recorded or args.config_file:
        default = Path(__file__).parents[1] / DEFAULT_CONFIG
        settings = load(args.config_file or default, overrides)
    else:
        if trained is not None:  # the checkpoint holds what these files held
            recorded = {k: v for k, v in recorded.items() if k not in _FILES_OF_CLASSES}
        settings = override(from_recipe(recorded), overrides)
    if not settings.DATASETS.TEST:
        raise SettingError(
            "DATASETS.TEST names no data set, whose classes would be known; name one"
        )
    return settings


def _zegformer(args: argparse.Namespace, checkpoint: Checkpoint | None) -> Namer:
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
    settings = _settings(args, checkpoint, record)
    if not settings.MODEL.WEIGHTS:
        raise SettingError("no weights: give --checkpoint FILE, or --opts MODEL.WEIGHTS FILE")
    if checkpoint is None and Path(settings.MODEL.WEIGHTS).is_file():
        checkpoint = weight_files.read(settings.MODEL.WEIGHTS)
        record = trained_classes(checkpoint)
    full = record.full if record is not None else None
    default = named_classes(settings, settings.DATASETS.TEST[0], "TEST", full=full)
    words = _listed(args.classes, default.vocabulary)
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
        return _zegformer_predictor(
            settings, model, classes, record, clip, args.confidence_threshold
        )

    if record is not None:
        trained = from_names(record.trained, name="the checkpoint's classes")
    else:
        trained = named_classes(settings, settings.DATASETS.TRAIN[0], "TRAIN").vocabulary
    return Namer(words, trained, predictor)


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


def _sazs(args: argparse.Namespace, checkpoint: Checkpoint) -> Namer:
    import torch

    from data.text.embeddings import load_embeddings
    from data.text.vocabulary import fewshot
    from eigen.device import torch_device
    from eval.predict import with_sazs
    from eval.sazs.segmenter import SazsSegmenter
    from models.clip.weights import ClipSource
    from models.sazs.load import load
    from models.sazs.texts import open_texts

    if args.config_file or args.seen:
        raise SettingError(
            "--config-file and --seen are ZegFormer's, but the checkpoint is of SAZS"
        )
    where = _device_of(args.opts)
    model, recipe = load(checkpoint, arch=args.arch)
    stored = torch.tensor(recipe["texts"]) if recipe.get("texts") else None
    default = (
        from_names(recipe["names"], name="the checkpoint's classes")
        if recipe.get("names")
        else fewshot(recipe.get("benchmark", "pascal"), spelling=recipe.get("mode", "corrected"))
    )
    words = _listed(args.classes, default)
    table = args.embeddings
    known = default
    if not table and (stored is None or _unknown(words, default)):
        ClipSource(CLIP).path()  # absent: say so now
    elif table:
        rows = len(load_embeddings(table))
        with_others = [v for v in (words, default) if len(v) + 1 == rows]
        known = with_others[0] if with_others else _of_table(rows, table, words, default)
    found = SazsSegmenter(model.to(torch_device(where)), side=args.input_side or None)

    @functools.lru_cache(maxsize=4)
    def predictor(own: Vocabulary) -> Predict:
        if OTHERS in own.names:
            raise SettingError(f"{OTHERS!r} is what SAZS calls all the rest; choose another word")
        if table:
            rows = [0, *(1 + row for row in _rows(own, table, known))]
            texts = open_texts(table, known)[rows]
        elif stored is not None and not _unknown(own, default):
            texts = stored[[0, *(1 + place(name, default) for name in own.names)]]
        else:
            texts = open_texts(CLIP, own)
        return with_sazs(found, texts, threshold=args.confidence_threshold)

    return Namer(words, None, predictor)


def _unknown(words: Vocabulary, known: Vocabulary) -> list[str]:
    return [name for name in words.names if place(name, known) is None]


def _device_of(opts: Sequence[str]) -> str:
    """SAZS's only setting among ZegFormer's: the device."""
    if not opts:
        return "auto"
    if len(opts) != 2 or opts[0] != "MODEL.DEVICE":
        raise SettingError(f"--opts {' '.join(opts)}: with SAZS only MODEL.DEVICE can be set")
    return opts[1]
