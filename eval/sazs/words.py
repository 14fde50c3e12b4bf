"""The words of a checkpoint that carries its own text embeddings, and the one that comes with us.

A checkpoint written by `pipeline.stages.words` has a tensor `words`, one row per name, and the
names in its recipe. What is not among them cannot be looked for without CLIP's text encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import VocabularyError
from data.weight_files import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor

PACKAGED = Path(__file__).resolve().parents[2] / "models" / "sazs" / "words.safetensors"
"""The head on EfficientNet-Lite2 described in `models/sazs/words.md`."""

_NEAR = 5


def has_words(checkpoint: Checkpoint) -> bool:
    """Does a checkpoint carry text embeddings?"""
    return "words" in checkpoint.recipe and "words" in checkpoint.tensors


def texts_of(names: Sequence[str], checkpoint: Checkpoint) -> Tensor:
    """Text embeddings of "others" (zeros) and of `names`, (1 + N, 512) float32.

    Capitals and spaces make no difference; ", " in a name separates synonyms, of which the first
    known one is taken.

    Raises
    ------
    VocabularyError
        A name that the checkpoint does not know; lists the nearest ones that it does.
    """
    import torch

    known = list(checkpoint.recipe["words"])
    row_of = {_plain(name): row for row, name in reversed(list(enumerate(known)))}
    rows = []
    for name in names:
        row = next((row_of[p] for p in map(_plain, name.split(",")) if p in row_of), None)
        if row is None:
            raise VocabularyError(_unknown(name, known, checkpoint.path))
        rows.append(row)
    table = checkpoint.tensors["words"].float()
    return torch.cat([torch.zeros_like(table[:1]), table[rows]])


def _plain(name: str) -> str:
    return "".join(name.casefold().split())


def _unknown(name: str, known: Sequence[str], path: Path) -> str:
    by_plain = {_plain(word): word for word in known}
    near = [by_plain[p] for p in get_close_matches(_plain(name), by_plain, n=_NEAR, cutoff=0.5)]
    near += [w for w in known if _plain(name) in _plain(w) and w not in near][:_NEAR]
    return (
        f"{name!r}: {path.name} has no text embedding of it; near: "
        f"{', '.join(near) or 'none'}; it has {len(known)} names. Other words need a table "
        "of embeddings by the text encoder of CLIP ViT-B/16 (OpenAI's ViT-B-16.pt): --embeddings"
    )
