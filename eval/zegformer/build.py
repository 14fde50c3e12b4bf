"""ZegFormer from its configuration: classes, embeddings, networks and what predicts.

The configuration is the flat mapping of `models.zegformer.config`, with the keys of
`models/zegformer/keys.yaml`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from data.errors import SettingError
from data.text.embeddings import load_embeddings
from data.text.vocabulary import Vocabulary, builtin, from_file
from data.weight_files import Checkpoint
from data.zegformer.sets import labelled_set
from eval.zegformer.per_pixel import PixelSegmenter
from eval.zegformer.scoring import Predicts
from eval.zegformer.segmenter import Classes, Scoring, Segmenter
from models.clip.clip import CLIP
from models.clip.prompts import templates
from models.clip.text import class_embeddings
from models.clip.weights import PUBLISHED, ClipSource, to_half
from models.zegformer import config as detectron_config
from models.zegformer import weights as zegformer_weights
from models.zegformer.config import Config, Keys
from models.zegformer.network import ZegFormer
from models.zegformer.per_pixel import PerPixelBaseline
from models.zegformer.resnet import BLOCKS, NORMS

log = logging.getLogger(__name__)

KEYS = Keys.read(Path(detectron_config.__file__).with_name("keys.yaml"))
BASELINE = "SemanticSegmentorGzero"
IMAGES_PER_GPU = 4  # published: 32 on 8 GPUs

CLIP_DIM = 512  # of the published ViT-B/16 and ViT-B/32

_CHOICES: dict[str, tuple[object, ...]] = {
    "MODEL.META_ARCHITECTURE": ("MaskFormer", BASELINE),
    "MODEL.RESNETS.DEPTH": tuple(BLOCKS),
    "MODEL.RESNETS.NORM": tuple(NORMS),
    "MODEL.RESNETS.RES5_DILATION": (1, 2),
}
_AT_LEAST_ONE = (
    "INPUT.MIN_SIZE_TEST",
    "INPUT.MAX_SIZE_TEST",
    *(
        f"MODEL.MASK_FORMER.{key}"
        for key in ("NUM_OBJECT_QUERIES", "NHEADS", "HIDDEN_DIM", "DEC_LAYERS", "DIM_FEEDFORWARD")
    ),
)
_PUBLISHED_LISTS = ("_classnames.json", "_pure_class.json")


def configuration(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read and check a configuration.

    Raises
    ------
    SettingError
    """
    return checked(detectron_config.load(path, overrides, KEYS))


def checked(config: Config) -> Config:
    """The configuration, if its values can be built.

    Raises
    ------
    SettingError
    """
    crop, side = max(config["INPUT.CROP.SIZE"]), config["INPUT.SIZE_DIVISIBILITY"]
    if 0 < side < crop:
        raise SettingError(
            f"INPUT.CROP.SIZE {crop} exceeds INPUT.SIZE_DIVISIBILITY {side}: crops would be cut "
            "again; make them equal"
        )
    for key, known in _CHOICES.items():
        if config[key] not in known:
            raise SettingError(f"{key} {config[key]!r}: choose {', '.join(map(str, known))}")
    for key in _AT_LEAST_ONE:
        if config[key] < 1:
            raise SettingError(f"{key}: expected at least 1, found {config[key]}")
    width, heads = (config[f"MODEL.MASK_FORMER.{key}"] for key in ("HIDDEN_DIM", "NHEADS"))
    if width % heads:
        raise SettingError(f"MODEL.MASK_FORMER.NHEADS {heads}: expected a divisor of {width}")
    return config


def fitted(config: Config, gpus: int) -> Config:
    """The configuration for fewer GPUs, by a rule of thumb: 4 images a GPU, the rate in proportion
    to the batch, iterations and periods in inverse proportion, so that as many images are seen.
    """
    share = min(1.0, IMAGES_PER_GPU * gpus / config["SOLVER.IMS_PER_BATCH"])
    changed = {
        "SOLVER.IMS_PER_BATCH": round(config["SOLVER.IMS_PER_BATCH"] * share),
        "SOLVER.BASE_LR": config["SOLVER.BASE_LR"] * share,
        **{
            key: round(config[key] / share)
            for key in ("SOLVER.MAX_ITER", "SOLVER.CHECKPOINT_PERIOD", "TEST.EVAL_PERIOD")
        },
    }
    for key, value in changed.items():
        log.info("for %d GPUs: %s %s -> %s", gpus, key, config[key], value)
    return config | changed


