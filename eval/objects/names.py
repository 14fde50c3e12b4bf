"""Names for masks that were found without any: what is in each, out of a list of classes.

A namer takes an image and masks and returns a score per mask and class. Three are here: a packaged
ImageNet classifier, by its class probabilities over each mask or on crops of it; CLIP's image tower
on the crops that ZegFormer's second stage takes; and any trained segmenter, by its mean scores over
a mask.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from data.errors import DatasetError, SettingError, VocabularyError
from data.mask_sources import VOID, overlapping
from eval.mask_scores import MaskScores
from eval.objects.boxes import context_box
from eval.objects.name_spec import VIEWS
from eval.zegformer.crops import crops
from models.clip.clip import CLIP
from models.imagenet import ImagenetClassifier, class_names, synsets

logger = logging.getLogger(__name__)

TEMPERATURE = 100.0
"""CLIP's logit scale, as trained."""
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class Namer(Protocol):
    """What gives names: `names`, and scores (M, C) from 0 to 1 of masks (M, H, W) of an image."""

    @property
    def names(self) -> Sequence[str]: ...

    def __call__(self, image: np.ndarray, masks: np.ndarray) -> np.ndarray: ...


def voc_synsets() -> dict[str, list[str]]:
    """The 20 classes of VOC, each with the ImageNet classes (WordNet ids) that belong to it."""
    return json.loads(resources.files("data.text").joinpath("imagenet_voc.json").read_text("utf-8"))


class ImagenetNamer:
    """Names by an ImageNet classifier; a class is the sum of the ImageNet classes in it.

    Parameters
    ----------
    classifier : ImagenetClassifier
    groups : mapping of str to list of str, optional
        Class -> WordNet ids or ImageNet names; by default each of the 1000 is a separate class.
    view : {"map", "crops"}
        One pass over the image, whose class probabilities are averaged over each mask; or two
        crops per mask, with and without its surroundings.

    Raises
    ------
    VocabularyError
        A word that is not among ImageNet's 1000 classes; names it.
    """

    def __init__(
        self,
        classifier: ImagenetClassifier,
        groups: Mapping[str, Sequence[str]] | None = None,
        *,
        view: str = "map",
    ) -> None:
        if view not in VIEWS:
            raise SettingError(f"view: expected one of {', '.join(VIEWS)}; found {view!r}")
        self._classifier, self._view = classifier, view
        index = {word: i for words in (synsets(), class_names()) for i, word in enumerate(words)}
        groups = {name: [name] for name in class_names()} if groups is None else groups
        self.names = tuple(groups)
        self.members = np.zeros((len(index), len(groups)), np.float32)[: len(synsets())]
        for column, (name, words) in enumerate(groups.items()):
            for word in words:
                if word not in index:
                    raise VocabularyError(
                        f"{name}: {word!r} is none of ImageNet's 1000 classes, which this "
                        "classifier knows; give their names or WordNet ids, or use CLIP weights"
                    )
                self.members[index[word], column] = 1

    def __call__(self, image: np.ndarray, masks: np.ndarray) -> np.ndarray:
        if self._view == "map":
            return mask_means(self._classifier.maps(image), masks) @ self.members
        views = [
            view for mask in masks for view in (image[context_box(mask)], self._alone(image, mask))
        ]
        found = self._classifier.probabilities(views) @ self.members
        return found.reshape(len(masks), 2, -1).mean(axis=1)

    def _alone(self, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The crop with everything outside the mask in the classifier's mean colour."""
        colour = np.rint(np.multiply(self._classifier.mean, 255)).astype(np.uint8)
        return np.where(mask[..., None], image, colour)[context_box(mask)]


def mask_means(planes: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Mean of planes (C, h, w) over masks (M, H, W) of the same image, (M, C) float32.

    Cells count by how much of them a mask covers; a mask of no pixel gets zeros.
    """
    size = planes.shape[:0:-1]
    shares = np.stack(
        [
            cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA).ravel()
            for mask in masks
        ]
    )
    area = shares.sum(axis=1, keepdims=True)
    means = shares @ planes.reshape(len(planes), -1).T / np.where(area > 0, area, 1)
    return means.astype(np.float32)


class ClipNamer:
    """Names by CLIP's image tower: ZegFormer's second stage on any masks.

    Parameters
    ----------
    clip : CLIP
    embeddings : Tensor, (C, D)
        Of the names, unit rows, in CLIP's space.
    names : sequence of str
    style : {"cropmask", "crop", "mask"}
        See `eval.zegformer.crops`.

    Raises
    ------
    VocabularyError
        Embeddings of another width or number.
    """

    def __init__(
        self, clip: CLIP, embeddings: Tensor, names: Sequence[str], *, style: str = "cropmask"
    ) -> None:
        width = clip.text_projection.shape[1]
        if embeddings.shape != (len(names), width):
            raise VocabularyError(
                f"text embeddings: expected {len(names)} rows of {width} numbers, found "
                f"{tuple(embeddings.shape)}"
            )
        self.names = tuple(names)
        self._clip, self._embeddings, self._style = clip, embeddings, style

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, masks: np.ndarray) -> np.ndarray:
        mean, std = (torch.tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))
        pixels = (torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std
        logits = torch.where(torch.from_numpy(masks), 1.0, -1.0)
        size = (image.shape[0], image.shape[1])
        side = self._clip.image_size
        views, row = crops(pixels, logits, size, side=side, style=self._style, geometry="corrected")
        device = self._embeddings.device
        found = self._clip.encode_image(views.to(device, self._clip.dtype)).float()
        found = torch.nn.functional.normalize(found, dim=-1)
        scores = (TEMPERATURE * found @ self._embeddings.float().T).softmax(dim=-1)
        return scores[row.to(device)].cpu().numpy()


class SegmenterNamer:
    """Names by a trained SAZS or ZegFormer: the mean score of each class over a mask.

    Parameters
    ----------
    scores : MaskScores
        See `eval.mask_scores`.
    names : sequence of str
        Classes in the order of the scores.
    """

    def __init__(self, scores: MaskScores, names: Sequence[str]) -> None:
        self._scores, self.names = scores, tuple(names)

    def __call__(self, image: np.ndarray, masks: np.ndarray) -> np.ndarray:
        return self._scores(image, masks)


def named_map(
    masks: np.ndarray, scores: np.ndarray, *, threshold: float = 0.0, image: str = "image"
) -> np.ndarray:
    """Label map (H, W) uint8 of the best class of each mask; 255 where no mask or score reaches.

    Where masks overlap the smallest is on top, and the overlap is logged.

    Parameters
    ----------
    masks : ndarray, shape (M, H, W), bool
    scores : ndarray, shape (M, C)
    threshold : float, 0 to 1
        Masks whose best score is lower stay without a name.
    image : str
        Name of the image in the log.

    Raises
    ------
    DatasetError
        More than 255 classes, which 8 bits cannot hold.
    """
    if scores.shape[1] > VOID:
        raise DatasetError(f"label maps of 8 bits hold 255 classes, found {scores.shape[1]}")
    shared = overlapping(masks)
    if shared:
        logger.warning(
            "%s: masks overlap in %d pixels; the smaller mask is drawn on top", image, shared
        )
    labels = np.full(masks.shape[1:], VOID, np.uint8)
    for number in np.argsort(-masks.sum(axis=(1, 2)), kind="stable"):
        if scores[number].max(initial=0.0) >= threshold:
            labels[masks[number]] = scores[number].argmax()
    return labels
