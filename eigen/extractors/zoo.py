"""The vision transformers known by name: timm's name for each, and what was published with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Backbone:
    """One published network.

    Attributes
    ----------
    timm : str
        Name in timm, whose blocks do the computing.
    file : str or None
        Name of the published weights' file, for the message that says which one is missing.
    offset : float
        What the published code adds to the wanted grid before it divides by the stored one, see
        `positions.resized`.
    on_hub : bool
        Whether the weights may be fetched by name. Those behind a licence form are taken from a
        file only.
    """

    timm: str
    file: str | None = None
    offset: float = 0.0
    on_hub: bool = True


def _dino(architecture: str, file: str) -> Backbone:
    return Backbone(f"{architecture}_224.dino", file, offset=0.1)


def _dinov2(architecture: str, file: str, *, offset: float) -> Backbone:
    return Backbone(f"{architecture}_dinov2.lvd142m", file, offset=offset)


def _dinov3(architecture: str, file: str) -> Backbone:
    # The variant with biases on query, key and value: published files hold them.
    return Backbone(f"{architecture}_dinov3_qkvb.lvd1689m", file, on_hub=False)


BACKBONES = {
    "dino_vits16": _dino("vit_small_patch16", "dino_deitsmall16_pretrain.pth"),
    "dino_vits8": _dino("vit_small_patch8", "dino_deitsmall8_pretrain.pth"),
    "dino_vitb16": _dino("vit_base_patch16", "dino_vitbase16_pretrain.pth"),
    "dino_vitb8": _dino("vit_base_patch8", "dino_vitbase8_pretrain.pth"),
    "dinov2_vits14": _dinov2("vit_small_patch14", "dinov2_vits14_pretrain.pth", offset=0.1),
    "dinov2_vitb14": _dinov2("vit_base_patch14", "dinov2_vitb14_pretrain.pth", offset=0.1),
    "dinov2_vits14_reg": _dinov2(
        "vit_small_patch14_reg4", "dinov2_vits14_reg4_pretrain.pth", offset=0.0
    ),
    "dinov2_vitb14_reg": _dinov2(
        "vit_base_patch14_reg4", "dinov2_vitb14_reg4_pretrain.pth", offset=0.0
    ),
    "dinov3_vits16": _dinov3("vit_small_patch16", "dinov3_vits16_pretrain_lvd1689m-08c60483.pth"),
    "dinov3_vitb16": _dinov3("vit_base_patch16", "dinov3_vitb16_pretrain_lvd1689m-73cec8be.pth"),
}
