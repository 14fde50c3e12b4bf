"""The ImageNet classifiers whose weights come in Python packages: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import timm
import torch
from torch import Tensor

from data.errors import SettingError
from eigen.device import torch_device
from eigen.extractors import weights
from eigen.extractors.zoo import CONVOLUTIONAL, Triple

NAMES = tuple(name for name, backbone in CONVOLUTIONAL.items() if backbone.package)
CLASSES = 1000
MAP_SIDE = 512
"""Longer side of the images of `ImagenetClassifier.maps`: objects are about as large in it as in
the images of 260 pixels that the network was trained with, which objects fill."""


def synsets() -> list[str]:
    """WordNet ids of the 1000 classes, in the order of the classifier's outputs."""
    from timm.data import ImageNetInfo

    return list(ImageNetInfo("imagenet-1k").label_names())


def class_names() -> list[str]:
    """First name of each of the 1000 classes, in the same order."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    return [str(info.label_name_to_description(s)).split(",")[0] for s in info.label_names()]


class ImagenetClassifier:
    """A classifier of ImageNet's 1000 classes, in evaluation mode.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    device : str
        As `eigen.device.torch_device`.

    Attributes
    ----------
    side : int
        Of its input, in pixels.
    mean : tuple of float
        Colour that becomes 0, RGB from 0 to 1.
    weights_sha256 : str
        Of the file of the weights.

    Raises
    ------
    SettingError
        Another name.
    WeightsError
        The package is not installed, or its file is damaged.
    """

    def __init__(self, name: str = "efficientnet_lite2", device: str = "auto") -> None:
        if name not in NAMES:
            raise SettingError(f"classifier: expected one of {', '.join(NAMES)}; found {name!r}")
        backbone = CONVOLUTIONAL[name]
        self.name, self._device = name, torch_device(device)
        network: Any = timm.create_model(backbone.timm, num_classes=CLASSES).eval()
        self.weights_sha256 = weights.load(network, None, name=name, backbone=backbone)
        self._network = network.requires_grad_(False).to(self._device)
        published: Any = network.pretrained_cfg
        self.side = int(published["input_size"][-1])
        self.mean: Triple = backbone.mean or published["mean"]
        self._std: Triple = backbone.std or published["std"]

    def probabilities(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Probability of each class for each image (h, w, 3) uint8 of any size, (B, 1000) float32.

        Images are resized to a square, whatever their aspect ratio. On the CPU they go through the
        network one at a time, so their numbers do not depend on each other.
        """
        if not images:
            return np.zeros((0, CLASSES), np.float32)
        side = (self.side, self.side)
        pixels = self._normalised([_resized(image, side) for image in images])
        runs = pixels.split(1 if self._device.type == "cpu" else 64)
        with torch.inference_mode():
            return torch.cat([self._network(run).softmax(dim=1) for run in runs]).cpu().numpy()

    def maps(self, image: np.ndarray) -> np.ndarray:
        """Probability of each class in each cell of an image, (1000, h, w) float32.

        The network's last map goes through its classifier cell by cell, instead of its mean. The
        image is resized to a longer side of `MAP_SIDE` pixels.

        References
        ----------
        Zhou et al., Learning deep features for discriminative localization, CVPR 2016.
        """
        scale = MAP_SIDE / max(image.shape[:2])
        height, width = (max(1, round(scale * side)) for side in image.shape[:2])
        pixels = self._normalised([_resized(image, (width, height))])
        with torch.inference_mode():
            features = self._network.forward_features(pixels)[0]
            logits = self._network.get_classifier()(features.permute(1, 2, 0))
            return logits.softmax(dim=2).permute(2, 0, 1).cpu().numpy()

    def _normalised(self, images: Sequence[np.ndarray]) -> Tensor:
        """Images (h, w, 3) uint8 of one size as (B, 3, h, w) on the device."""
        pixels = torch.from_numpy(np.stack(images))
        pixels = pixels.to(self._device).permute(0, 3, 1, 2).contiguous() / 255
        mean, std = (
            torch.tensor(values, device=self._device)[:, None, None]
            for values in (self.mean, self._std)
        )
        return (pixels - mean) / std


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    larger = image.shape[0] > size[1] or image.shape[1] > size[0]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if larger else cv2.INTER_LINEAR)
