"""AdamW of ZegFormer: the backbone at a tenth of the rate, no decay of norms and queries."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

BACKBONE_MULTIPLIER = 0.1

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)


def groups(
    model: nn.Module,
    *,
    weight_decay: float = 1e-4,
    norm_decay: float = 0.0,
    embedding_decay: float = 0.0,
    backbone_multiplier: float = BACKBONE_MULTIPLIER,
) -> Iterator[tuple[str, nn.Parameter, float, float]]:
    """(key, parameter, factor of the rate, weight decay) of every trained tensor of `model`.

    Biases and the no-object embedding decay like weights; what lies in a norm or in an
    `nn.Embedding` (the queries) has its own decay.
    """
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            decay = weight_decay
            if isinstance(module, _NORMS):
                decay = norm_decay
            elif isinstance(module, nn.Embedding):
                decay = embedding_decay
            factor = backbone_multiplier if "backbone" in path else 1.0
            yield f"{path}.{name}", parameter, factor, decay


def adamw(model: nn.Module, *, rate: float = 1e-4, **decays: float) -> torch.optim.AdamW:
    """AdamW over `groups(model, **decays)`; tensors of equal settings share a group."""
    shared: dict[tuple[float, float], list[nn.Parameter]] = {}
    for _, parameter, factor, decay in groups(model, **decays):
        shared.setdefault((factor, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate * factor, "weight_decay": decay}
            for (factor, decay), parameters in shared.items()
        ],
        betas=(0.9, 0.999),
        eps=1e-8,
    )
