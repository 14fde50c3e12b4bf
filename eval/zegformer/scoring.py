"""Score labelled images: GZS3 or ZS3 figures, and the predictions in the published format.

Images are read, prepared and predicted a few at a time, so that CLIP's crops of several share its
batches; memory does not grow with their number. An image that cannot be read, or whose label does
not fit it (`data.zegformer.sets.read_pair`), is left out, counted and named.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from data.errors import ImageError
from data.files import atomic_path
from data.progress import progress
from data.text.vocabulary import Vocabulary
from data.zegformer.sets import Pair, read_pair
from data.zegformer.transforms import resize_label, test_image
from eigen.store.maps import EigenFolder, EigenMaps
from eval import boundary
from eval.zegformer import metrics as gzs_metrics

log = logging.getLogger(__name__)


class Predicts(Protocol):
    """What is scored: (3, H, W) uint8 images and output sizes -> label maps (H, W) int64.

    What takes part with eigenvectors has a third parameter for them.
    """

    @property
    def predict(self) -> Callable[..., list[Tensor]]: ...


@dataclass
class Score:
    """Counts over images; those of parts of a data set add up.

    Attributes
    ----------
    confusion : (K + 1, K + 1) int64, see `gzs_metrics`
    outlines : (4,) int64, see `boundary.matches`, summed over images and classes
    photos : int, scored
    unread : (id, reason) of images that could not be read
    """

    confusion: np.ndarray
    outlines: np.ndarray = field(default_factory=lambda: np.zeros(4, np.int64))
    photos: int = 0
    unread: list[tuple[str, str]] = field(default_factory=list)

    def figures(self, vocabulary: Vocabulary) -> dict[str, float]:
        """All figures in percent; see `gzs_metrics.figures`."""
        # Where all classes are unseen (ZS3) there is nothing to tell apart.
        unseen = vocabulary.unseen_ids if vocabulary.seen_ids else []
        found = gzs_metrics.figures(self.confusion, unseen)
        if self.outlines.any():
            found["boundary_F"] = 100 * boundary.f_measure(self.outlines)
        return found


def score(
    model: Predicts,
    pairs: Sequence[Pair],
    vocabulary: Vocabulary,
    *,
    short: int,
    longest: int,
    together: int = 4,
    boundaries: bool = False,
    predictions: Path | None = None,
    eigen: EigenFolder | None = None,
    on_photo: Callable[[Pair, np.ndarray, np.ndarray, np.ndarray], None] | None = None,
) -> Score:
    """Predict and count labelled images.

    Parameters
    ----------
    model : anything that predicts
    pairs : images and label maps in the classes of `vocabulary`
    short, longest : sides of the network's input, in pixels
    together : images predicted at a time
    boundaries : measure outlines too
    predictions : file for the predictions as run-length codes, written as they come
    eigen : eigenvectors of the images, for models that use them
    on_photo : called with (pair, image, label, prediction)

    """
    K = len(vocabulary)
    found = Score(np.zeros((K + 1, K + 1), np.int64))
    with _Entries(predictions) as entries:
        starts = range(0, len(pairs), together)
        for start in progress(starts, len(pairs), "scoring", each=together):
            read = list(_read(pairs[start : start + together], vocabulary, found))
            if not read:
                continue
            inputs = [_tensor(test_image(i, short=short, longest=longest)) for _, i, _ in read]
            sizes = [(label.shape[0], label.shape[1]) for _, _, label in read]
            maps = [] if eigen is None else [_maps(eigen, read, inputs)]
            outputs = model.predict(inputs, sizes, *maps)
            for (pair, image, label), output in zip(read, outputs, strict=True):
                prediction = output.cpu().numpy()
                found.confusion += gzs_metrics.confusion(
                    prediction, label, K, ignore=vocabulary.ignore
                )
                if boundaries:
                    found.outlines += outline_matches(prediction, label, vocabulary.ignore)
                found.photos += 1
                if predictions is not None:
                    for entry in _run_lengths(pair, prediction, vocabulary):
                        entries.add(entry)
                if on_photo is not None:
                    on_photo(pair, image, label, prediction)
    return found


def outline_matches(prediction: np.ndarray, label: np.ndarray, ignore: int) -> np.ndarray:
    """`boundary.matches` summed over the classes that are labelled or predicted."""
    void = label == ignore
    classes = np.union1d(np.unique(label[~void]), np.unique(prediction[~void]))
    total = np.zeros(4, np.int64)
    for c in classes:
        total += boundary.matches(prediction == c, label == c, void)
    return total


def _read(
    pairs: Sequence[Pair], vocabulary: Vocabulary, found: Score
) -> Iterator[tuple[Pair, np.ndarray, np.ndarray]]:
    for pair in pairs:
        try:
            image, label = read_pair(pair, classes=len(vocabulary), ignore=vocabulary.ignore)
            yield pair, image, label
        except ImageError as error:
            log.warning("%s: left out: %s", pair.id, error)
            found.unread.append((pair.id, str(error)))


def _maps(
    eigen: EigenFolder, read: Sequence[tuple[Pair, np.ndarray, np.ndarray]], inputs: list[Tensor]
) -> list[EigenMaps]:
    """Eigenvectors at the size of the network's input; published masks have the image's."""
    found = []
    for (pair, photo, _), image in zip(read, inputs, strict=True):
        own = eigen.maps(pair.id, (photo.shape[0], photo.shape[1]))
        size = (image.shape[1], image.shape[2])
        masks = np.stack([resize_label(mask, size) for mask in own.masks])
        planes = np.stack([cv2.resize(plane, size[::-1]) for plane in own.planes])
        found.append(EigenMaps(masks, planes, own.eigenvalues))
    return found


def _tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def join_predictions(parts: Sequence[Path], path: Path) -> None:
    """Predictions of consecutive images, one file a process, as one file; the parts go."""
    with _Entries(path) as whole:
        for part in parts:
            with part.open() as file:
                for line in file:
                    entry = line.strip().removesuffix(",")
                    if entry not in ("[", "]", "[]"):
                        whole.add(entry)
    for part in parts:
        part.unlink()


class _Entries:
    """Writes a JSON list one entry, and one line, at a time; whole or absent. None: nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._context: Any = None
        self._file: Any = None
        self._separator = "[\n"

    def __enter__(self) -> _Entries:
        if self._path is not None:
            self._context = atomic_path(self._path)
            self._file = self._context.__enter__().open("w")
        return self

    def add(self, entry: str) -> None:
        if self._file is not None:
            self._file.write(self._separator + entry)
            self._separator = ",\n"

    def __exit__(self, *error: Any) -> None:
        if self._file is not None:
            self._file.write("\n]\n" if self._separator != "[\n" else "[]\n")
            self._file.close()
            self._context.__exit__(*error)


def _run_lengths(pair: Pair, prediction: np.ndarray, vocabulary: Vocabulary) -> Iterator[str]:
    """The published entry of each class of a prediction."""
    from pycocotools import mask as run_lengths

    for c in np.unique(prediction):
        code = run_lengths.encode(np.asfortranarray(prediction == c))
        yield json.dumps({
            "file_name": str(pair.image),
            "category_id": vocabulary.label_ids[c],
            "segmentation": {"size": code["size"], "counts": code["counts"].decode("ascii")},
        })  # fmt: skip