@dataclass(frozen=True)
class NamedClasses:
    """The classes of one data set in one configuration.

    vocabulary : its classes, numbered as its labels. full : the vocabulary they are part of, and
    ids : where. A table of text embeddings has the rows of `full`.
    """

    vocabulary: Vocabulary
    full: Vocabulary
    ids: list[int]


def named_classes(config: Config, set_name: str, role: str) -> NamedClasses:
    """The classes of a data set: its own, or those of {role}_CLASS_JSON ("TRAIN" or "TEST").

    Raises
    ------
    SettingError
        NUM_CLASSES or IGNORE_VALUE contradict them.
    VocabularyError
        The file is missing, or has another number of names than the labels have classes.
    """
    entry = labelled_set(set_name)
    full = builtin(entry.vocabulary)
    path = config[f"MODEL.SEM_SEG_HEAD.{role}_CLASS_JSON"]
    # Published configurations name lists that the built-in vocabularies hold.
    if path and (Path(path).is_file() or not path.endswith(_PUBLISHED_LISTS)):
        given = from_file(path)
        if len(given) == len(entry.classes) != len(full):
            return NamedClasses(given, given, list(range(len(given))))
        full.check_length(len(given), path)
        full = given
    ids = {"seen": full.seen_ids, "unseen": full.unseen_ids, "all": list(range(len(full)))}
    own = NamedClasses(full.subset(entry.subset), full, ids[entry.subset])
    if own.vocabulary.ignore != config["MODEL.SEM_SEG_HEAD.IGNORE_VALUE"] and role == "TEST":
        raise SettingError(
            f"MODEL.SEM_SEG_HEAD.IGNORE_VALUE is {config['MODEL.SEM_SEG_HEAD.IGNORE_VALUE']}, but "
            f"labels of {entry.name} have {own.vocabulary.ignore}"
        )
    return own


def text(config: Config, classes: NamedClasses, device: torch.device) -> Tensor:
    """Unit embeddings (K, D) of classes, from a table if one is configured, else from CLIP."""
    table = config["MODEL.TEXT_EMBEDDINGS"]
    if table:
        rows = load_embeddings(table, classes.full, normalise=True)
        return torch.from_numpy(rows[classes.ids]).to(device)
    own = templates(config["MODEL.PROMPT_ENSEMBLE_TYPE"])
    return _encoded(config, classes.vocabulary, own, device).to(device)


def clip_source(config: Config) -> ClipSource:
    """The configured CLIP. A file has to be of ViT-B/16, which ZegFormer is published with."""
    name = config["MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED"]
    return ClipSource(name, None if name in PUBLISHED else 16)


def _encoded(
    config: Config, vocabulary: Vocabulary, own_templates: Sequence[str], device: torch.device
) -> Tensor:
    """CLIP's embeddings (K, D) of classes. As in OpenAI's code, a CPU reads texts in float32."""
    return class_embeddings(
        vocabulary.names,
        own_templates,
        clip_source(config),
        device=device,
        half=config["MODEL.CLIP_HALF"] and device.type != "cpu",
    )


def _clip(config: Config, device: torch.device) -> CLIP:
    """CLIP for crops. Processors have instructions for bfloat16, but rarely for float16."""
    half, on_cpu = config["MODEL.CLIP_HALF"], device.type == "cpu"
    clip = clip_source(config).load(device, half=half and not on_cpu)
    if half and on_cpu:
        to_half(clip.visual, torch.bfloat16)
    return clip


def text_dim(config: Config) -> int:
    """Numbers in a text embedding: those of the configured table, else 512 as of ViT-B/16."""
    table = config["MODEL.TEXT_EMBEDDINGS"]
    return load_embeddings(table).shape[1] if table else CLIP_DIM


