"""The state of a training run on disk: whole or absent, resumable, readable without running code.

`checkpoint_latest.pth.tar` holds what resuming needs: weights (`state_dict`), optimiser, average,
step, best score, recipe. `model_best.safetensors` and `model_final.safetensors` hold
weights alone, with the recipe as metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from data import weight_files
from data.errors import WeightsError
from data.files import atomic_path

LATEST = "checkpoint_latest.pth.tar"
BEST = "model_best.safetensors"
FINAL = "model_final.safetensors"
_SHOWN = 5


def save(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a resumable checkpoint: tensors, plain values, and mappings and lists of them.

    Raises
    ------
    OSError
        The folder cannot be written, or the disk is full.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        stream = _Recorded(file)
        try:
            torch.save(dict(content), cast(BinaryIO, stream))
        except RuntimeError as error:  # what torch makes of an error of the disk
            raise stream.error or error from error


class _Recorded:
    """A binary file that keeps its first error: torch reports another one in its place."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self._file.flush()


def load(path: str | Path, *, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Read a resumable checkpoint of the same training run.

    Parameters
    ----------
    identity : mapping
        What must be as it was (architecture, data, seed ...): part of the stored recipe.

    Raises
    ------
    WeightsError
        Unreadable, not resumable, or of a run that differs in `identity`: names each value.
    """
    content = dict(weight_files.read(path).content)
    missing = {"state_dict", "optimizer", "step", "recipe"} - content.keys()
    if missing:
        raise WeightsError(
            f"{path}: has no {', '.join(sorted(missing))}, so no training run can be resumed "
            "from it; its weights can start a new one (--pretrained)"
        )
    stored = content["recipe"]
    if not isinstance(stored, Mapping) or len(identity.keys() - stored.keys()) > len(identity) / 2:
        raise WeightsError(
            f"{path}: not of a training run of this kind: its record lacks most settings, such as "
            f"{', '.join(list(identity)[:3])}; give a checkpoint of this command, or another "
            "output folder"
        )
    differing = [
        f"{key} was {stored.get(key)!r}, is {value!r}"
        for key, value in identity.items()
        if stored.get(key) != value
    ]
    if differing:
        more = [f"and {len(differing) - _SHOWN} more"] if len(differing) > _SHOWN else []
        raise WeightsError(
            f"{path}: made by another training run ({'; '.join(differing[:_SHOWN] + more)}); give "
            "the same options, or another output folder"
        )
    return content
