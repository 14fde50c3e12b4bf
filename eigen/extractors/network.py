"""Base of the extractors that run a pretrained network: weights, pixels, device and precision.

On the CPU the network runs one image at a time. Matrix products of other shapes are summed in
another order, so the last digits of an image's features would depend on its batch, and batches save
no time there. On a GPU a batch is one pass, and an image's features vary with the batch by rounding
(about 1e-6).
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import timm
import torch
from torch.nn import functional

from data.errors import SettingError
from eigen.device import torch_device
from eigen.extractors import weights as weight_files
from eigen.extractors.contract import Size, checked_size, patch_grid, whole_patches
from eigen.extractors.spec import ExtractorSpec, random_seed
from eigen.extractors.zoo import Backbone

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class NetworkExtractor(ABC):
    """Base of extractors on a timm network; see `contract.Extractor`.

    Parameters
    ----------
    spec : ExtractorSpec
    backbone : Backbone
        The network and the facts published with it.
    device : str
        "auto", "cpu", "cuda" or "cuda:N".
    """

    patch: int
    dim: int

    def __init__(self, spec: ExtractorSpec, backbone: Backbone, *, device: str) -> None:
        self.name, self.backbone, self.autocast = spec.name, backbone, spec.autocast
        self._device = torch_device(device)
        self.device = str(self._device)
        seed = random_seed(spec.weights) or 0
        self.network = make_network(spec.name, backbone, seed=seed).eval()
        # Settings before weights: a mistyped setting must not cost a download.
        self._open(spec)
        published: Any = self.network.pretrained_cfg
        self.mean = tuple(backbone.mean or published["mean"])
        self.std = tuple(backbone.std or published["std"])
        self.weights_sha256 = weight_files.load(
            self.network, spec.weights, name=spec.name, backbone=backbone
        )
        self.network.requires_grad_(False).to(self._device)

    @abstractmethod
    def _open(self, spec: ExtractorSpec) -> None:
        """Check the settings against `self.network`; set `patch` and `dim`."""

    @abstractmethod
    def _rows(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels (B, 3, h * patch, w * patch) -> rows (B, h * w, dim) of any length."""

    def grid(self, size: Size) -> Size:
        """Node grid (h, w) of an image of `size` (H, W) pixels."""
        return patch_grid(size, self.patch)

    def config(self) -> dict[str, Any]:
        """Everything that decides the features, except the device, which decides their rounding."""
        return {
            "name": self.name,
            "network": self.backbone.timm,
            "weights_sha256": self.weights_sha256,
            "patch": self.patch,
            "mean": self.mean,
            "std": self.std,
            "autocast": self.autocast,
        }

    def __call__(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Features (B, h*w, dim) float32, unit rows, of B images (H, W, 3) uint8 of one size."""
        return self.features_tensor(images).cpu().numpy()

    def features_tensor(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """The same as a tensor on the extractor's device."""
        checked_size(images)
        with torch.inference_mode(), self._precision():
            pixels = self._normalised(images)
            runs = pixels.split(1) if self._device.type == "cpu" else [pixels]
            features = torch.cat([self._rows(run) for run in runs])
        # Outside: a tensor created in inference mode cannot be changed in place later.
        return functional.normalize(features.float(), dim=-1)

    def _normalised(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """(B, 3, h * patch, w * patch) float32 on the device."""
        stacked = np.stack([whole_patches(image, self.patch) for image in images])
        pixels = torch.from_numpy(stacked).to(self._device).permute(0, 3, 1, 2).contiguous() / 255
        mean, std = (
            torch.tensor(values, device=self._device)[:, None, None]
            for values in (self.mean, self.std)
        )
        return (pixels - mean) / std

    @contextlib.contextmanager
    def _precision(self):
        """Full float32, or autocast where it is configured."""
        with contextlib.ExitStack() as stack:
            if self._device.type == "cuda":
                # PyTorch rounds the factors of float32 convolutions to ten bits by default.
                stack.enter_context(torch.backends.cudnn.flags(enabled=True, allow_tf32=False))
            if self.autocast != "none":
                stack.enter_context(torch.autocast(self._device.type, _AUTOCAST[self.autocast]))
            yield


def make_network(name: str, backbone: Backbone, *, seed: int) -> torch.nn.Module:
    """The network with weights drawn from `seed`; the global generator is left unchanged."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return timm.create_model(backbone.timm, num_classes=0)
        except RuntimeError as error:
            raise SettingError(f"extractor {name}: timm cannot create it: {error}") from error
