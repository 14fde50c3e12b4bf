"""The classes of a test or a checkpoint: names, text embeddings, and which were trained on."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.errors import SettingError, VocabularyError, WeightsError
from data.text.embeddings import load_embeddings
from data.text.vocabulary import Vocabulary, builtin, from_file
from data.weight_files import Checkpoint
from data.zegformer.sets import labelled_set
from models.clip.prompts import templates
from models.clip.text import class_embeddings
from models.clip.weights import PUBLISHED, ClipSource
from models.zegformer.settings import ZegFormerSettings

log = logging.getLogger(__name__)

CLIP_DIM = 512
"""Dimension of a text embedding of the published ViT-B/16 and ViT-B/32."""

_PUBLISHED_LISTS = ("_classnames.json", "_pure_class.json")
_RECIPE = "classes"
_SHOWN = 5


@dataclass(frozen=True)
class NamedClasses:
    """The classes of one data set.

    vocabulary : its classes, numbered as its labels
    full, ids : the vocabulary that they are part of, and their ids there
    """

    vocabulary: Vocabulary
    full: Vocabulary
    ids: list[int]


@dataclass(frozen=True)
class TrainedClasses:
    """What a checkpoint records about its classes, so that it needs no other file.

    full : all classes, seen and unseen
    trained : names of the classes that had masks in training
    table : (len(full), D) float32 text embeddings, where the network was not trained with CLIP's
    """

    full: Vocabulary
    trained: tuple[str, ...]
    table: np.ndarray | None = None

    def recipe(self) -> dict[str, Any]:
        """The entries of a checkpoint's recipe, as plain values."""
        return {_RECIPE: {"name": self.full.name, **self.content()}}

    def content(self) -> dict[str, Any]:
        """What decides the weights: not the name, which may be the path of a file."""
        content: dict[str, Any] = {
            "names": list(self.full.names),
            "unseen": self.full.unseen_ids,
            "label_ids": list(self.full.label_ids),
            "ignore": self.full.ignore,
            "trained": list(self.trained),
        }
        if self.table is not None:
            buffer = io.BytesIO()
            np.save(buffer, self.table.astype(np.float32), allow_pickle=False)
            content["table"] = base64.b64encode(buffer.getvalue()).decode("ascii")
        return content

    @classmethod
    def of_recipe(cls, recipe: Mapping[str, Any], source: str | Path) -> TrainedClasses | None:
        """What `recipe()` recorded; None in files of others and in earlier ones of ours.

        Raises
        ------
        WeightsError
            The record is damaged; names `source`.
        """
        content = recipe.get(_RECIPE)
        if content is None:
            return None
        try:
            full = Vocabulary(
                content["name"],
                tuple(content["names"]),
                frozenset(content["unseen"]),
                tuple(content["label_ids"]),
                content["ignore"],
            )
            table = content.get("table")
            if table is not None:
                table = np.load(io.BytesIO(base64.b64decode(table)), allow_pickle=False)
                full.check_length(len(table), "its text embeddings")
            return cls(full, tuple(content["trained"]), table)
        except (KeyError, TypeError, ValueError, EOFError, OSError) as error:
            raise WeightsError(
                f"{source}: the record of its classes is damaged ({error}); copy the file again"
            ) from error


def trained_classes(checkpoint: Checkpoint | None) -> TrainedClasses | None:
    """What a checkpoint records about its classes; None where it records nothing."""
    return TrainedClasses.of_recipe(checkpoint.recipe, checkpoint.path) if checkpoint else None


def named_classes(
    settings: ZegFormerSettings, set_name: str, role: str, *, full: Vocabulary | None = None
) -> NamedClasses:
    """The classes of a data set: its own, or those of {role}_CLASS_JSON ("TRAIN" or "TEST").

    Parameters
    ----------
    full : a vocabulary to use in the place of the data set's own, for example a checkpoint's

    Raises
    ------
    SettingError
        IGNORE_VALUE contradicts them.
    VocabularyError
        The file is missing, or has another number of names than the labels have classes.
    """
    entry = labelled_set(set_name)
    own = builtin(entry.vocabulary)
    if full is None or len(full) != len(own):
        full = own
    path = getattr(settings.MODEL.SEM_SEG_HEAD, f"{role}_CLASS_JSON")
    # Published configurations name lists that the built-in vocabularies hold.
    if path and (Path(path).is_file() or not path.endswith(_PUBLISHED_LISTS)):
        given = from_file(path)
        if len(given) == len(entry.classes) != len(full):
            return NamedClasses(given, given, list(range(len(given))))
        full.check_length(len(given), path)
        full = given
    ids = {"seen": full.seen_ids, "unseen": full.unseen_ids, "all": list(range(len(full)))}
    classes = NamedClasses(full.subset(entry.subset), full, ids[entry.subset])
    ignore = settings.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    if classes.vocabulary.ignore != ignore and role == "TEST":
        raise SettingError(
            f"MODEL.SEM_SEG_HEAD.IGNORE_VALUE is {ignore}, but labels of {entry.name} have "
            f"{classes.vocabulary.ignore}"
        )
    return classes


