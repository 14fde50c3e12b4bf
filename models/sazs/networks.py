"""SAZS networks by name, and the product with text embeddings that turns features into classes.

Each network maps normalised images (B, 3, H, W) to edge logits (B, 1, h, w) and features
(B, 512, h, w) at stride 8. A class is chosen by the inner product of a pixel's features with text
embeddings, neither normalised: there is no temperature, no bias and no prompt template.

Liu et al., "Delving into Shape-aware Zero-shot Semantic Segmentation", CVPR 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, einsum, nn
from torch.nn import functional as F

from data import weight_files
from data.errors import SettingError, WeightsError
from data.sazs.transforms import MEAN, STD
from eigen.extractors.weights import packaged
from eigen.extractors.zoo import CONVOLUTIONAL
from models.sazs.dpt import Backbone, DPTSegmenter
from models.sazs.drn import DRNSegmenter
from models.sazs.lite import BACKBONE, LiteSegmenter
from models.sazs.lowlevel import LowLevelSegmenter


@dataclass(frozen=True)
class Architecture:
    """How a network is built and where its published ImageNet (or DINO) start comes from.

    hub: a timm model name with its tag, the address of a torch file, the name of a backbone whose
    weights come in a package, or "" where there is none.
    """

    build: Callable[[float], nn.Module]
    hub: str


def _vit(
    dim: int, heads: int, depth: int, grid: int, *, freeze: bool = False
) -> Callable[[float], nn.Module]:
    def build(drop_rate: float) -> DPTSegmenter:
        backbone = Backbone(patch=16, dim=dim, depth=depth, heads=heads, grid=grid)
        return DPTSegmenter(backbone, freeze_backbone=freeze)

    return build


def _drn(arch: str) -> Callable[[float], nn.Module]:
    return lambda drop_rate: DRNSegmenter(arch, drop_rate=drop_rate)


def _lite(*, frozen: bool) -> Callable[[float], nn.Module]:
    return lambda drop_rate: LiteSegmenter(drop_rate=drop_rate, frozen=frozen)


# The smaller ViTs keep the published proportion: features leave at half of the 12 blocks.
ARCHITECTURES = {
    "vitl16_384": Architecture(
        _vit(1024, 16, 12, 24), "vit_large_patch16_384.augreg_in21k_ft_in1k"
    ),
    "vits16_384": Architecture(_vit(384, 6, 6, 24), "vit_small_patch16_384.augreg_in21k_ft_in1k"),
    "vitti16_384": Architecture(_vit(192, 3, 6, 24), "vit_tiny_patch16_384.augreg_in21k_ft_in1k"),
    "dino_vits16": Architecture(_vit(384, 6, 12, 14, freeze=True), "vit_small_patch16_224.dino"),
    "drn_d_105": Architecture(_drn("drn_d_105"), "http://dl.yf.io/drn/drn_d_105-12b40979.pth"),
    "drn_d_22": Architecture(_drn("drn_d_22"), "http://dl.yf.io/drn/drn_d_22-4bd2f8ea.pth"),
    "drn_d_22_slim": Architecture(_drn("drn_d_22_slim"), ""),
    "drn_lowlevel8": Architecture(lambda drop_rate: LowLevelSegmenter(drop_rate=drop_rate), ""),
    "lite2": Architecture(_lite(frozen=False), BACKBONE),
    "lite2_frozen": Architecture(_lite(frozen=True), ""),
}


def build(arch: str, *, drop_rate: float = 0.9) -> nn.Module:
    """A network with randomly initialised weights.

    Parameters
    ----------
    arch : str
        A key of `ARCHITECTURES`.
    drop_rate : float in [0, 1)
        Channel dropout of the DRN networks; the ViT networks have none.

    Raises
    ------
    SettingError
        Unknown name; lists the known ones.
    """
    if arch not in ARCHITECTURES:
        raise SettingError(f"arch {arch!r} is not known; choose {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[arch].build(drop_rate)


def load_initial(model: nn.Module, arch: str, source: str | Path = "hub") -> None:
    """Fill the backbone from a published image classifier; the head stays randomly initialised.

    Parameters
    ----------
    model : as made by `build(arch)`
    source : "hub" or path
        "hub" fetches the published file by name (or finds it in the cache of an earlier fetch);
        a path names that file (`.safetensors`, `.pth`).

    Raises
    ------
    WeightsError
        The file is not available, unreadable, or of another architecture.
    """
    entry = ARCHITECTURES[arch]
    if not entry.hub:
        raise WeightsError(
            f"{arch} has no published start; train it from randomly initialised weights"
        )
    weights = _from_hub(entry.hub) if source == "hub" else weight_files.read(source).tensors
    try:
        model.load_backbone(weights)  # type: ignore[operator]
    except (KeyError, RuntimeError) as error:
        raise WeightsError(
            f"{source}: not the ImageNet start of {arch} ({str(error).splitlines()[0]}); "
            f"expected the file published as {entry.hub}"
        ) from error


def _from_hub(name: str) -> Mapping[str, Tensor]:
    if name in CONVOLUTIONAL:
        return weight_files.read(packaged(name, CONVOLUTIONAL[name])).tensors
    try:
        if name.startswith("http"):
            from torch.hub import load_state_dict_from_url

            return load_state_dict_from_url(
                name, map_location="cpu", check_hash=True, weights_only=True, progress=False
            )
        import timm

        return timm.create_model(name, pretrained=True).state_dict()
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"weights {name} could not be fetched ({str(error).splitlines()[0][:120]}). Put the "
            "file on this machine and give its path, or initialise randomly: --init none"
        ) from error


def normalised(images: Tensor) -> Tensor:
    """Pixels to network input: (B, H, W, 3) uint8 RGB -> (B, 3, H, W) float32, same device."""
    pixels = images.permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (pixels - mean) / std


def class_scores(features: Tensor, texts: Tensor) -> Tensor:
    """Inner products of features with text embeddings, (B, N, h, w).

    Parameters
    ----------
    features : Tensor, (B, 512, h, w)
    texts : Tensor, (B, N, 512), or (N, 512) shared by all images
        Row 0 is the background text ("others") where there is one.
    """
    if texts.ndim == 2:
        return einsum("bdhw,nd->bnhw", features, texts)
    return einsum("bdhw,bnd->bnhw", features, texts)


def log_probabilities(features: Tensor, texts: Tensor) -> Tensor:
    """Log-softmax over the N texts of `class_scores`, (B, N, h, w), in float32."""
    return F.log_softmax(class_scores(features, texts).float(), dim=1)
