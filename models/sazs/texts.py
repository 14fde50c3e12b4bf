"""Text embeddings as SAZS uses them: row 0 for "others", then one row per class, as they are.

They come from CLIP (the bare words "others" and each class name, no template, not normalised), or
from a file of embeddings. A file that has no row for "others" gets zeros there: then the margin is
the inner product with the class itself.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from data.errors import VocabularyError
from data.text.embeddings import load_embeddings
from data.text.vocabulary import OTHERS, Vocabulary
from models.clip.text import CACHE, text_embeddings
from models.clip.weights import ClipSource

DIM = 512
"""Numbers in an embedding, as of CLIP's ViT-B/32, and in a network's features of a pixel."""


def open_texts(
    source: str | Path,
    vocabulary: Vocabulary,
    *,
    half: bool = False,
    device: str | torch.device = "cpu",
    cache: Path | None = CACHE,
) -> Tensor:
    """Embeddings of "others" and the classes, (1 + classes, 512) float32, on the CPU.

    Parameters
    ----------
    source : path of a `.npy`, `.npz` or `.safetensors` table, or what `ClipSource` takes
        A table has one row per class, or one more with "others" first.
    vocabulary : the classes in class-id order
    half : encode in float16, as the published code does on a GPU

    Raises
    ------
    VocabularyError
        A table that cannot be read, or of another length or width.
    WeightsError
        CLIP's weights cannot be had.
    """
    if Path(source).suffix in (".npy", ".npz") or _is_table(Path(source)):
        return _from_table(Path(source), vocabulary)
    texts = [OTHERS, *vocabulary.names]
    return text_embeddings(texts, ClipSource(str(source)), device=device, half=half, cache=cache)


def _is_table(path: Path) -> bool:
    """Is a safetensors file a table of embeddings, and not CLIP's weights?"""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return len(list(file.keys())) == 1
    except SafetensorError:
        return False


def _from_table(path: Path, vocabulary: Vocabulary) -> Tensor:
    rows = torch.from_numpy(load_embeddings(path))
    if rows.shape[1] != DIM:
        raise VocabularyError(
            f"{path}: expected embeddings of {DIM} numbers, as of CLIP's ViT-B/32, found "
            f"{rows.shape[1]}"
        )
    if len(rows) == len(vocabulary) + 1:
        return rows
    vocabulary.check_length(len(rows), str(path))
    return torch.cat([torch.zeros_like(rows[:1]), rows])
