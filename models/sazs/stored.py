"""Outputs of a frozen backbone, computed once per image and kept in a folder.

A file is named by the SHA-256 of the weights, the stages, and the size and pixels of the image.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data import stored_features
from models.sazs.lite import STAGES, STRIDE, LiteSegmenter, LiteStages
from models.sazs.networks import normalised


def stored_as(folder: Path, key: str) -> Path:
    """Path of the features under a key."""
    return folder / f"{key}.safetensors"


def read_stages(folder: Path, key: str) -> list[Tensor]:
    """The features under a key, (d, h, w) float16 each.

    Raises
    ------
    WeightsError
        There are none, or the file is damaged or holds those of another key; names it.
    """
    tensors = stored_features.read(stored_as(folder, key))
    return [tensors[name] for name in STAGES]


class StageStore:
    """Outputs of `stages` for images, (d, h, w) float16 each, read from `folder` if stored there.

    Parameters
    ----------
    stages : LiteStages
        Frozen, on the device that computes.
    side : int or None
        Images are squashed to this square first; None keeps their size.
    """

    def __init__(
        self,
        folder: Path,
        stages: LiteStages,
        *,
        side: int | None = None,
    ) -> None:
        self.folder, self.stages, self.side = folder, stages, side
        self.folder.mkdir(parents=True, exist_ok=True)

    def key(self, image: np.ndarray) -> str:
        """What the features of a (H, W, 3) uint8 image are stored under."""
        made_by = [self.stages.sha256, list(STAGES), STRIDE, self.side]
        digest = hashlib.sha256(json.dumps([*made_by, image.shape]).encode())
        digest.update(np.ascontiguousarray(image).data)
        return digest.hexdigest()

    def add(self, image: np.ndarray) -> str:
        """Store the features of an image if they are missing; return their key."""
        key = self.key(image)
        path = stored_as(self.folder, key)
        if stored_features.read_if_whole(path) is None:
            stored_features.write(path, dict(zip(STAGES, self._computed(image), strict=True)))
        return key

    def __call__(self, image: np.ndarray) -> list[Tensor]:
        """The features of a (H, W, 3) uint8 image, from now on stored."""
        return read_stages(self.folder, self.add(image))

    @torch.inference_mode()
    def _computed(self, image: np.ndarray) -> list[Tensor]:
        device = next(self.stages.parameters()).device
        pixels = normalised(torch.from_numpy(np.ascontiguousarray(image))[None].to(device))
        if self.side is not None:
            size = (self.side, self.side)
            pixels = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False)
        return [stage[0].half().cpu() for stage in self.stages(pixels)]


def open_store(model: nn.Module, folder: Path, *, side: int | None) -> StageStore | None:
    """Where the features of a network's frozen backbone are kept; None if nothing is frozen."""
    if not isinstance(model, LiteSegmenter) or not model.stages.frozen:
        return None
    return StageStore(folder, model.stages, side=side)
