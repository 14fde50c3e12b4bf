"""Fill a model with reproducible weights: two implementations compare without any checkpoint.

Every tensor of a state dict is drawn from a generator seeded by its own key, so the values depend
on the key, the shape and `seed` alone: not on the order of the keys, on the framework's version or
on the machine.
"""

import zlib

import numpy as np
import torch


def tensor_for(key: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Values for one tensor.

    key: the state dict's key, in the published layout; shape: the tensor's shape; seed: which draw.
    Returns float32 of that shape: weights N(0, 1/fan_in), 1-d weights 1 + 0.1 N(0, 1), running
    variances exp(0.2 N(0, 1)), anything else (biases, running means, position embeddings, tokens,
    scalars) 0.1 N(0, 1).
    """
    rng = np.random.default_rng([zlib.crc32(key.encode()), seed])
    draw = rng.standard_normal(shape).astype(np.float32)
    name = key.rsplit(".", 1)[-1]
    if name == "running_var":
        return np.exp(0.2 * draw)
    if name.endswith("weight") and draw.ndim >= 2:
        return draw / np.float32(np.sqrt(np.prod(shape[1:])))
    if name.endswith("weight") and draw.ndim == 1:
        return 1 + np.float32(0.1) * draw
    return np.float32(0.1) * draw


def fill(model: torch.nn.Module, seed: int = 0, rename=lambda key: key) -> torch.nn.Module:
    """Overwrite all floating-point entries of `model`'s state dict in place; integer entries stay.

    rename: maps the model's own key to the published key, where the two differ.
    """
    state = model.state_dict()
    for key, value in state.items():
        if value.is_floating_point():
            state[key] = torch.from_numpy(
                np.asarray(tensor_for(rename(key), tuple(value.shape), seed))
            ).to(value.dtype)
    model.load_state_dict(state)
    return model


def image(height: int, width: int, seed: int = 0, batch: int = 1) -> torch.Tensor:
    """A smooth random picture, float32 (batch, 3, height, width), roughly N(0, 1)."""
    rng = np.random.default_rng([seed, height, width])
    coarse = torch.from_numpy(
        rng.standard_normal((batch, 3, max(2, height // 16), max(2, width // 16))).astype(
            np.float32
        )
    )
    smooth = torch.nn.functional.interpolate(
        coarse, size=(height, width), mode="bilinear", align_corners=False
    )
    return smooth + 0.1 * torch.from_numpy(
        rng.standard_normal((batch, 3, height, width)).astype(np.float32)
    )
