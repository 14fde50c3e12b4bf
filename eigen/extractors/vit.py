"""Extractors that run a pretrained vision transformer; see `contract.Extractor`.

On the CPU the network runs one picture at a time. Matrix products of other shapes are summed in
another order, so a picture in a batch of eight would get other last digits than alone, and nothing
is gained by batches there. On a GPU a batch is one pass, and a picture's features vary with the
batch by rounding (about 1e-6).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch.nn import functional

from data.errors import SettingError
from eigen.device import torch_device
from eigen.extractors import weights as weight_files
from eigen.extractors.contract import Size, checked_size, patch_grid, whole_patches
from eigen.extractors.trunk import Trunk
from eigen.extractors.zoo import Backbone

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class ViT:
    """Extractor of one facet of one block of a vision transformer.

    Parameters
    ----------
    name : str
        What the extractor is called.
    backbone : Backbone
        The network and what was published with it.
    weights, facet, block, device, autocast
        See `eigen.extractors.extractor`.
    """

    def __init__(
        self,
        name: str,
        backbone: Backbone,
        *,
        weights: str | Path | None,
        facet: str,
        block: int,
        device: str,
        autocast: str | None,
    ) -> None:
        if autocast is not None and autocast not in AUTOCAST:
            raise SettingError(f"no autocast {autocast!r}; expected {', '.join(AUTOCAST)} or none")
        self.name, self.backbone, self.autocast = name, backbone, autocast
        self.device = torch_device(device)
        network = _network(name, backbone, seed=weight_files.random_seed(weights) or 0)
        # Options before weights: who has mistyped a facet need not download anything to learn it.
        self.trunk = Trunk(network, offset=backbone.offset, facet=facet, block=block)
        self.patch, self.dim = self.trunk.patch, self.trunk.dim
        published: Any = network.pretrained_cfg
        self.mean, self.std = tuple(published["mean"]), tuple(published["std"])
        self.weights_sha256 = weight_files.load(network, weights, name=name, backbone=backbone)
        network.requires_grad_(False).eval().to(self.device)

    def grid(self, size: Size) -> Size:
        """Node grid (h, w) of a picture of `size` (H, W) pixels."""
        return patch_grid(size, self.patch)

    def config(self) -> dict[str, Any]:
        """Everything that decides the numbers but the device, which decides only their rounding."""
        return {
            "name": self.name,
            "network": self.backbone.timm,
            "weights_sha256": self.weights_sha256,
            "facet": self.trunk.facet,
            "block": self.trunk.block,
            "patch": self.patch,
            "mean": self.mean,
            "std": self.std,
            "autocast": self.autocast,
        }

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Features (B, h*w, dim) float32, unit rows, of B pictures (H, W, 3) uint8 of one size."""
        return self.features_tensor(images).cpu().numpy()

    def features_tensor(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """The same as a tensor on the extractor's device."""
        checked_size(images)
        with torch.inference_mode(), self._precision():
            pixels = self._normalised(images)
            runs = pixels.split(1) if self.device.type == "cpu" else [pixels]
            features = torch.cat([self.trunk(run) for run in runs])
        # Outside: what is made in inference mode may not be changed in place later.
        return functional.normalize(features.float(), dim=-1)

    def _normalised(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """(B, 3, h * patch, w * patch) float32 on the device."""
        stacked = np.stack([whole_patches(image, self.patch) for image in images])
        pixels = torch.from_numpy(stacked).to(self.device).permute(0, 3, 1, 2).contiguous() / 255
        mean, std = (
            torch.tensor(values, device=self.device)[:, None, None]
            for values in (self.mean, self.std)
        )
        return (pixels - mean) / std

    @contextlib.contextmanager
    def _precision(self):
        """Full float32, or autocast where it was asked for."""
        with contextlib.ExitStack() as stack:
            if self.device.type == "cuda":
                # PyTorch rounds the factors of float32 convolutions to ten bits by default.
                stack.enter_context(torch.backends.cudnn.flags(enabled=True, allow_tf32=False))
            if self.autocast is not None:
                stack.enter_context(torch.autocast(self.device.type, AUTOCAST[self.autocast]))
            yield


def _network(name: str, backbone: Backbone, *, seed: int) -> torch.nn.Module:
    """The untrained network, drawn from `seed`; the caller's generator is left alone."""
    if not timm.is_model(backbone.timm):
        near = get_close_matches(backbone.timm, timm.list_models(), n=3)
        raise SettingError(
            f"{name}: timm has no {backbone.timm!r}; near: {', '.join(near) or 'none'}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return timm.create_model(backbone.timm, num_classes=0)
        except RuntimeError as error:
            raise SettingError(f"{name}: timm cannot make it: {error}") from error
