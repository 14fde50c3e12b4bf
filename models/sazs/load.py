"""A trained SAZS network from a checkpoint file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from data.errors import WeightsError
from models.checkpoints import load_weights, read_recipe
from models.sazs.networks import ARCHITECTURES, build


def load(path: str | Path, *, arch: str | None = None) -> tuple[nn.Module, Mapping[str, Any]]:
    """A trained network from any checkpoint file, and the recipe where the file has one.

    Parameters
    ----------
    arch : architecture of a file that does not say it itself

    Raises
    ------
    WeightsError
        Unreadable or of another architecture.
    WeightsError
        Neither the file nor the caller names the architecture.
    """
    recipe = read_recipe(path)
    arch = arch or recipe.get("arch")
    if not arch:
        raise WeightsError(
            f"{path}: does not say which architecture it is; give --arch "
            f"({', '.join(ARCHITECTURES)})"
        )
    model = build(arch)
    load_weights(model, path)
    return model.eval(), recipe
