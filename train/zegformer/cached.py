"""Views of training images whose features are computed once, for a backbone that does not train.

Every image has a fixed number of random views (scale, crop, colours, mirroring), which are those of
the first epochs of a training run without a cache; epoch n uses view n modulo their number. What a
frozen backbone makes of a view is kept in a file: float16, next to the label map.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data import stored_features
from models.zegformer.backbone import STAGES, Backbone
from models.zegformer.network import normalised_batch
from train.sampling import Draw
from train.unread import KEY
from train.zegformer.samples import Samples, Source

log = logging.getLogger(__name__)

_LABEL = "label"
_PROBE = torch.zeros(3, 64, 64, dtype=torch.uint8)


class CachedViews(Source):
    """Draw -> sample as of `Samples`, with "features" in place of "image".

    Parameters
    ----------
    samples : Samples
    backbone : Backbone
        Frozen; on the device on which features are computed.
    views : int
        Of each image.
    folder : Path
        Of the files. Their names tell images, labels, preparation, seed and weights apart, so
        that training runs may share it.
    """

    def __init__(self, samples: Samples, backbone: Backbone, views: int, folder: Path) -> None:
        self.samples, self.backbone, self.views, self.folder = samples, backbone, views, folder
        weights = [backbone.name, backbone.sha256, backbone.channels]
        strides = {name: value.shape for name, value in _features(backbone, _PROBE).items()}
        identity = [samples.augmentation, samples.seed, samples.classes, weights, strides]
        self._identity = repr(identity).encode()
        self._paths: dict[Draw, Path] = {}
        folder.mkdir(parents=True, exist_ok=True)
        log.info("%s: features of %d views of %d images", folder, views, len(samples))

    def __len__(self) -> int:
        return len(self.samples)

    def is_wide(self, item: int) -> bool:
        return self.samples.is_wide(item)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        view = Draw(draw.epoch % self.views, draw.item)
        path, unread = self._path(view), list[Any]()
        tensors = stored_features.read_if_whole(path)
        if tensors is None:
            tensors, unread = self._compute(view)
            if not unread:  # else it is another image's, and every run is to name the unread one
                stored_features.write(path, tensors)
        features = {stage: tensors[stage] for stage in STAGES}
        return {**self.samples.truth(tensors[_LABEL].numpy()), "features": features, KEY: unread}

    def _path(self, view: Draw) -> Path:
        if view not in self._paths:
            pair = self.samples.pairs[view.item]
            digest = hashlib.sha256(self._identity)
            for path in (pair.image, pair.label):
                digest.update(path.read_bytes() if path.is_file() else b"")
            name = f"{pair.id}-{view.epoch}-{digest.hexdigest()[:16]}.safetensors"
            self._paths[view] = self.folder / name
        return self._paths[view]

    def _compute(self, view: Draw) -> tuple[dict[str, Tensor], list[Any]]:
        """Label map and stages of a view, and what could not be read."""
        image, label, unread = self.samples.view(view)
        maps = _features(self.backbone, torch.from_numpy(image.transpose(2, 0, 1).copy()))
        stages = {stage: maps[stage].half().cpu() for stage in STAGES}
        return {_LABEL: torch.from_numpy(np.ascontiguousarray(label)), **stages}, unread


@torch.no_grad()
def _features(backbone: Backbone, image: Tensor) -> dict[str, Tensor]:
    """Features (d, h, w) of one image, (3, H, W) uint8."""
    device = next(backbone.parameters()).device
    return {name: maps[0] for name, maps in backbone(normalised_batch([image.to(device)])).items()}


def stacked(batch: dict[str, Any]) -> tuple[Tensor | dict[str, Tensor], tuple[int, int]]:
    """What the network takes of a batch, and the padded size of its images."""
    if "features" not in batch:
        images = normalised_batch(batch["image"])
        return images, (images.shape[2], images.shape[3])
    features = {
        stage: torch.stack([own[stage] for own in batch["features"]]).float() for stage in STAGES
    }
    height, width = features[STAGES[0]].shape[2:]
    return features, (4 * height, 4 * width)