def honest_split(classes: NamedClasses, trained: TrainedClasses | None) -> NamedClasses:
    """The classes as they can be scored: none that the network was trained on counts as unseen.

    A class of another data set that shares its name with a trained one counts as seen, which is
    logged.

    Raises
    ------
    SettingError
        The network was trained on classes of this vocabulary that the test calls unseen: its split
        of the classes is another one.
    """
    if trained is None:
        return classes
    vocabulary, learnt = classes.vocabulary, {_plain(name) for name in trained.trained}
    overlap = [c for c in vocabulary.unseen_ids if _plain(vocabulary.names[c]) in learnt]
    if not overlap:
        return classes
    names = _listed([vocabulary.names[c] for c in overlap])
    if {_plain(name) for name in vocabulary.names} <= {_plain(n) for n in trained.full.names}:
        raise SettingError(
            f"{vocabulary.name}: the network was trained on classes that this test calls unseen: "
            f"{names}; score it with the classes that it was trained with "
            "(MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON), or train without these"
        )
    log.warning(
        "%s: the network was trained on classes of these names, which count as seen: %s",
        vocabulary.name,
        names,
    )
    return NamedClasses(
        vocabulary.holding_out(vocabulary.unseen - set(overlap)), classes.full, classes.ids
    )


def text(
    settings: ZegFormerSettings,
    classes: NamedClasses,
    device: torch.device,
    trained: TrainedClasses | None = None,
) -> Tensor:
    """Unit text embeddings (K, D) float32: of the configured table, the checkpoint's, or CLIP's.

    Raises
    ------
    VocabularyError
        The table is unreadable, has another number of rows, or lacks a class.
    WeightsError
        CLIP's weights are not available.
    """
    path = settings.MODEL.TEXT_EMBEDDINGS
    if path:
        rows = load_embeddings(path, classes.full, normalise=True)[classes.ids]
    elif trained is not None and trained.table is not None:
        rows = trained.table[_rows(classes, trained)]
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    else:
        prompts = templates(settings.MODEL.PROMPT_ENSEMBLE_TYPE)
        return clip_text(settings, classes.vocabulary.names, prompts, device).to(device)
    return torch.from_numpy(rows).to(device)


def _rows(classes: NamedClasses, trained: TrainedClasses) -> list[int]:
    if classes.full.names == trained.full.names:
        return classes.ids
    places = {name: row for row, name in enumerate(trained.full.names)}
    missing = [name for name in classes.vocabulary.names if name not in places]
    if missing:
        raise VocabularyError(
            f"{classes.vocabulary.name}: the checkpoint was trained with a table of text embeddings"
            f", which has no {_listed(missing)}; give a table of the same kind as "
            "MODEL.TEXT_EMBEDDINGS"
        )
    return [places[name] for name in classes.vocabulary.names]


def text_dim(settings: ZegFormerSettings, trained: TrainedClasses | None = None) -> int:
    """Dimension of the text embeddings that `text` gives."""
    path = settings.MODEL.TEXT_EMBEDDINGS
    if path:
        return load_embeddings(path).shape[1]
    if trained is not None and trained.table is not None:
        return trained.table.shape[1]
    return CLIP_DIM


def clip_source(settings: ZegFormerSettings) -> ClipSource:
    """The configured CLIP. A file has to be of ViT-B/16, which ZegFormer is published with."""
    name = settings.MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED
    return ClipSource(name, None if name in PUBLISHED else 16)


def clip_text(
    settings: ZegFormerSettings,
    names: Sequence[str],
    prompts: Sequence[str],
    device: torch.device,
) -> Tensor:
    """CLIP's embeddings (K, D) of names. As in OpenAI's code, a CPU reads texts in float32."""
    half = settings.MODEL.CLIP_HALF and device.type != "cpu"
    return class_embeddings(names, prompts, clip_source(settings), device=device, half=half)


def _plain(name: str) -> str:
    # Data sets disagree on "tv monitor" and "tvmonitor".
    return "".join(name.casefold().split())


def _listed(names: Collection[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(list(names)[:_SHOWN]) + more
