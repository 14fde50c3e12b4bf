"""Published checkpoint layouts -> timm's keys.

Supported are state dicts of DINO (which has timm's keys), DINOv2, DINOv3, XCiT and EfficientNet
with consecutive block numbers, and training checkpoints of student and teacher, wrapped for several
devices or not, with blocks in chunks or not. A layout is recognised by its keys, not by a name.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from typing import Any

import torch

logger = logging.getLogger(__name__)

_ANCHOR = "patch_embed.proj.weight"  # every ViT has it, so it shows the prefix of its keys
_FLAT_ANCHOR = "_conv_stem.weight"  # of EfficientNet with consecutive block numbers
_WRAPPED = re.compile(r"\b_(?:fsdp_wrapped_module|checkpoint_wrapped_module|orig_mod)\.")
_CHUNK = re.compile(r"^blocks\.\d+\.(?=\d+\.)")  # DINOv2 numbers blocks across all its chunks
# Needed for training only: heads, the masked patch's token, constants.
UNUSED = (
    *("head.", "fc.", "classifier.", "dino_head.", "ibot_head."),
    *("mask_token", "rope_embed."),
)
DINOV3_NAMES = {
    "storage_tokens": "reg_token",
    ".ls1.gamma": ".gamma_1",
    ".ls2.gamma": ".gamma_2",
}

EFFICIENTNET = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}

State = dict[str, torch.Tensor]


def to_timm(tensors: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> State:
    """The weights of a file under the keys of timm's network.

    Parameters
    ----------
    tensors : mapping
        The tensors of the file, as in `Checkpoint.tensors`.
    wanted : mapping
        State dict of the network that will take the weights; only its keys and shapes are used, to
        tell a bias that is zero by definition from one that is missing.
    """
    state = _without_unused(_backbone(tensors, wanted), wanted)
    if {"register_tokens", "cls_token", "pos_embed"} <= state.keys():
        return _from_dinov2_with_registers(state)
    if "storage_tokens" in state:
        return _from_dinov3(state)
    if _FLAT_ANCHOR in state:
        return _without_unused(_from_flat_efficientnet(state, wanted), wanted)
    if any(key.startswith("pos_embeder.") for key in state):
        return _from_xcit(state)
    return _with_zero_biases(state, wanted)


def _backbone(tensors: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> State:
    """The backbone's tensors under keys without prefix, its blocks numbered consecutively.

    Of several networks in the file the teacher is used: it is what DINO's authors publish.
    """
    state = {_WRAPPED.sub("", key): value for key, value in tensors.items()}
    anchors = (_FLAT_ANCHOR, _ANCHOR if _ANCHOR in wanted else next(iter(wanted)))
    prefixes = [
        key.removesuffix(anchor)
        for key in state
        for anchor in anchors
        if f".{key}".endswith(f".{anchor}")
    ]
    prefix = min(prefixes, key=lambda name: ("teacher" not in name, len(name)), default="")
    if prefix:
        logger.info("using the weights under %s", prefix)
    state = {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }
    if any(map(_CHUNK.match, wanted)):  # timm's EfficientNet numbers blocks within its stages
        return state
    return {_CHUNK.sub("blocks.", key): value for key, value in state.items()}


def adopt_grid(network: Any, state: State) -> None:
    """Give a network the grid that the position embedding in `state` was trained on.

    The embedding is resized for each image, from the grid of the file: resizing it here as well
    would interpolate twice. One that is not of a square grid is left for the shape check to refuse.
    """
    stored, current = state.get("pos_embed"), getattr(network, "pos_embed", None)
    if stored is None or current is None or stored.ndim != 3 or stored.shape == current.shape:
        return
    prefix = 0 if network.no_embed_class else network.num_prefix_tokens
    side = math.isqrt(max(stored.shape[1] - prefix, 0))
    if side and side**2 + prefix == stored.shape[1] and stored.shape[2] == current.shape[2]:
        network.pos_embed = torch.nn.Parameter(torch.empty_like(stored, dtype=current.dtype))
        network.patch_embed.grid_size = (side, side)


def _without_unused(state: State, wanted: Mapping[str, torch.Tensor]) -> State:
    unused = [key for key in state if key.startswith(UNUSED) and key not in wanted]
    if unused:
        logger.debug("left out weights that features do not need: %s", ", ".join(unused))
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


def _from_flat_efficientnet(state: State, wanted: Mapping[str, torch.Tensor]) -> State:
    """EfficientNet with consecutive block numbers; timm numbers stages and blocks within them."""
    blocks = sorted(
        {tuple(map(int, key.split(".")[1:3])) for key in wanted if key.startswith("blocks.")}
    )
    converted = {}
    for published, value in state.items():
        part, *rest = published.split(".")
        if part == "_blocks" and int(rest[0]) < len(blocks):
            stage, block = blocks[int(rest[0])]
            stem = f"blocks.{stage}.{block}"
            # A block without expansion has one convolution fewer, and timm numbers those present.
            names = INVERTED if f"{stem}.conv_pwl.weight" in wanted else SEPARABLE
            key = ".".join((stem, names.get(rest[1], rest[1]), *rest[2:]))
        else:
            key = ".".join((EFFICIENTNET.get(part, part), *rest))
        converted[key] = value
    return converted


def _from_xcit(state: State) -> State:
    """The authors' names; timm keeps query, key and value of class attention apart."""
    converted = {}
    for published, value in state.items():
        key = published.replace("pos_embeder.", "pos_embed.")
        if key.startswith("cls_attn_blocks.") and ".attn.qkv." in key:
            for name, part in zip("qkv", value.chunk(3), strict=True):
                converted[key.replace(".qkv.", f".{name}.")] = part
        else:
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
