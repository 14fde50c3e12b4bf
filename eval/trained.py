"""Open a trained ZegFormer or SAZS, and segment an image in words chosen at the time.

Text embeddings of the words come from CLIP, from a table, or from the checkpoint that was trained
with them. A table has one row per class of `classes`, or else of the vocabulary that the
configuration names, and covers no other words.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data import weight_files
from data.arguments import check_type
from data.errors import SettingError
from data.images import as_image
from data.weight_files import Checkpoint
from eigen.pairs import Eigenpairs
from eval.model import Model, Options
from eval.sazs.words import PACKAGED, has_words

if TYPE_CHECKING:
    from data.images import ImageLike

log = logging.getLogger(__name__)


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
    check_type("path", path, (str, os.PathLike), "the path of a checkpoint")
    if not str(path):
        raise SettingError("path: expected the path of a checkpoint, found an empty text")
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
        Those of the image; they refine the masks: of SAZS by diffusion (docs/fusion.md), of
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
        raise SettingError(f"words: expected a list such as [{words!r}], found a single string")
    check_type("words", words, Iterable, 'a list such as ["cat", "sofa"]')
    words = list(words)
    for word in words:
        check_type("words", word, str, "texts")
    if eigenpairs is not None:
        check_type("eigenpairs", eigenpairs, Eigenpairs, "Eigenpairs")
    pixels = as_image(image)
    if eigenpairs is not None and tuple(eigenpairs.size) != pixels.shape[:2]:
        raise SettingError(
            f"eigenpairs: of an image of {eigenpairs.size} pixels, but this one has "
            f"{pixels.shape[:2]}"
        )
    named = model.predictor(model.vocabulary(words))(pixels, eigenpairs)
    return np.where(named.labels == IGNORE, 0, named.labels.astype(np.int32) + 1).astype(np.int32)


def open_model(options: Options) -> Model:
    """Open the network that the options name.

    Raises
    ------
    SettingError
        No weights are named, or a table fits no vocabulary. Errors of the configuration, the
        checkpoint and the vocabulary come from where these are read.
    """
    from eval.sazs.open import open_sazs
    from eval.zegformer.open import open_zegformer

    if options.checkpoint == "":
        raise SettingError("--checkpoint: expected a path, found an empty text")
    path = options.checkpoint or _packaged(options)
    checkpoint = weight_files.read(path) if path else None
    if checkpoint is None or _is_zegformer(checkpoint):
        return open_zegformer(options, checkpoint)
    return open_sazs(options, checkpoint)


def _packaged(options: Options) -> str | None:
    """The network that comes with this software, where the options name no other."""
    if options.config or "MODEL.WEIGHTS" in options.overrides[::2]:
        return None
    log.info("no --checkpoint: using the network that comes with this software, %s", PACKAGED.name)
    return str(PACKAGED)


def _is_zegformer(checkpoint: Checkpoint) -> bool:
    prefixes = ("backbone.", "sem_seg_head.")
    return not has_words(checkpoint) and any(k.startswith(prefixes) for k in checkpoint.tensors)
