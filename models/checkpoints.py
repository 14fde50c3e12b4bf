"""Fill networks from weight files, and check that the weights belong to them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from data import weight_files
from data.errors import WeightsError

SAZS, ZEGFORMER = "SAZS", "ZegFormer"
_HEADS = {SAZS: "edgeocr_cls_head.", ZEGFORMER: "sem_seg_head."}

log = logging.getLogger(__name__)


class IgnoresPublishedParts(Protocol):
    """A network that reports which published entries do not affect its output."""

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


def load_weights(model: nn.Module, path: str | Path) -> LoadReport:
    """Fill `model` from a weight file.

    Every tensor of the model must be there in its shape. Entries the network does not use
    (`is_unused`) are passed over; entries nobody knows are passed over with a warning.

    Raises
    ------
    WeightsError
        Unreadable, of another architecture, or not finite: names the first tensors.
    """
    return load_state(model, weight_files.read(path).tensors, path)


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


def check_system(weights: Mapping[str, Tensor], source: str | Path, expected: str) -> None:
    """Raise `WeightsError` where weights are recognisably those of the other system."""
    for system, head in _HEADS.items():
        if system != expected and any(key.startswith(head) for key in weights):
            raise WeightsError(f"{source}: weights of {system}, expected those of {expected}")


def _listed(what: str, items: list[str]) -> str:
    if not items:
        return ""
    more = f" and {len(items) - 3} more" if len(items) > 3 else ""
    return f"{what}: {', '.join(items[:3])}{more}"
