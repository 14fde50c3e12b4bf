"""Files of the features of a frozen backbone, which are computed once and shared by runs.

A file is named by everything that decides its content, and repeats its name inside. So features of
other weights, or of an image that has changed, are never taken for those wanted; a file that is
damaged, or was moved to another name, is refused and computed again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from data import weight_files
from data.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)


def read(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a file.

    Raises
    ------
    WeightsError
        There is none, or it is damaged or holds the features of another name; names it.
    """
    file = weight_files.read(path)
    if (found := file.recipe.get("key")) != path.stem:
        raise WeightsError(f"{path}: expected the features of {path.stem}, found those of {found}")
    return file.tensors


def read_if_whole(path: Path) -> Mapping[str, Tensor] | None:
    """As `read`; None where there is no file, or one that `read` refuses, which is logged."""
    try:
        return read(path) if path.is_file() else None
    except WeightsError as error:
        log.warning("%s; computed again", error)
        return None


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write what `read` reads."""
    weight_files.write_safetensors(path, tensors, {"key": path.stem})
