"""A trained SAZS network from a checkpoint file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from data import weight_files
from data.errors import WeightsError
from data.weight_files import Checkpoint
from models.checkpoints import SAZS, check_system, load_state
from models.sazs.networks import ARCHITECTURES, build


def load(
    source: str | Path | Checkpoint, *, arch: str | None = None
) -> tuple[nn.Module, Mapping[str, Any]]:
    """A trained network from any checkpoint file, and the recipe where the file has one.

    Parameters
    ----------
    arch : architecture of a file that does not say it itself

    Raises
    ------
    WeightsError
        Unreadable, of another architecture, or of one that neither the file nor the caller names.
    """
    file = source if isinstance(source, Checkpoint) else weight_files.read(source)
    check_system(file.tensors, file.path, SAZS)
    arch = arch or file.recipe.get("arch")
    if not arch:
        raise WeightsError(
            f"{file.path}: does not say which architecture it is; give --arch "
            f"({', '.join(ARCHITECTURES)})"
        )
    model = build(arch)
    load_state(model, file.tensors, file.path)
    return model.eval(), file.recipe
