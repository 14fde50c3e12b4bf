"""Weights that lightly-train exports after pretraining a timm network on one's own images.

`lightly-train train` and `lightly-train export` write `model.state_dict()` of timm's network, its
classifier included; ViTs are created with `dynamic_img_size`. Its training checkpoint
holds pickled networks next to the weights.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from data.errors import WeightsError
from eigen.extractors import extractor


def exported(folder: Path, name: str) -> tuple[torch.nn.Module, Path]:
    """A network of timm and the file that lightly-train would write of it."""
    torch.manual_seed(3)
    arguments = {"dynamic_img_size": True} if name.startswith("vit") else {}
    network = timm.create_model(name, pretrained=False, **arguments)
    path = folder / "exported_last.pt"
    torch.save(network.state_dict(), path)
    return network.eval(), path


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18", "tf_efficientnet_lite0"])
def test_exported_weights_are_read(tmp_path, name):
    network, path = exported(tmp_path, name)
    made = extractor(f"timm:{name}", weights=str(path), device="cpu")
    state = network.state_dict()
    own = made.network.state_dict()
    assert own and all(torch.equal(own[key], state[key]) for key in own)
    image = np.random.default_rng(0).integers(0, 256, (80, 112, 3), dtype=np.uint8)
    rows = made([image])
    assert rows.shape == (1, 5 * 7, made.dim) and np.isfinite(rows).all()
    other = extractor(f"timm:{name}", weights="random:1", device="cpu")([image])
    assert not np.allclose(rows, other, atol=1e-3)


def test_the_training_checkpoint_is_refused(tmp_path):
    network, _ = exported(tmp_path, "resnet18")
    state = {f"student.{key}": value for key, value in network.state_dict().items()}
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": state, "lightly_train": {"models": {"model": network}}}, path)
    with pytest.raises(WeightsError, match=r"last\.ckpt"):
        extractor("timm:resnet18", weights=str(path), device="cpu")