def network(
    config: Config, text_dim: int, *, trained: bool = False, checkpoint: Checkpoint | None = None
) -> nn.Module:
    """The configured network with its configured weights, on the CPU.

    Parameters
    ----------
    trained : refuse weights that hold the trunk alone
    checkpoint : what MODEL.WEIGHTS holds, where the caller has read it already
    """
    shared = {
        "text_dim": text_dim,
        "temperature": config["MODEL.SEM_SEG_HEAD.TEMPERATURE"],
        "width": config["MODEL.SEM_SEG_HEAD.CONVS_DIM"],
        "depth": config["MODEL.RESNETS.DEPTH"],
        "norm": config["MODEL.RESNETS.NORM"],
        "res2": config["MODEL.RESNETS.RES2_OUT_CHANNELS"],
        "res5_dilation": config["MODEL.RESNETS.RES5_DILATION"],
    }
    if config["MODEL.META_ARCHITECTURE"] == BASELINE:
        model: nn.Module = PerPixelBaseline(**shared)
    else:
        model = ZegFormer(
            queries=config["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES"],
            dim=config["MODEL.MASK_FORMER.HIDDEN_DIM"],
            mask_dim=config["MODEL.SEM_SEG_HEAD.MASK_DIM"],
            heads=config["MODEL.MASK_FORMER.NHEADS"],
            layers=config["MODEL.MASK_FORMER.DEC_LAYERS"],
            feedforward=config["MODEL.MASK_FORMER.DIM_FEEDFORWARD"],
            dropout=config["MODEL.MASK_FORMER.DROPOUT"],
            unit_no_object=config["MODEL.SEM_SEG_HEAD.NO_OBJECT_UNIT"],
            **shared,
        )
    weights = config["MODEL.WEIGHTS"]
    recipe = zegformer_weights.load(model, checkpoint or weights, whole=trained)
    prompts = recipe.get("prompts")
    if prompts not in (None, config["MODEL.PROMPT_ENSEMBLE_TYPE"]):
        log.warning(
            "%s was trained with the prompts %r, MODEL.PROMPT_ENSEMBLE_TYPE is %r",
            weights,
            prompts,
            config["MODEL.PROMPT_ENSEMBLE_TYPE"],
        )
    return model


def scoring(config: Config) -> Scoring:
    """How the configuration scores."""
    mode = "image"
    if not config["MODEL.SEM_SEG_HEAD.CLIP_CLASSIFICATION"]:
        mode = "query"
    elif config["MODEL.MASK_FORMER.ENSEMBLING_ALL_CLS"]:
        mode = "ensemble_all"
    elif config["MODEL.MASK_FORMER.ENSEMBLING"]:
        mode = "ensemble"
    return Scoring(
        mode=mode,
        lam=config["MODEL.MASK_FORMER.ENSEMBLING_LAMBDA"],
        gamma=config["MODEL.MASK_FORMER.GZERO_CALIBRATE"],
        style=config["MODEL.CLIP_CLS_STYLE"],
        geometry=config["MODEL.CLIP_CROP_GEOMETRY"],
        most_no_object=config["MODEL.MASK_FORMER.MOST_NO_OBJECT"],
    )


def segmenter(
    config: Config, model: nn.Module, classes: NamedClasses, *, clip: CLIP | None = None
) -> Predicts:
    """What predicts photos in the given classes; `clip`: the configured one, if loaded already."""
    device = next(model.parameters()).device
    vocabulary = classes.vocabulary
    unseen = torch.from_numpy(~vocabulary.seen_flags)
    embeddings = text(config, classes, device)
    if isinstance(model, PerPixelBaseline):
        gamma = config["MODEL.SEM_SEG_HEAD.GZERO_CALIBRATE"]
        return PixelSegmenter(model, embeddings, ~unseen, gamma=gamma)
    how, crop_text = scoring(config), None
    if how.mode == "query":
        clip = None
    else:
        clip = clip or _clip(config, device)
        crop_text = _encoded(config, vocabulary, templates("crops"), device)
    return Segmenter(model, Classes(embeddings, unseen, crop_text), clip=clip, scoring=how)
