"""Text embeddings of class names from a file."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path

import numpy as np

from data.errors import VocabularyError, reason
from data.text.vocabulary import Vocabulary

log = logging.getLogger(__name__)

_LEAST_LENGTH = 1e-6  # of a centred unit row


def load_embeddings(
    path: str | Path, vocabulary: Vocabulary | None = None, *, normalise: bool = False
) -> np.ndarray:
    """Read one embedding per class as (n, d) float32, in class-id order.

    Parameters
    ----------
    path
        `.npy`, or `.npz` or `.safetensors` with one array (or one of several called `embeddings`).
    vocabulary
        The classes that the rows stand for; their number is checked.
    normalise
        Bring each row to unit length.

    Raises
    ------
    VocabularyError
        The file cannot be read, is not a table of numbers, or has the wrong number of rows.
    """
    path = Path(path)
    rows = np.asarray(_read(path))
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise VocabularyError(
            f"{path}: expected a table of numbers, one row per class; found {rows.dtype} "
            f"{rows.shape}"
        )
    if vocabulary is not None and len(rows) != len(vocabulary):
        raise VocabularyError(
            f"{path}: expected {len(vocabulary)} rows, one per class of {vocabulary.name}, "
            f"found {len(rows)}"
        )
    rows = rows.astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if bad.size:
        raise VocabularyError(
            f"{path}: expected finite rows other than zero, found {bad.size} others, the first in "
            f"row {bad[0]}"
        )
    _warn_of_equal(path, rows / lengths)
    return rows / lengths if normalise else rows


def _warn_of_equal(path: Path, rows: np.ndarray) -> None:
    """Log classes that no network can tell apart."""
    _, first, number = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    others = np.flatnonzero(first[number.ravel()] != np.arange(len(rows)))
    if others.size:
        again = int(others[0])
        log.warning(
            "%s: rows %d and %d are equal (%d such rows): their classes cannot be told apart",
            *(path, first[number.ravel()[again]], again, others.size),
        )


def centred(rows: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Unit rows (n, d) minus their mean over seen classes, normalised again; float32.

    CLIP's embeddings of class names point nearly the same way (cosines of 0.7 to 0.9 among VOC's).
    Without their common part, a network with randomly initialised weights has less to learn before
    it can distinguish them, and no unseen name is nearest to everything.

    Raises
    ------
    VocabularyError
        Fewer than two seen classes: centring one leaves nothing.
    """
    if len(vocabulary.seen_ids) < 2:
        raise VocabularyError(
            f"centring: expected two or more seen classes in {vocabulary.name}, "
            f"found {len(vocabulary.seen_ids)}"
        )
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows - rows[vocabulary.seen_ids].mean(axis=0)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if (equal := np.flatnonzero(lengths[:, 0] < _LEAST_LENGTH)).size:
        raise VocabularyError(
            f"centring: nothing is left of {vocabulary.names[equal[0]]!r}, whose embedding is the "
            f"mean of the seen classes ({equal.size} such classes)"
        )
    return (rows / lengths).astype(np.float32)


def _read(path: Path) -> np.ndarray:
    try:
        if path.suffix in (".npy", ".npz"):
            with path.open("rb") as file:
                content = np.load(file, allow_pickle=False)
                return content if path.suffix == ".npy" else _the_one(path, dict(content))
        if path.suffix == ".safetensors":
            from safetensors import SafetensorError
            from safetensors.numpy import load_file

            try:
                return _the_one(path, load_file(path))
            except SafetensorError as error:
                raise ValueError(error) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise VocabularyError(f"cannot read the embeddings {path}: {reason(error)}") from error
    raise VocabularyError(f"{path}: expected .npy, .npz or .safetensors, found {path.suffix!r}")


def _the_one(path: Path, arrays: dict[str, np.ndarray]) -> np.ndarray:
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    if "embeddings" in arrays:
        return arrays["embeddings"]
    found = ", ".join(sorted(arrays)) or "none"
    raise VocabularyError(f"{path}: expected one array, or one called embeddings; found {found}")
