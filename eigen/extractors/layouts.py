"""Published checkpoint layouts -> timm's keys.

Known are bare state dicts of DINO (timm's keys already), DINOv2 and DINOv3, and training
checkpoints that hold student and teacher, each wrapped for several devices or not. A layout is told
by its keys, not by a name.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

logger = logging.getLogger(__name__)

# The teacher comes first: it is what DINO's authors publish from a checkpoint of both.
WRAPPERS = ("teacher", "state_dict", "model")
# Parts that training needed and features do not: heads, the masked patch's token, constants.
UNUSED = ("head.", "fc.", "dino_head.", "ibot_head.", "mask_token", "rope_embed.")
DINOV3_NAMES = {
    "storage_tokens": "reg_token",
    ".ls1.gamma": ".gamma_1",
    ".ls2.gamma": ".gamma_2",
}

State = dict[str, torch.Tensor]


def to_timm(checkpoint: Mapping[str, Any], wanted: Mapping[str, torch.Tensor]) -> State:
    """The weights in `checkpoint` under the keys of timm's network.

    Parameters
    ----------
    checkpoint : mapping
        What the file holds.
    wanted : mapping
        State dict of the network that will take the weights; only its keys are looked at, to tell
        an absent bias that is zero by definition from one that is missing.
    """
    state = _unwrapped(checkpoint)
    state = _without_unused(state, wanted)
    if {"register_tokens", "cls_token", "pos_embed"} <= state.keys():
        return _from_dinov2_with_registers(state)
    if "storage_tokens" in state:
        return _from_dinov3(state)
    return _with_zero_biases(state, wanted)


def _unwrapped(checkpoint: Mapping[str, Any]) -> State:
    """The backbone's tensors, without the prefixes of wrappers."""
    for name in WRAPPERS:
        if isinstance(checkpoint.get(name), Mapping):
            return _unwrapped(checkpoint[name])
    state = {
        str(key).removeprefix("module."): value
        for key, value in checkpoint.items()
        if isinstance(value, torch.Tensor)
    }
    if not any(key.startswith("backbone.") for key in state):
        return state
    # What stands beside the backbone are heads; they are named with the other unused parts.
    return {key.removeprefix("backbone."): value for key, value in state.items()}


def _without_unused(state: State, wanted: Mapping[str, torch.Tensor]) -> State:
    unused = [key for key in state if key.startswith(UNUSED) and key not in wanted]
    if unused:
        logger.info("weights that features do not need, left out: %s", ", ".join(unused))
    return {key: value for key, value in state.items() if key not in unused}


def _from_dinov2_with_registers(state: State) -> State:
    """timm adds the class token's position to the token and keeps positions of patches only."""
    state = dict(state)
    positions = state.pop("pos_embed")
    state["reg_token"] = state.pop("register_tokens")
    state["cls_token"] = state["cls_token"] + positions[:, :1]
    state["pos_embed"] = positions[:, 1:]
    return state


def _from_dinov3(state: State) -> State:
    """timm keeps the three biases apart and none for the key, which the authors mask to zero."""
    converted = {}
    for published, value in state.items():
        key = published
        for old, new in DINOV3_NAMES.items():
            key = key.replace(old, new)
        if key.endswith("attn.qkv.bias"):
            stem = key.removesuffix("qkv.bias")
            converted[f"{stem}q_bias"], _, converted[f"{stem}v_bias"] = value.chunk(3)
        elif not key.endswith("attn.qkv.bias_mask"):
            converted[key] = value
    return converted


def _with_zero_biases(state: State, wanted: Mapping[str, torch.Tensor]) -> State:
    """timm's own DINOv3 files leave out the biases of query and value where they are zero."""
    if "reg_token" not in state:
        return state
    absent = {
        key: torch.zeros_like(value, device="cpu")
        for key, value in wanted.items()
        if key.endswith(("attn.q_bias", "attn.v_bias")) and key not in state
    }
    return {**state, **absent}
