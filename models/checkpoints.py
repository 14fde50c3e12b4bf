"""Weights from files that others made: safe to read, in whichever wrapping they come.

A checkpoint is `.safetensors`, or a `torch.save` file read with `weights_only=True`: a pickle that
wants to run code is refused. The weights may lie bare or under `state_dict`, and every key may
begin with `module.` (left by multi-device wrappers).
"""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from data.errors import WeightsError

log = logging.getLogger(__name__)


class IgnoresPublishedParts(Protocol):
    """A network that knows which published entries have no effect on its output."""

    def is_unused(self, key: str) -> bool: ...


@dataclass(frozen=True)
class LoadReport:
    """What became of a checkpoint's entries.

    loaded: entries taken. unused: published entries without effect, passed over.
    unknown: entries that belong to no published layout of this network.
    """

    loaded: int
    unused: int
    unknown: tuple[str, ...]


def read_file(path: str | Path) -> dict[str, Any]:
    """Everything a checkpoint holds, tensors on the CPU.

    Raises
    ------
    WeightsError
        No such file, truncated, not a checkpoint, or a pickle that wants to run code.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such checkpoint file; give the path of an existing one")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: refused, because it holds more than tensors and plain values (reading it "
            f"could run code), or is no checkpoint at all: {_first_line(error)}. Save its state "
            "dict again with torch.save or as .safetensors"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(
            f"{path}: not a whole torch checkpoint ({_first_line(error)}); it is truncated or "
            "damaged: copy it again"
        ) from error
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: expected a mapping of tensors, found {type(content).__name__}")
    return dict(content)


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise WeightsError(
            f"{path}: not a whole safetensors file ({_first_line(error)}); copy it again"
        ) from error


def _first_line(error: Exception) -> str:
    """What went wrong, without torch's guesses at the cause that follow."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line.partition(". ")[0][:160]


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The recipe that a file of ours was trained with; empty for files of others.

    Raises
    ------
    WeightsError
        The file cannot be read.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        recipe = read_file(path).get("recipe")
        return dict(recipe) if isinstance(recipe, Mapping) else {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {}).get("recipe", "{}"))
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{path}: not a readable safetensors file ({error}); it is truncated or damaged: copy "
            "it again"
        ) from error


def state_dict(content: Mapping[str, Any], source: str | Path) -> dict[str, Tensor]:
    """The weights inside a checkpoint's content, under bare keys.

    Raises
    ------
    WeightsError
        There are no tensors where weights are expected; `source` is named.
    """
    weights = content.get("state_dict", content)
    if not isinstance(weights, Mapping) or not any(
        isinstance(value, Tensor) for value in weights.values()
    ):
        raise WeightsError(
            f"{source}: no weights found, neither at the top nor under 'state_dict'; its entries "
            f"are {sorted(map(str, content))[:8]}"
        )
    return {
        key.removeprefix("module."): value
        for key, value in weights.items()
        if isinstance(value, Tensor)
    }


def load_weights(model: nn.Module, path: str | Path) -> LoadReport:
    """Fill `model` from a checkpoint file.

    Every tensor of the model must be there in its shape. Entries the network does not use
    (`is_unused`) are passed over; entries nobody knows are passed over with a warning.

    Raises
    ------
    WeightsError
        Unreadable, of another architecture, or not finite: names the first tensors.
    """
    return load_state(model, state_dict(read_file(path), path), path)


def load_state(model: nn.Module, weights: Mapping[str, Tensor], source: str | Path) -> LoadReport:
    """As `load_weights`, for weights already read; `source` is named in errors."""
    own = model.state_dict()
    missing = [key for key in own if key not in weights and not key.endswith("num_batches_tracked")]
    misshapen = [
        f"{key} is {tuple(weights[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    if missing or misshapen:
        raise WeightsError(
            f"{source}: not a checkpoint of {type(model).__name__} as built here: "
            + "; ".join(filter(None, [_listed("missing", missing), _listed("shape", misshapen)]))
            + ". Choose the architecture that the checkpoint was trained with"
        )
    spoilt = [key for key in own if key in weights and not torch.isfinite(weights[key]).all()]
    if spoilt:
        raise WeightsError(
            f"{source}: weights that are not finite in {', '.join(spoilt[:3])} ({len(spoilt)} "
            "tensors): the file is damaged or its training had diverged; take an earlier one"
        )
    is_unused = getattr(model, "is_unused", lambda key: False)
    others = [key for key in weights if key not in own]
    unknown = tuple(key for key in others if not is_unused(key))
    if unknown:
        log.warning("%s: passed over: %s", source, _listed("unknown entries", list(unknown)))
    model.load_state_dict({key: weights[key] for key in own if key in weights}, strict=False)
    report = LoadReport(len(weights) - len(others), len(others) - len(unknown), unknown)
    log.info("%s: %d tensors loaded, %d without effect", source, report.loaded, report.unused)
    return report


def _listed(what: str, items: list[str]) -> str:
    if not items:
        return ""
    more = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return f"{what}: {', '.join(items[:3])}{more}"
