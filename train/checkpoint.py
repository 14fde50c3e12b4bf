"""The state of a training on disk: whole or absent, resumable, readable without running code.

`checkpoint_latest.pth.tar` holds what a training needs to go on: weights (`state_dict`), optimiser,
average, step, best score, recipe. `model_best.safetensors` and `model_final.safetensors` hold
weights alone, with the recipe as metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from data import weight_files
from data.errors import WeightsError
from data.files import atomic_path

LATEST = "checkpoint_latest.pth.tar"
BEST = "model_best.safetensors"
FINAL = "model_final.safetensors"


def save(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a resumable checkpoint: tensors, plain values, and mappings and lists of them.

    Raises
    ------
    OSError
        The folder cannot be written, or the disk is full.
    """
    with atomic_path(path) as temporary:
        torch.save(dict(content), temporary)


def load(path: str | Path, *, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Read a resumable checkpoint of the same training.

    Parameters
    ----------
    identity : mapping
        What must be as it was (architecture, data, seed ...): part of the stored recipe.

    Raises
    ------
    WeightsError
        Unreadable, not resumable, or of a training that differs in `identity`: names each value.
    """
    content = dict(weight_files.read(path).content)
    missing = {"state_dict", "optimizer", "step", "recipe"} - content.keys()
    if missing:
        raise WeightsError(
            f"{path}: has no {', '.join(sorted(missing))}, so a training cannot be taken up from "
            "it; its weights can start a new one (--pretrained)"
        )
    stored = content["recipe"]
    differing = [
        f"{key} was {stored.get(key)!r}, is {value!r}"
        for key, value in identity.items()
        if stored.get(key) != value
    ]
    if differing:
        raise WeightsError(
            f"{path}: made by another training ({'; '.join(differing)}); give the same options, or "
            "another output folder"
        )
    return content
